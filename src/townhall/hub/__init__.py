"""The hub: the single writer, cursors, expiry and the clock around the pure core.

One asyncio task takes commands, decides those whose footprints do not meet, appends them to the engine as one group,
evolves the state, answers the writers, and then wakes the cursors that are concerned, in slices. Soft state (lease
deadlines, subscribers, callers' reports) lives here and never enters the journal.

Footprints of one group are collected in a ``core.claims.Claims`` (``admit(footprint)`` says whether a command may
join), and a ``Decision.result`` that is ``core.Unsettled`` is settled with the changes of its own commit
(``result.settle(changes)``) before it is handed out in an ``Outcome``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from townhall.core import Command, Interest, Outcome
from townhall.core.live import Live, Subscriber
from townhall.core.queries import Reader
from townhall.model.access import Actor
from townhall.model.errors import TownhallError
from townhall.model.instance import Instance

__all__ = ["Clock", "Done", "Hub", "Observer", "Signer", "Subscription", "Ticket"]

Done = Callable[[Outcome | TownhallError], None]


class Clock(Protocol):
    """Time for the hub; the simulation has its own."""

    def now_ms(self) -> int:
        """Unix milliseconds; follows the wall clock but never goes backwards and never jumps ahead of a pause."""
        ...

    def monotonic_ms(self) -> int:
        """For deadlines."""
        ...

    def not_before(self, time_ms: int) -> None:
        """``now_ms`` never reads less than this again: the time of the last commit that a recovery found."""
        ...


class Ticket(Protocol):
    """An armed cursor."""

    since: Mapping[str, int]
    """Space → a revision: what woke it lies there or above, and nothing that concerns it since the wake-up before."""

    def arm(self) -> None:
        """Ask for one more wake-up. A change since the last look wakes at once, so nothing is missed."""
        ...

    def cancel(self) -> None:
        """No more wake-ups; idempotent."""
        ...


class Subscription(Protocol):
    """A row in the table of subscribers."""

    def sent(self, revisions: Mapping[tuple[str, str, str], int]) -> None:
        """The kernel took bytes that bring the peer to these revisions."""
        ...

    def close(self) -> None:
        """It is gone; idempotent."""
        ...


class Hub(Protocol):
    """What ``serve`` needs. All methods are called on the event loop's thread and return at once."""

    live: Live

    def submit(self, command: Command, actor: Actor, done: Done) -> None:
        """Decide and make durable; ``done`` is called once, later, never from within this call.

        Errors: what ``decide`` refuses with, OverLimit when too many commands wait, EngineFull, EngineFailed,
        OutcomeUnknown, Stopping.
        """
        ...

    def reader(self, actor: Actor) -> Reader:
        """A view of the current, durable state; use it before control returns to the loop."""
        ...

    def authenticate(self, secret: str, address: str, certified: tuple[str, str] = ("", "")) -> Actor:
        """Who this is. Raises Unauthenticated for an unknown or expired secret; '' is the anonymous actor.

        ``certified``: a guarded space and the name of its user whom a verified certificate names; good without secret.
        """
        ...

    def watch(self, interests: Sequence[Interest], wake: Callable[[], None]) -> Ticket:
        """A cursor, armed. ``wake`` is called from the loop, at most once per arming. Raises OverLimit."""
        ...

    def subscribe(self, subscriber: Subscriber, services: Sequence[tuple[str, str, str]]) -> Subscription:
        """Enter a watcher into the table of subscribers."""
        ...


class Signer(Protocol):
    """Signs the tokens of one space's users, instead of those that are kept in memory."""

    def sign(self, user: str, revision: int) -> str:
        """A token. Raises Unavailable when this registry can only read them."""
        ...

    def read(self, token: str) -> tuple[str, int] | None:
        """Whose it is, and the guard's revision at which it was signed; None when it is not valid."""
        ...


class Observer(Protocol):
    """Who follows checks and registrations beside the cursors: active probes. Called from the writer, so it must
    return at once and raise nothing.
    """

    def checks_changed(self, names: Collection[tuple[str, str]]) -> None:
        """These checks (node, id) were put, changed or deleted; the state has them already."""
        ...

    def registered(self, instance: Instance) -> None:
        """A new incarnation was registered."""
        ...

    def counts(self) -> Mapping[str, object]:
        """Counts and gauges for ``status``."""
        ...
