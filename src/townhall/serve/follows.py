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


class Follows:
    """Cursors by name. ``pull`` is called after each wake-up; it must gather them."""

    __slots__ = ("_hub", "_pull", "_tickets", "_woken")

    def __init__(self, hub: Hub, pull: Callable[[], None]) -> None:
        self._hub = hub
        self._pull = pull
        self._tickets: dict[object, Ticket] = {}
        self._woken: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, follow: Follow) -> None:
        """Watch one more thing, instead of what has its name. Raises OverLimit."""
        self.remove(follow.name)
        note, since, woken, pull = follow.wake, follow.since, self._woken, self._pull
        space = follow.interest.space if isinstance(follow.interest, KeyRange) else ""

        def wake() -> None:
            woken.append(ticket)
            if since is None:
                note()
            else:
                since(ticket.since.get(space, 0))
            pull()

        ticket = self._hub.watch((follow.interest,), wake)
        self._tickets[follow.name] = ticket

    def remove(self, name: object) -> None:
        """Watch it no longer."""
        ticket = self._tickets.pop(name, None)
        if ticket is not None:
            ticket.cancel()

    def arm(self) -> None:
        """What was woken may be woken again."""
        woken = self._woken.copy()
        self._woken.clear()
        for ticket in woken:
            ticket.arm()

    def clear(self) -> None:
        """Watch nothing any more."""
        for ticket in self._tickets.values():
            ticket.cancel()
        self._tickets.clear()
        self._woken.clear()
