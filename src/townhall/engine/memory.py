"""The memory engine: the reference for the contract, for ``--dev`` and for the simulator. Nothing outlives the process.

``close`` keeps what was appended, so that ``open`` on the same object shows it again, as a disk would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from townhall.engine import Entry, Opened
from townhall.model.errors import Compacted, Conflict, EngineFailed, TooLarge
from townhall.model.limits import GROUP_SIZE_MAX

__all__ = ["MemoryEngine"]


class MemoryEngine:
    """See ``Engine``; it neither locks nor fails, and ``trim`` forgets exactly what it is told to."""

    def __init__(self) -> None:
        self._blobs: list[bytes] = []
        self._trimmed = 0
        self._snapshot_position = 0
        self._chunks: tuple[bytes, ...] = ()
        self._is_open = False

    def open(self) -> Opened:
        """See ``Engine.open``."""
        assert not self._is_open
        self._is_open = True
        return Opened(self._snapshot_position, self.tail())

    def snapshot(self) -> Iterator[bytes]:
        """See ``Engine.snapshot``."""
        return iter(self._chunks)

    def follow(self, after: int) -> Iterator[Entry]:
        """See ``Engine.follow``; ends at the tail of the moment of the call."""
        if after < self._trimmed:
            raise self._compacted()
        return self._entries(after, self.tail())

    async def append(self, blobs: Sequence[bytes], expect: int) -> int:
        """See ``Engine.append``."""
        if not self._is_open:
            raise EngineFailed("the journal is not open for writing", advice="open it first")
        if expect != self.tail():
            raise Conflict(f"the journal is at position {self.tail()}, not {expect}", tail=self.tail())
        size = sum(map(len, blobs))
        if size > GROUP_SIZE_MAX:
            raise TooLarge(f"a group of {size} bytes is above the limit of {GROUP_SIZE_MAX}", limit=GROUP_SIZE_MAX)
        self._blobs.extend(blobs)
        tail = self.tail()
        # Others get their turn, as they do while a disk is written.
        await asyncio.sleep(0)
        return tail

    def tail(self) -> int:
        """See ``Engine.tail``."""
        return self._trimmed + len(self._blobs)

    def save(self, position: int, chunks: Iterable[bytes]) -> None:
        """See ``Engine.save``. Position 0 has no snapshot."""
        assert position > 0
        if position > self.tail():
            raise Conflict(f"a snapshot of position {position} is ahead of the journal", tail=self.tail())
        taken = tuple(chunks)
        if position < self._snapshot_position:
            raise Conflict(
                f"a snapshot of position {self._snapshot_position} is newer than {position}",
                snapshot=self._snapshot_position,
            )
        self._snapshot_position, self._chunks = position, taken

    def trim(self, upto: int) -> None:
        """See ``Engine.trim``."""
        if upto > self._snapshot_position:
            raise Conflict(
                f"position {upto} is not covered by the snapshot of {self._snapshot_position}",
                snapshot=self._snapshot_position,
            )
        count = upto - self._trimmed
        if count > 0:
            del self._blobs[:count]
            self._trimmed = upto

    def close(self) -> None:
        """See ``Engine.close``."""
        self._is_open = False

    def _entries(self, after: int, tail: int) -> Iterator[Entry]:
        for position in range(after + 1, tail + 1):
            index = position - 1 - self._trimmed
            if index < 0:
                raise self._compacted()
            yield Entry(position, self._blobs[index])

    def _compacted(self) -> Compacted:
        oldest = self._trimmed + 1
        return Compacted(f"positions before {oldest} were trimmed", oldest=oldest)
