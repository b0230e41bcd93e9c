"""The many things that one duplex call watches: a cursor each, one pull for all of them.

A cursor that was woken is armed again only after the pull, so that while a peer does not read, changes cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from townhall.core import KeyRange

if TYPE_CHECKING:
    from townhall.face import Follow
    from townhall.hub import Hub, Ticket

__all__ = ["Follows"]


class _Following:
    """One cursor, and what is told when it is woken."""

    __slots__ = ("_follows", "_note", "_since", "_space", "ticket")

    ticket: Ticket

    def __init__(self, follows: Follows, follow: Follow) -> None:
        self._follows = follows
        self._since = follow.since
        self._note = follow.wake if follow.since is None else None
        self._space = follow.interest.space if isinstance(follow.interest, KeyRange) else ""

    def wake(self) -> None:
        ticket, follows = self.ticket, self._follows
        follows.woken.append(ticket)
        if self._since is not None:
            self._since(ticket.since.get(self._space, 0))
        elif self._note is not None:
            self._note()
        follows.pull()


class Follows:
    """Cursors by name. ``pull`` is called after each wake-up; it must gather them."""

    __slots__ = ("_hub", "_tickets", "pull", "woken")

    def __init__(self, hub: Hub, pull: Callable[[], None]) -> None:
        self._hub = hub
        self.pull = pull
        self._tickets: dict[object, Ticket] = {}
        self.woken: list[Ticket] = []
        """To be armed again."""

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, follow: Follow) -> None:
        """Watch one more thing, instead of what has its name. Raises OverLimit."""
        self.remove(follow.name)
        following = _Following(self, follow)
        self._tickets[follow.name] = following.ticket = self._hub.watch((follow.interest,), following.wake)

    def remove(self, name: object) -> None:
        """Watch it no longer."""
        ticket = self._tickets.pop(name, None)
        if ticket is not None:
            ticket.cancel()

    def arm(self) -> None:
        """What was woken may be woken again."""
        # Nobody is woken from within ``arm``.
        for ticket in self.woken:
            ticket.arm()
        self.woken.clear()

    def clear(self) -> None:
        """Watch nothing any more."""
        for ticket in self._tickets.values():
            ticket.cancel()
        self._tickets.clear()
        self.woken.clear()
