"""Inspection: what a data directory holds, what is damaged, and what can be saved of it.

Reads everything and changes nothing, beside the running server or without it. A registry's state is a sound snapshot
plus the entries behind it without a gap (or all entries from position 1); what lies behind the first gap cannot be
applied and counts as lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from townhall.engine.backup import Stock, fill_directory
from townhall.engine.directory import DataDirectory
from townhall.engine.disk import Disk, PosixDisk, failure
from townhall.engine.journal import segment_name, segment_positions, used_size
from townhall.engine.segment import HEADER_SIZE, read_all_frames, read_header, split_frame
from townhall.engine.snapshots import read_snapshot, snapshot_path, snapshot_positions
from townhall.model.errors import Damaged

__all__ = ["Damage", "Report", "SegmentReport", "inspect", "salvage"]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it was written."""

    position: int
    """Of the first entry, or of the snapshot, that cannot be read."""
    file: Path
    reason: str


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """One segment."""

    file: Path
    size: int
    """Bytes."""
    is_readable: bool
    """False when the header is damaged, without which nothing in it can be told."""
    ranges: tuple[tuple[int, int], ...]
    """First and last position of each unbroken run of sound entries; one when all is well, none when it is empty."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``damages`` is empty when all is well."""

    snapshot: int
    """Position of the newest sound snapshot; 0 when there is none."""
    oldest: int
    """First position that the journal holds; 0 when it holds none."""
    tail: int
    """Last position that was found anywhere."""
    reach: int
    """Last position up to which the state can be rebuilt; -1 when there is nothing to begin with."""
    salvageable: int
    """Entries behind the snapshot that can be applied."""
    torn_size: int
    """Bytes of an unfinished write at the end; no damage, the next start drops them."""
    segments: tuple[SegmentReport, ...]
    damages: tuple[Damage, ...]


def inspect(directory: Path, *, disk: Disk | None = None) -> Report:
    """Read and check everything in a data directory. Raises ``EngineFailed`` when it is none or cannot be read."""
    home = DataDirectory(disk or PosixDisk(), directory)
    home.enter_read_only()
    try:
        return _inspect(home)
    except OSError as error:
        raise failure(error, doing=f"reading {directory}") from error


def salvage(directory: Path, target: Path, *, disk: Disk | None = None) -> Stock:
    """Copy what can be saved into the new data directory ``target``.

    Raises ``Damaged`` when there is nothing to begin with, ``EngineFailed`` when ``target`` is in use or not empty or
    something cannot be read, and ``EngineFull``.
    """
    disk = disk or PosixDisk()
    report = inspect(directory, disk=disk)
    if report.reach < 0:
        raise Damaged(
            f"nothing in {directory} can be saved: no sound snapshot, and the journal begins at {report.oldest}",
            advice="restore a backup",
            position=report.oldest,
            salvageable=0,
        )
    home = DataDirectory(disk, directory)
    chunks = read_snapshot(disk, home.snapshots, report.snapshot)
    fill_directory(DataDirectory(disk, target), report.snapshot, chunks, _groups(home, report))
    return Stock(report.snapshot, report.reach)


def _inspect(home: DataDirectory) -> Report:
    damages: list[Damage] = []
    snapshot = _sound_snapshot(home, damages)
    firsts = segment_positions(home.disk.names(home.journal))
    if not damages and firsts and firsts[0] > snapshot + 1:
        damages.append(Damage(snapshot + 1, home.journal, f"the entries before {firsts[0]} are missing"))
    segments = []
    torn_size = 0
    for number, first in enumerate(firsts):
        following = firsts[number + 1] if number + 1 < len(firsts) else None
        segment, rest_size = _inspect_segment(home, first, damages)
        segments.append(segment)
        expected = segment.ranges[-1][1] + 1 if segment.ranges else first
        if following is None:
            torn_size = rest_size
        elif rest_size or (following > max(expected, snapshot + 1) and segment.is_readable):
            damages.append(
                Damage(expected, segment.file, f"the entries from {expected} to {following - 1} are damaged")
            )
    ranges = [found for segment in segments for found in segment.ranges]
    reach = snapshot if snapshot or not firsts or firsts[0] == 1 else -1
    for first, last in ranges if reach >= 0 else ():
        if first <= reach + 1:
            reach = max(reach, last)
    return Report(
        snapshot=snapshot,
        oldest=ranges[0][0] if ranges else 0,
        tail=max([snapshot, *(last for _, last in ranges)]),
        reach=reach,
        salvageable=max(reach - snapshot, 0),
        torn_size=torn_size,
        segments=tuple(segments),
        damages=tuple(damages),
    )


def _sound_snapshot(home: DataDirectory, damages: list[Damage]) -> int:
    for position in sorted(snapshot_positions(home.disk, home.snapshots), reverse=True):
        try:
            for _ in read_snapshot(home.disk, home.snapshots, position):
                pass
        except Damaged as error:
            damages.append(Damage(position, snapshot_path(home.snapshots, position), error.message))
        else:
            return position
    return 0


def _inspect_segment(home: DataDirectory, first: int, damages: list[Damage]) -> tuple[SegmentReport, int]:
    """The report, and the number of bytes behind the last sound frame that are not zeros."""
    path = home.journal / segment_name(first)
    file = home.disk.open(path)
    try:
        size = file.size()
        header = read_header(file)
        if header is None or header.first != first:
            damages.append(Damage(first, path, "the header is damaged"))
            return SegmentReport(path, size, is_readable=False, ranges=()), 0
        ranges: list[tuple[int, int]] = []
        expected, end = first, HEADER_SIZE
        for begin, count, offset, length, _, _ in read_all_frames(file, header):
            if offset != end:
                damages.append(Damage(expected, path, f"the bytes from {end} to {offset} are damaged"))
            if begin != expected or not ranges:
                ranges.append((begin, begin - 1))
            expected, end = begin + count, offset + length
            ranges[-1] = (ranges[-1][0], expected - 1)
        rest_size = used_size(file, end, size)
        sound = tuple(found for found in ranges if found[0] <= found[1])
        return SegmentReport(path, size, is_readable=True, ranges=sound), rest_size
    finally:
        file.close()


def _groups(home: DataDirectory, report: Report) -> Iterator[list[bytes]]:
    """The groups behind the snapshot, up to the reach."""
    position = report.snapshot
    for segment in report.segments:
        if not segment.ranges or segment.ranges[-1][1] <= position or position >= report.reach:
            continue
        file = home.disk.open(segment.file)
        try:
            header = read_header(file)
            assert header is not None
            for frame in read_all_frames(file, header):
                last = frame[0] + frame[1] - 1
                if position < last <= report.reach:
                    yield split_frame(frame)[position + 1 - frame[0] :]
                    position = last
        finally:
            file.close()
