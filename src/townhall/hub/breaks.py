"""Broken connections, gathered: those that break in one turn of the loop become one commit.

A provider's machine or its network takes many sessions with it at once, and what a break does to one service depends
on the others (the removal floor), so each would be decided alone. Together they are one command and one sync.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from townhall.core.commands import SetConnection
from townhall.model import limits

if TYPE_CHECKING:
    import asyncio

    from townhall.core import Outcome
    from townhall.hub import Done
    from townhall.model.errors import TownhallError

__all__ = ["Breaks"]


class Breaks:
    """What broke in this turn. ``flush`` must come before anything that may undo a break, so that order is kept."""

    __slots__ = ("_done", "_leases", "_loop", "_submit")

    def __init__(self, loop: asyncio.AbstractEventLoop, submit: Callable[[SetConnection, Done], None]) -> None:
        self._loop = loop
        self._submit = submit
        self._leases: dict[int, None] = {}
        self._done: list[Done] = []

    def add(self, command: SetConnection, done: Done) -> None:
        """Gather one; ``done`` is told what became of all of them."""
        if not self._done:
            self._loop.call_soon(self.flush)
        self._leases.update(dict.fromkeys(command.leases))
        self._done.append(done)

    def flush(self) -> None:
        """Submit what was gathered; nothing when that is nothing."""
        leases, waiting = tuple(self._leases), self._done
        self._leases, self._done = {}, []
        for start in range(0, len(leases), limits.BATCH_COUNT_MAX):
            last = start + limits.BATCH_COUNT_MAX >= len(leases)
            done = _told(waiting) if last else _told([])
            self._submit(SetConnection(leases=leases[start : start + limits.BATCH_COUNT_MAX], up=False), done)


def _told(waiting: list[Done]) -> Done:
    def done(result: Outcome | TownhallError) -> None:
        for each in waiting:
            each(result)

    return done
