"""A record file: checksummed records written once, as a whole. Snapshots and backups are record files.

::

    file   = magic[8] record* end
    record = kind[4] length[4] crc[4] data[length]
    end    = 0[4] 0[4] crc[4]

``crc`` runs on from the magic over all kinds, lengths and data so far, so that a record that is missing, doubled or
out of place is noticed as surely as one whose bytes changed. The file appears under its name only when it is complete
and durable: it is written under a temporary name, synced, renamed, and the directory synced.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from zlib import crc32

from townhall.engine.disk import Disk, DiskFile, failure, write_all
from townhall.model.errors import Damaged
from townhall.model.limits import REPLAY_BLOCK_SIZE, SNAPSHOT_SYNC_SIZE

__all__ = ["TEMPORARY_SUFFIX", "RecordWriter", "read_records"]

TEMPORARY_SUFFIX = ".tmp"
_RECORD = struct.Struct("<III")
_RECORD_SIZE = _RECORD.size
_LEAD = struct.Struct("<II")
_numbers = itertools.count(1)


class RecordWriter:
    """Writes one record file; a context manager that leaves nothing behind unless ``finish`` was called.

    Every method raises ``EngineFull`` or ``EngineFailed``.
    """

    def __init__(self, disk: Disk, path: Path, magic: bytes) -> None:
        assert len(magic) == 8
        self._disk = disk
        self._path = path
        # Two processes or threads may write the same file at once: the last rename wins, neither sees the other.
        self._temporary = path.with_name(f"{path.name}.{os.getpid()}.{next(_numbers)}{TEMPORARY_SUFFIX}")
        self._parts = [magic]
        self._parts_size = len(magic)
        self._crc = crc32(magic)
        self._written = 0
        self._synced = 0
        self._file: DiskFile | None = None
        self._finished = False

    def __enter__(self) -> RecordWriter:
        try:
            self._file = self._disk.open(self._temporary, create=True)
        except OSError as error:
            raise failure(error, doing=f"creating {self._temporary}") from error
        return self

    def add(self, kind: int, data: bytes) -> None:
        """Add a record; ``kind`` is above 0."""
        assert kind > 0
        size = len(data)
        crc = self._crc = crc32(data, crc32(_LEAD.pack(kind, size), self._crc))
        parts = self._parts
        parts.append(_RECORD.pack(kind, size, crc))
        parts.append(data)
        self._parts_size += _RECORD_SIZE + size
        if self._parts_size >= REPLAY_BLOCK_SIZE:
            self._flush()

    def finish(self) -> None:
        """Complete the file, make it durable and give it its name."""
        assert self._file is not None
        self._parts.append(_RECORD.pack(0, 0, crc32(_LEAD.pack(0, 0), self._crc)))
        self._flush()
        try:
            self._file.sync()
            self._file.close()
            self._disk.rename(self._temporary, self._path)
            self._finished = True
            self._disk.sync_directory(self._path.parent)
        except OSError as error:
            raise failure(error, doing=f"completing {self._path}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and not self._finished:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._disk.remove(self._temporary)

    def _flush(self) -> None:
        assert self._file is not None
        data = b"".join(self._parts)
        self._parts.clear()
        self._parts_size = 0
        try:
            write_all(self._file, self._written, data)
            self._written += len(data)
            if self._written - self._synced >= SNAPSHOT_SYNC_SIZE:
                self._file.sync()
                self._synced = self._written
        except OSError as error:
            raise failure(error, doing=f"writing {self._path}") from error


def read_records(file: DiskFile, magic: bytes, *, name: str) -> Iterator[tuple[int, bytes]]:
    """Each record's kind and data, each checked before it is given out; the file is read in blocks.

    Raises ``Damaged`` (``fields["offset"]`` is where), also when the file ends early, and ``EngineFailed``.
    """
    blocks = _Blocks(file, name)
    if blocks.take(len(magic)) != magic:
        raise Damaged(
            f"{name} does not begin as a file of its kind does",
            advice="it is another file, or a later version of Townhall wrote it",
            offset=0,
        )
    running = crc32(magic)
    while True:
        kind, size, crc = _RECORD.unpack(blocks.take(_RECORD_SIZE))
        if size > blocks.left:
            raise blocks.damaged()
        data = blocks.take(size)
        running = crc32(data, crc32(_LEAD.pack(kind, size), running))
        if running != crc:
            raise blocks.damaged()
        if kind == 0:
            break
        blocks.mark()
        yield kind, data
    if size or blocks.left:
        raise blocks.damaged()


class _Blocks:
    """Reads a file from the start, in blocks, a given number of bytes at a time."""

    def __init__(self, file: DiskFile, name: str) -> None:
        self._file = file
        self._name = name
        self._block = b""
        self._start = 0
        self._offset = 0
        self._good = 0
        self._size = self._guarded_size()

    @property
    def left(self) -> int:
        return self._size - self._offset + len(self._block) - self._start

    def mark(self) -> None:
        """All bytes taken so far were sound."""
        self._good = self._size - self.left

    def damaged(self) -> Damaged:
        return Damaged(f"{self._name} is damaged behind byte {self._good}", offset=self._good)

    def take(self, size: int) -> bytes:
        start = self._start
        stop = start + size
        if stop > len(self._block):
            self._refill(size)
            start, stop = 0, size
        self._start = stop
        return self._block[start:stop]

    def _refill(self, size: int) -> None:
        rest = self._block[self._start :]
        if size > self.left:
            raise self.damaged()
        want = max(size - len(rest), REPLAY_BLOCK_SIZE)
        try:
            more = self._file.read_at(self._offset, size=want)
        except OSError as error:
            raise failure(error, doing=f"reading {self._name}") from error
        self._offset += len(more)
        self._block = rest + more
        self._start = 0
        if len(self._block) < size:
            raise self.damaged()

    def _guarded_size(self) -> int:
        try:
            return self._file.size()
        except OSError as error:
            raise failure(error, doing=f"reading {self._name}") from error
