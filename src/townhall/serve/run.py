"""An answer that takes time: what the connection and the driver know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from townhall.face import Reply
from townhall.serve.wheel import Timed

if TYPE_CHECKING:
    from townhall.core.queries import Reader
    from townhall.face import Request
    from townhall.serve.driver import Driver
    from townhall.serve.heads import Plan
    from townhall.serve.http1 import Connection

__all__ = ["Refusal", "Run"]


class Refusal(Reply, frozen=True):
    """A reply that stands for an exception. Where the head is sent already, the connection is cut instead."""


class Run(Timed):
    """One request whose answer is not complete yet; at most one per connection (HTTP/1.1 answers in order).

    The connection calls ``lost`` once when the peer is gone, unless the run has finished before.
    """

    __slots__ = ("driver", "peer", "plan", "request")

    patient: ClassVar[bool] = False
    """The answer comes soon by itself, so a peer that has closed its sending side still gets it."""

    def __init__(self, driver: Driver, peer: Connection, plan: Plan, request: Request) -> None:
        super().__init__()
        self.driver = driver
        self.peer = peer
        self.plan = plan
        self.request = request

    @property
    def hungry(self) -> bool:
        """Whether it takes more of the request's body now."""
        return False

    def reader(self) -> Reader:
        """The present state, for the same credentials. Raises Unauthenticated when they have expired meanwhile."""
        return self.driver.reader(self.plan, self.peer)

    def lost(self) -> None:
        """The peer is gone."""

    def writable(self) -> None:
        """The kernel has taken everything that was sent."""

    def leave(self) -> None:
        """The server is shutting down: come to an end."""

    def received(self, data: bytes) -> None:
        """A part of the request's body."""

    def input_ended(self) -> None:
        """The request's body has come to its proper end."""

    def expired(self) -> None:
        """Its own deadline, if it has one."""
