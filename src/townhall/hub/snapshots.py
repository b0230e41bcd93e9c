"""When to write a snapshot, who writes it, and how much journal stays behind it.

The hub only decides *when*; a ``Compactor`` does the work. ``InlineCompactor`` dumps the hub's own state a few chunks
per turn of the loop, which holds the encoded snapshot in memory for a while; another one may have a separate process
read the journal by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from townhall.core.codec import dump_state
from townhall.model import limits

if TYPE_CHECKING:
    from townhall.core.state import State
    from townhall.engine import Engine

__all__ = ["LAST_TIME_MAX_S", "Compactor", "InlineCompactor", "Snapshots"]

_log = logging.getLogger(__name__)

HISTORY_COMMITS_KEPT: Final = 10_000
"""Entries kept before a snapshot: followers that lag a little need not load a snapshot."""
CHUNKS_PER_TURN: Final = 4
"""Chunks that are encoded before others get their turn: about 4 ms."""
LAST_COMMITS_MIN: Final = 5_000
"""A clean stop with fewer commits behind the snapshot writes none: replaying them takes less than 0.1 s."""
LAST_TIME_MAX_S: Final = 2.0
"""A stop that has dumped for so long gives its snapshot up; the next start replays the journal instead."""
RETRY_COMMITS: Final = 10_000
"""After a failed snapshot: commits until the next attempt."""


class Compactor(Protocol):
    """Writes snapshots."""

    async def compact(self) -> int:
        """Save a snapshot of a durable position and return that position.

        Raises any exception when it cannot; nothing is lost then, the journal only grows on. Cancelling it leaves
        the earlier snapshot in place.
        """
        ...


Offload = Callable[[Callable[[], None]], Awaitable[None]]


class InlineCompactor:
    """Dumps the state in this process, ``CHUNKS_PER_TURN`` at a time; writing it goes through ``offload``."""

    __slots__ = ("_engine", "_offload", "_state", "_within_s")

    def __init__(
        self,
        engine: Engine,
        state: State,
        *,
        offload: Offload = asyncio.to_thread,
        within_s: float = float("inf"),
    ) -> None:
        """``offload`` runs a blocking call somewhere; the simulation runs it in place.

        ``within_s``: ``compact`` raises TimeoutError when the dump alone takes longer.
        """
        self._engine = engine
        self._state = state
        self._offload = offload
        self._within_s = within_s

    async def compact(self) -> int:
        """See ``Compactor``."""
        position = self._state.position
        drawn = dump_state(self._state)  # It goes on showing this position, whatever is committed meanwhile.
        chunks: list[bytes] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + self._within_s
        while more := list(islice(drawn, CHUNKS_PER_TURN)):
            chunks += more
            if loop.time() > end:
                raise TimeoutError(f"the snapshot took longer than {self._within_s} s")
            await asyncio.sleep(0)
        await self._offload(lambda: self._engine.save(position, chunks))
        return position


class Snapshots:
    """The policy. ``note`` counts; when enough has come together it starts one compaction at a time."""

    __slots__ = (
        "_commits",
        "_commits_max",
        "_compactor",
        "_engine",
        "_size",
        "_size_max",
        "_task",
        "failures",
        "position",
        "saved",
    )

    def __init__(
        self,
        *,
        engine: Engine,
        compactor: Compactor,
        position: int,
        commits_max: int = limits.SNAPSHOT_EVERY_COMMITS,
        size_max: int = limits.SNAPSHOT_EVERY_SIZE,
    ) -> None:
        """``position`` is that of the snapshot there is."""
        self._engine = engine
        self._compactor = compactor
        self._commits_max = commits_max
        self._size_max = size_max
        self._commits = 0
        self._size = 0
        self._task: asyncio.Task[None] | None = None
        self.position = position
        self.saved = 0
        self.failures = 0

    @property
    def busy(self) -> bool:
        """A snapshot is being written."""
        return self._task is not None and not self._task.done()

    def note(self, commits: int, size: int) -> None:
        """Count what was committed, and begin a snapshot when it is time."""
        self._commits += commits
        self._size += size
        if (self._commits >= self._commits_max or self._size >= self._size_max) and not self.busy:
            self._commits = self._size = 0
            self._task = asyncio.get_running_loop().create_task(self.save(), name="hub snapshot")

    async def save(self) -> None:
        """Write a snapshot now and trim the journal behind it. A failure is logged and counted; nothing is lost."""
        try:
            position = await self._compactor.compact()
            self.position = max(self.position, position)
            if position > HISTORY_COMMITS_KEPT:
                self._engine.trim(position - HISTORY_COMMITS_KEPT)
        except Exception:
            self.failures += 1
            self._commits = max(self._commits, self._commits_max - RETRY_COMMITS)
            _log.exception("writing a snapshot failed; the journal grows on")
        else:
            self.saved += 1
            _log.info("snapshot saved at position %d", position)

    async def finish(self, last: Compactor) -> None:
        """At a clean stop: have ``last`` write a snapshot when enough was committed since the one there is.

        ``last`` raises TimeoutError when that is too slow; a failure is logged; nothing is lost either way, the next start takes longer.
        """
        await self.stop()
        if self._engine.tail() - self.position < LAST_COMMITS_MIN:
            return
        try:
            self.position = await last.compact()
        except TimeoutError:
            _log.info("no snapshot at this stop, it would take too long; the next start replays the journal")
        except Exception:
            self.failures += 1
            _log.exception("writing the last snapshot failed; the next start replays the journal")
        else:
            self.saved += 1

    async def stop(self) -> None:
        """Give up a snapshot that is being written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
