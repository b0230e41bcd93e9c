"""The snapshot slot: one record file named after the journal position that the snapshot stands for.

Several processes may save at once (a compaction that outlives a killed server, and that of its successor): the newest
position wins, and each removes only what is older than its own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from townhall.engine.disk import Disk, failure
from townhall.engine.recordfile import RecordWriter, read_records
from townhall.model.errors import Compacted, Conflict, Damaged

__all__ = ["newest_snapshot", "read_snapshot", "snapshot_path", "snapshot_positions", "write_snapshot"]

_MAGIC = b"THSNP\x00\x00\x01"
_NAME = re.compile(r"(\d{20})\.snap\Z")
_POSITION, _CHUNK = 1, 2


def newest_snapshot(disk: Disk, directory: Path) -> int:
    """Position of the newest snapshot; 0 when there is none. Raises ``EngineFailed``."""
    return max(snapshot_positions(disk, directory), default=0)


def write_snapshot(disk: Disk, directory: Path, position: int, chunks: Iterable[bytes]) -> None:
    """Put a snapshot into the slot. Raises ``Conflict`` when a newer one is there, ``EngineFull``, ``EngineFailed``."""
    newest = newest_snapshot(disk, directory)
    if newest > position:
        raise Conflict(f"a snapshot of position {newest} is newer than {position}", snapshot=newest)
    with RecordWriter(disk, snapshot_path(directory, position), _MAGIC) as writer:
        writer.add(_POSITION, position.to_bytes(8, "little"))
        for chunk in chunks:
            writer.add(_CHUNK, chunk)
        writer.finish()
    for old in snapshot_positions(disk, directory):
        if old < position:
            # Another process may have removed it already; one that cannot be removed only takes up room.
            with contextlib.suppress(OSError):
                disk.remove(snapshot_path(directory, old))


def read_snapshot(disk: Disk, directory: Path, position: int) -> Iterator[bytes]:
    """The chunks of the snapshot of ``position`` (0: none, no chunks).

    Raises ``Damaged``, ``EngineFailed``, or ``Compacted`` when a newer one has taken its place meanwhile.
    """
    if position == 0:
        return
    path = snapshot_path(directory, position)
    try:
        file = disk.open(path)
    except FileNotFoundError as error:
        raise Compacted(f"the snapshot of position {position} was replaced", oldest=position) from error
    except OSError as error:
        raise failure(error, doing=f"opening {path}") from error
    try:
        records = read_records(file, _MAGIC, name=str(path))
        if next(records, None) != (_POSITION, position.to_bytes(8, "little")):
            raise Damaged(f"{path} does not say that it is of position {position}", offset=8)
        for _, chunk in records:
            yield chunk
    except Damaged as error:
        advice = "see 'townhall inspect', then 'townhall salvage', or 'townhall restore' with a backup"
        raise Damaged(error.message, advice=advice, position=position, salvageable=0, **error.fields) from error
    finally:
        file.close()


def snapshot_positions(disk: Disk, directory: Path) -> list[int]:
    """Positions of the snapshots that lie there, in no order: one, but for moments. Raises ``EngineFailed``."""
    try:
        names = disk.names(directory)
    except OSError as error:
        raise failure(error, doing=f"listing {directory}") from error
    return [int(match[1]) for match in map(_NAME.match, names) if match]


def snapshot_path(directory: Path, position: int) -> Path:
    """Where the snapshot of ``position`` lies."""
    return directory / f"{position:020d}.snap"
