"""The file engine: the durable default. One data directory, written by one process.

Writing happens in one thread of its own (``scribe``), one group after the other: write, ``fdatasync``, publish, and back
to the event loop. What arrives meanwhile is the hub's next group. The directory is described in ``directory``, its files in
``segment`` and ``recordfile``, what happens when things break in ``journal`` and in the README.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from townhall.engine import Entry, Opened
from townhall.engine.directory import DataDirectory
from townhall.engine.disk import Disk, DiskLock, PosixDisk
from townhall.engine.journal import Journal
from townhall.engine.scribe import Scribe
from townhall.engine.snapshots import newest_snapshot, read_snapshot, write_snapshot
from townhall.model.errors import Conflict, EngineFailed
from townhall.model.limits import SEGMENT_SIZE

__all__ = ["FileEngine"]


class FileEngine:
    """See ``Engine``. ``read_only`` opens beside the process that writes, takes no lock and refuses ``append``.

    A read-only engine sees what was durable when it was opened; ``save`` works on it, so that a process of its own can
    compact (open, replay, save) without disturbing the writer, which then calls ``trim``.
    """

    def __init__(
        self, directory: Path, *, read_only: bool = False, disk: Disk | None = None, segment_size: int = SEGMENT_SIZE
    ) -> None:
        self.directory = directory
        self._read_only = read_only
        self._disk: Disk = disk or PosixDisk()
        self._home = DataDirectory(self._disk, directory)
        self._segment_size = segment_size
        self._journal = Journal(self._disk, self._home.journal, segment_size=segment_size)
        self._lock: DiskLock | None = None
        self._writer: Scribe[[Sequence[bytes], int], int] | None = None
        self._snapshot = 0
        self._is_open = False

    @property
    def torn_size(self) -> int:
        """Bytes of an unfinished write that the last ``open`` dropped; worth a line in the log when above 0."""
        return self._journal.torn_size

    def open(self) -> Opened:
        """See ``Engine.open``."""
        assert not self._is_open
        journal = self._journal = Journal(self._disk, self._home.journal, segment_size=self._segment_size)
        try:
            if self._read_only:
                self._home.enter_read_only()
            else:
                self._lock = self._home.lock()
                self._home.enter()
            snapshot = self._snapshot = newest_snapshot(self._disk, self._home.snapshots)
            journal.load(snapshot, read_only=self._read_only)
        except BaseException:
            self._release()
            raise
        if not self._read_only:
            self._writer = Scribe(self._journal.append, "townhall-journal")
        self._is_open = True
        return Opened(snapshot, journal.view.tail)

    def snapshot(self) -> Iterator[bytes]:
        """See ``Engine.snapshot``: the one that ``open`` found, or that was given to ``save`` here since.

        Raises ``Compacted`` when another process has replaced it: open again, so that it fits what is followed.
        """
        return read_snapshot(self._disk, self._home.snapshots, self._snapshot)

    def follow(self, after: int) -> Iterator[Entry]:
        """See ``Engine.follow``; ends at what was durable at the call. Raises ``Damaged`` where bytes have changed."""
        return self._journal.follow(after)

    async def append(self, blobs: Sequence[bytes], expect: int) -> int:
        """See ``Engine.append``."""
        if self._writer is None:
            raise EngineFailed("the journal is not open for writing", advice="open it first, and not read-only")
        return await self._writer.call(blobs, expect)

    def tail(self) -> int:
        """See ``Engine.tail``."""
        return self._journal.view.tail

    def save(self, position: int, chunks: Iterable[bytes]) -> None:
        """See ``Engine.save``. Position 0 has no snapshot."""
        assert position > 0
        if position > self.tail():
            raise Conflict(f"a snapshot of position {position} is ahead of the journal", tail=self.tail())
        write_snapshot(self._disk, self._home.snapshots, position, chunks)
        self._snapshot = position

    def trim(self, upto: int) -> None:
        """See ``Engine.trim``; whole segments only, so some of those entries may stay readable."""
        if self._read_only:
            raise EngineFailed("a journal opened read-only cannot be trimmed", advice="the process that writes does it")
        snapshot = newest_snapshot(self._disk, self._home.snapshots)
        if upto > snapshot:
            raise Conflict(f"position {upto} is not covered by the snapshot of {snapshot}", snapshot=snapshot)
        self._journal.trim(upto)

    def close(self) -> None:
        """See ``Engine.close``; waits for a group that is being written."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        self._journal.close()
        self._release()
        self._is_open = False

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
