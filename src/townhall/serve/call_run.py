"""A call that takes time: what its connection and the driver of calls know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from townhall.face import Reply
from townhall.face.grpc import Code
from townhall.model.errors import Stopping
from townhall.serve.wheel import Timed

if TYPE_CHECKING:
    from townhall.core.queries import Reader
    from townhall.face.grpc import Call
    from townhall.serve.calls import CallDriver
    from townhall.serve.grpc_plans import CallPlan
    from townhall.serve.http2 import Http2Peer
    from townhall.wire.http2.outbox import Stream as Exchange

__all__ = ["CallRun"]


class CallRun(Timed):
    """One call whose answer is not complete yet; its exchange's ``owner`` until it is.

    ``lost`` is called once when nobody waits for the answer any more, unless the run has finished before.
    """

    __slots__ = ("call", "driver", "exchange", "limit", "peer", "plan")

    patient: ClassVar[bool] = False
    """The answer comes soon by itself, so a server that shuts down waits for it."""

    def __init__(self, driver: CallDriver, peer: Http2Peer, exchange: Exchange, plan: CallPlan, call: Call) -> None:
        self.due = self.slot = 0
        self.driver = driver
        self.peer = peer
        self.exchange = exchange
        self.plan = plan
        self.call = call
        self.limit = exchange.due
        """The tick of the call's own deadline; 0 for none."""

    def take(self) -> None:
        """Wait on the exchange from now on."""
        self.exchange.owner = self
        if self.limit:
            self.driver.wheel.arm_at(self, self.limit)

    def reader(self) -> Reader:
        """The present state, for the same credentials. Raises Unauthenticated when they have expired meanwhile."""
        return self.driver.reader(self.plan, self.peer)

    def wait(self, delay_ms: int) -> None:
        """Be called after a delay, or at the call's deadline."""
        due = self.driver.wheel.tick + self.driver.wheel.ticks(delay_ms)
        self.driver.wheel.arm_at(self, min(due, self.limit) if self.limit else due)

    def expired(self) -> None:
        if self.limit and self.driver.wheel.tick >= self.limit:
            self.lost()
            self.driver.refuse(self.peer, self.exchange, Reply(Code.DEADLINE_EXCEEDED, b"context deadline exceeded"))
        else:
            self.waited()

    def leave(self) -> None:
        """The server is shutting down: come to an end."""
        self.lost()
        stopping = Stopping("the server is shutting down", advice="try another one")
        self.driver.refuse(self.peer, self.exchange, self.driver.refusal(stopping, self.call))

    def waited(self) -> None:
        """The delay has passed."""

    def lost(self) -> None:
        """Nobody waits for the answer any more; idempotent."""

    def writable(self) -> None:
        """The peer's windows have taken everything that was sent."""

    def answering(self) -> Callable[[bytes], bytes | None] | None:
        """See ``wire.http2.Sink``."""
        return None

    def received(self, data: bytes, ended: bool) -> None:
        """A part of the request of a duplex call."""
