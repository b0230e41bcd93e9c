"""Backup and restore: everything a data directory stands for, in one file.

A backup is a record file (see ``recordfile``): what it is of, the snapshot's chunks, the groups behind it, and the last
position. It is taken beside the running server from what is durable, so it is a state that the registry really had.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from townhall.engine import Entry
from townhall.engine.directory import DataDirectory
from townhall.engine.disk import Disk, PosixDisk, failure
from townhall.engine.file import FileEngine
from townhall.engine.journal import Journal
from townhall.engine.recordfile import RecordWriter, read_records
from townhall.engine.snapshots import write_snapshot
from townhall.model.errors import AlreadyExists, Compacted, Damaged, EngineFailed
from townhall.model.limits import BACKUP_ATTEMPTS_MAX, REPLAY_BLOCK_SIZE

__all__ = ["Stock", "backup", "fill_directory", "restore", "verify_backup"]

_MAGIC = b"THBAK\x00\x00\x01"
_START, _CHUNK, _GROUP, _TAIL = 1, 2, 3, 4
_POSITION = struct.Struct("<Q")
_GROUP_HEAD = struct.Struct("<QI")
_GROUP_COUNT_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Stock:
    """What a backup holds or a restore brought."""

    snapshot: int
    """Position of the snapshot in it; 0 when there is none."""
    tail: int
    """Position of its last entry, or of the snapshot when there is none behind it."""


def backup(source: FileEngine | Path, target: Path, *, disk: Disk | None = None) -> Stock:
    """Write a backup of a data directory, in use or not, to the file ``target``; blocking.

    Raises ``AlreadyExists`` when ``target`` is there, ``Damaged``, ``EngineFull``, or ``EngineFailed``.
    """
    disk = disk or PosixDisk()
    directory = source if isinstance(source, Path) else source.directory
    try:
        if target.name in disk.names(target.parent):
            raise AlreadyExists(f"{target} exists", advice="choose another name; a backup never replaces a file")
    except OSError as error:
        raise failure(error, doing=f"looking into {target.parent}") from error
    for _ in range(BACKUP_ATTEMPTS_MAX):
        with contextlib.suppress(Compacted):
            return _backup_once(directory, target, disk)
    raise EngineFailed(f"the journal in {directory} is trimmed faster than it can be read", advice="try again later")


def verify_backup(source: Path, *, disk: Disk | None = None) -> Stock:
    """Read a whole backup and check it. Raises ``Damaged`` or ``EngineFailed``."""
    snapshot = tail = 0
    for kind, data in _read(source, disk or PosixDisk()):
        if kind == _START:
            (snapshot,) = _POSITION.unpack(data)
            tail = snapshot
        elif kind == _GROUP:
            tail += _GROUP_HEAD.unpack_from(data)[1]
    return Stock(snapshot, tail)


def restore(source: Path, data_directory: Path, *, disk: Disk | None = None) -> Stock:
    """Make a data directory from a backup, after checking the whole of it; blocking.

    Raises ``EngineFailed`` when the directory is in use or not empty, ``Damaged``, or ``EngineFull``. A restore that
    was interrupted leaves a directory that no engine opens.
    """
    disk = disk or PosixDisk()
    stock = verify_backup(source, disk=disk)
    chunks = (data for kind, data in _read(source, disk) if kind == _CHUNK)
    groups = (_unpack_group(data) for kind, data in _read(source, disk) if kind == _GROUP)
    fill_directory(DataDirectory(disk, data_directory), stock.snapshot, chunks, groups)
    return stock


def fill_directory(
    home: DataDirectory, snapshot: int, chunks: Iterable[bytes], groups: Iterable[Sequence[bytes]]
) -> None:
    """Make a data directory that holds this snapshot (0: none) and, behind it, these groups.

    Raises ``EngineFailed`` when the directory is in use or not empty, or ``EngineFull``.
    """
    lock = home.lock()
    try:
        if set(home.disk.names(home.root)) - {"LOCK"}:
            raise EngineFailed(f"{home.root} is not empty", advice="choose a new directory, or move its content away")
        home.make()
        if snapshot:
            write_snapshot(home.disk, home.snapshots, snapshot, chunks)
        journal = Journal(home.disk, home.journal)
        journal.load(snapshot)
        try:
            for blobs in groups:
                journal.append(blobs, journal.view.tail)
        finally:
            journal.close()
        home.complete()
    except OSError as error:
        raise failure(error, doing=f"filling {home.root}") from error
    finally:
        lock.release()


def _backup_once(directory: Path, target: Path, disk: Disk) -> Stock:
    engine = FileEngine(directory, read_only=True, disk=disk)
    opened = engine.open()
    try:
        with RecordWriter(disk, target, _MAGIC) as writer:
            writer.add(_START, _POSITION.pack(opened.snapshot))
            for chunk in engine.snapshot():
                writer.add(_CHUNK, chunk)
            for group in _groups(engine.follow(opened.snapshot)):
                writer.add(_GROUP, group)
            writer.add(_TAIL, _POSITION.pack(opened.tail))
            writer.finish()
    finally:
        engine.close()
    return Stock(opened.snapshot, opened.tail)


def _groups(entries: Iterable[Entry]) -> Iterator[bytes]:
    first, blobs, size = 0, list[bytes](), 0
    for position, blob in entries:
        if not blobs:
            first = position
        blobs.append(blob)
        size += len(blob)
        if size >= REPLAY_BLOCK_SIZE or len(blobs) == _GROUP_COUNT_MAX:
            yield _pack_group(first, blobs)
            blobs, size = [], 0
    if blobs:
        yield _pack_group(first, blobs)


def _pack_group(first: int, blobs: Sequence[bytes]) -> bytes:
    lengths = struct.pack(f"<{len(blobs)}I", *map(len, blobs))
    return b"".join((_GROUP_HEAD.pack(first, len(blobs)), lengths, *blobs))


def _unpack_group(data: bytes) -> list[bytes]:
    _, count = _GROUP_HEAD.unpack_from(data)
    lengths = struct.unpack_from(f"<{count}I", data, _GROUP_HEAD.size)
    return [data[start:stop] for start, stop in pairwise(accumulate(lengths, initial=_GROUP_HEAD.size + 4 * count))]


def _read(source: Path, disk: Disk) -> Iterator[tuple[int, bytes]]:
    """The records of a backup, in an order and with positions that make sense."""
    try:
        file = disk.open(source)
    except OSError as error:
        raise failure(error, doing=f"opening {source}") from error
    try:
        position = stage = 0
        for kind, data in read_records(file, _MAGIC, name=str(source)):
            in_order = kind >= stage and (kind == _START) == (stage == 0)
            stage = kind
            if kind == _START:
                (position,) = _POSITION.unpack(data)
            elif kind == _GROUP:
                first, count = _GROUP_HEAD.unpack_from(data)
                in_order = in_order and first == position + 1
                position += count
            elif kind == _TAIL:
                in_order = in_order and _POSITION.unpack(data)[0] == position
            if not in_order:
                raise Damaged(f"{source} holds records out of order", position=position)
            yield kind, data
        if stage != _TAIL:
            raise Damaged(f"{source} ends early", position=position)
    finally:
        file.close()
