"""Soft state that faces may ask for beside the Reader: deadlines, callers' reports, subscribers. Kept by the hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from townhall.core import Interest, View
from townhall.core.state import Lease
from townhall.model.errors import TownhallError

__all__ = ["Live", "Subscriber", "Work"]


class Work(msgspec.Struct, eq=False):
    """A slow computation beside the loop. A face parks on ``interest`` until it is ``done``."""

    interest: Interest
    done: bool = False
    unwanted: bool = False
    """Set by who asked when nobody waits for it any more: it is not begun then."""
    result: Any = None
    error: TownhallError | None = None


class Live(Protocol):
    """Soft state of the hub that handlers may ask for, beside the Reader. Nothing here blocks."""

    def renew(self, leases: Sequence[int]) -> list[int]:
        """Extend the deadlines of these leases by their TTL; returns the ones that do not exist any more."""
        ...

    def renew_one(self, lease: int) -> bool:
        """The same for one; False when it does not exist any more."""
        ...

    def renewing(self) -> Callable[[Lease], bool]:
        """``renew_one`` for one turn, with one look at the clock. False, which has had no effect, where a lease is late:
        then ``renew_one`` must be asked.
        """
        ...

    def now_ms(self) -> int:
        """Unix milliseconds by the hub's clock; what deadlines are compared with."""
        ...

    def deadline(self, lease: int) -> int | None:
        """Unix milliseconds at which a lease lapses unless it is renewed; None when unknown."""
        ...

    def check_heartbeat(self, node: str, id: str) -> bool:  # noqa: A002 - the catalogue's word
        """The process behind a TTL check gave a sign of life: its deadline moves. False when it is no TTL check, or
        none that stands. A heartbeat that changes the status or the output needs a ``SetCheck`` as well, which moves
        the deadline by itself.
        """
        ...

    def report(self, reporter: str, target: tuple[str, str, str, str], kind: str, count: int) -> bool:
        """Count failed calls to an instance (namespace, group, service, id); True when the instance is known."""
        ...

    def subscribers(self, namespace: str, group: str, service: str) -> Sequence[Subscriber]:
        """Who watches a service now, with the revision that each has been sent and has acknowledged."""
        ...

    def acknowledge(self, subscriber: str, revisions: Mapping[tuple[str, str, str], int]) -> bool:
        """A subscriber has applied these services up to these revisions; False when it is not known."""
        ...

    def view(self, interests: Sequence[Interest]) -> View:
        """A validity token for a rendered answer: it goes stale with the first change in the interests."""
        ...

    def work(self, function: Callable[[], Any], asker: str) -> Work:
        """Begin to compute a pure function of its own arguments in a thread. Raises OverLimit.

        ``asker`` is the peer, ``host:port``: addresses take turns. Its ``error`` is OverLimit when it had to give way.
        """
        ...

    def hash_password(self, password: str, asker: str) -> Work:
        """Begin to make what is stored of a password. Raises OverLimit."""
        ...

    def check_password(self, password: str, stored: bytes, asker: str) -> Work:
        """Begin to compare a password with a stored hash; the result is a bool. Raises OverLimit.

        One that was found right lately is found so at once.
        """
        ...

    def recognises(self, secret: str) -> bool:
        """Whether this is the secret of one of the registry's own tokens that is valid now."""
        ...

    def login(self, space: str, user: str) -> str:
        """A token for a user of a guarded space who has been recognised: ``<random>.<position>``, or a signed one. It ends when it is not
        used for long, and at once when the user's password is changed, the user deleted or the guard switched off.
        """
        ...

    def status(self) -> Mapping[str, object]:
        """Counts and gauges for ``status`` and metrics: see ``hub.status``."""
        ...


class Subscriber(msgspec.Struct, gc=False):
    """One watcher of one service."""

    id: str
    name: str
    """What it calls itself (the SDK: application, host and process id)."""
    address: str
    protocol: str
    since: int
    """When it came, Unix milliseconds."""
    sent: int = 0
    """Service revision of the last thing written to its socket and taken by the kernel."""
    acked: int = 0
    """Revision it said it has applied; follows ``sent`` when it cannot say so (``explicit`` is False)."""
    explicit: bool = False
