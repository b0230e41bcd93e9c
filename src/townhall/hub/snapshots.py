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

__all__ = ["Compactor", "InlineCompactor", "Snapshots"]

_log = logging.getLogger(__name__)

HISTORY_COMMITS_KEPT: Final = 10_000
"""Entries kept before a snapshot: followers that lag a little need not load a snapshot."""
CHUNKS_PER_TURN: Final = 4
"""Chunks that are encoded before others get their turn: about 2 ms."""
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

    __slots__ = ("_engine", "_offload", "_state")

    def __init__(self, engine: Engine, state: State, *, offload: Offload = asyncio.to_thread) -> None:
        """``offload`` runs a blocking call somewhere; the simulation runs it in place."""
        self._engine = engine
        self._state = state
        self._offload = offload

    async def compact(self) -> int:
        """See ``Compactor``."""
        position = self._state.position
        drawn = dump_state(self._state)  # It goes on showing this position, whatever is committed meanwhile.
        chunks: list[bytes] = []
        while more := list(islice(drawn, CHUNKS_PER_TURN)):
            chunks += more
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

    async def stop(self) -> None:
        """Give up a snapshot that is being written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
