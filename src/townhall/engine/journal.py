"""The journal: segments in order, of which the last is written to.

``append`` runs in one thread at a time and ``follow`` and ``trim`` may run beside it in another. What they share is one
immutable ``View``, replaced as a whole after each durable group: a reader looks at it once and then reads only bytes
that it covers. Segments are never changed before their durable end; ``trim`` removes whole segments, oldest first.

Opening verifies the last segment only; the others are verified as they are followed. After the last sound frame there
may lie the rest of a write that a crash cut short. It is dropped if nothing sound follows it; otherwise bytes that
were acknowledged have changed, and that is ``Damaged``. The last group is then written once more before it is shown:
after a failed sync the system may hold it in memory, marked as written, without it being on the disk.
"""

from __future__ import annotations

import contextlib
import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

from townhall.engine import Entry
from townhall.engine.disk import Disk, DiskFile, failure, is_full, write_all
from townhall.engine.recordfile import TEMPORARY_SUFFIX
from townhall.engine.segment import (
    HEADER_SIZE,
    Header,
    find_frame,
    new_header,
    pack_frame,
    pack_header,
    read_frames,
    read_header,
    split_frame,
)
from townhall.model.errors import Compacted, Conflict, Damaged, EngineFailed, EngineFull, OutcomeUnknown, TooLarge
from townhall.model.limits import GROUP_SIZE_MAX, REPLAY_BLOCK_SIZE, SEGMENT_ALLOCATE_SIZE, SEGMENT_SIZE

__all__ = ["Journal", "Tail", "View", "find_tail", "segment_name", "segment_positions", "used_size"]

_NAME = re.compile(r"(\d{20})\.seg\Z")
_REOPEN = "restart the server; what was made durable shows then"


class View(NamedTuple):
    """What is durable."""

    segments: tuple[int, ...]
    """First positions, ascending; each is also the name of its file."""
    end: int
    """Bytes of the last segment that are durable."""
    tail: int


class Tail(NamedTuple):
    """Where the last segment's sound frames end."""

    end: int
    """Offset in bytes."""
    position: int
    last_size: int
    """Bytes of the last sound frame; 0 when there is none."""
    last_count: int
    """Entries in it; 0 when it is a seal or there is none."""


class Journal:
    """The segments of one directory. ``load`` comes first; nothing else touches the disk before."""

    def __init__(self, disk: Disk, directory: Path, *, segment_size: int = SEGMENT_SIZE) -> None:
        self.view = View((), 0, 0)
        self.torn_size = 0
        """Bytes of an unfinished write that the last ``load`` dropped."""
        self._disk = disk
        self._directory = directory
        self._segment_size = segment_size
        self._lock = threading.Lock()  # Held only while the view is replaced.
        self._active: DiskFile | None = None
        self._header = Header(1, b"")
        self._allocated = 0
        self._sealed = True
        self._broken = ""
        self._covered = 0
        self._read_only = False

    def load(self, snapshot: int, *, read_only: bool = False) -> None:
        """Find the segments and the durable tail, which is at least ``snapshot``.

        Raises ``Damaged`` or ``EngineFailed``. ``read_only`` changes nothing, so the rest of a torn write stays.
        """
        try:
            self._load(snapshot, read_only=read_only)
        except OSError as error:
            raise failure(error, doing=f"opening {self._directory}") from error

    def append(self, blobs: Sequence[bytes], expect: int) -> int:
        """See ``Engine.append``; blocking."""
        view = self.view
        if self._broken:
            raise EngineFailed(f"the journal takes no more writes since {self._broken}", advice=_REOPEN)
        if view.tail != expect:
            raise Conflict(f"the journal is at position {view.tail}, not {expect}", tail=view.tail)
        if not blobs:
            return expect
        size = sum(map(len, blobs))
        if size > GROUP_SIZE_MAX:
            raise TooLarge(f"a group of {size} bytes is above the limit of {GROUP_SIZE_MAX}", limit=GROUP_SIZE_MAX)
        if self._active is None or (view.end >= self._segment_size and expect + 1 != self._header.first):
            self._rotate(expect + 1)
        self._write(pack_frame(self._header.salt, expect + 1, blobs), expect + len(blobs))
        self._sealed = False
        return expect + len(blobs)

    def follow(self, after: int) -> Iterator[Entry]:
        """See ``Engine.follow``; ends at the tail of the moment of the call."""
        view = self.view
        oldest = view.segments[0] if view.segments else view.tail + 1
        if after + 1 < oldest:
            raise Compacted(f"positions before {oldest} were trimmed", oldest=oldest)
        return self._entries(view, after) if after < view.tail else iter(())

    def trim(self, upto: int) -> None:
        """Remove the segments that hold no position above ``upto``, never the last. Raises ``EngineFailed``."""
        with self._lock:
            view = self.view
            keep = max(bisect_right(view.segments, upto + 1) - 1, 0)
            self.view = view._replace(segments=view.segments[keep:])
        try:
            for first in view.segments[:keep]:
                self._disk.remove(self._directory / segment_name(first))
            if keep:
                self._disk.sync_directory(self._directory)
        except OSError as error:
            raise failure(error, doing="trimming the journal") from error

    def close(self) -> None:
        """Seal and release; idempotent. No error matters: all that was acknowledged is durable already."""
        active, self._active = self._active, None
        if active is None:
            return
        end = self.view.end
        with contextlib.suppress(OSError):
            if not self._sealed and not self._broken:
                seal = pack_frame(self._header.salt, self.view.tail + 1, ())
                write_all(active, end, seal)
                end += len(seal)
            if not self._broken:
                active.truncate(end)
                active.sync()
        with contextlib.suppress(OSError):
            active.close()

    def _load(self, snapshot: int, *, read_only: bool) -> None:
        segments = tuple(segment_positions(self._disk.names(self._directory)))
        self._read_only = read_only
        self._covered = snapshot
        if not segments:
            self.view = View((), 0, snapshot)
            return
        file = self._disk.open(self._directory / segment_name(segments[-1]), write=not read_only)
        kept = False
        try:
            header, tail = find_tail(file, segments)
            if read_only:
                # What is shown must be durable. A disk that refuses (a read-only mount) is still worth reading.
                with contextlib.suppress(OSError):
                    file.sync()
            else:
                self._repair(file, tail)
                # Behind a snapshot that covers more than the journal holds, a new segment begins.
                kept = tail.position >= snapshot
        finally:
            if not kept:
                file.close()
        self.view = View(segments, tail.end, max(tail.position, snapshot))
        if kept:
            self._active, self._header, self._allocated = file, header, tail.end
            self._sealed = tail.last_count == 0

    def _repair(self, file: DiskFile, tail: Tail) -> None:
        size = file.size()
        if size > tail.end:
            self.torn_size = used_size(file, tail.end, size)
            file.truncate(tail.end)
        if tail.last_size:
            offset = tail.end - tail.last_size
            write_all(file, offset, file.read_at(offset, size=tail.last_size))
        file.sync()
        self._disk.sync_directory(self._directory)

    def _rotate(self, first: int) -> None:
        header = new_header(first)
        path = self._directory / segment_name(first)
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        file: DiskFile | None = None
        try:
            file = self._disk.open(temporary, create=True)
            write_all(file, 0, pack_header(header))
            file.sync()
            self._disk.rename(temporary, path)
            self._disk.sync_directory(self._directory)
        except OSError as error:
            # Nothing of the group was written, so the append did not happen; the old segment is still in place.
            with contextlib.suppress(OSError):
                if file is not None:
                    file.close()
                self._disk.remove(temporary)
            if not is_full(error):
                self._broken = str(error)
            raise failure(error, doing=f"creating {path}") from error
        self._leave_active()
        with self._lock:
            self.view = View((*self.view.segments, first), HEADER_SIZE, self.view.tail)
        self._active, self._header, self._allocated = file, header, HEADER_SIZE

    def _leave_active(self) -> None:
        active, self._active = self._active, None
        if active is not None:
            # Gives back what was reserved ahead; zeros that stay would do no harm.
            with contextlib.suppress(OSError):
                active.truncate(self.view.end)
            with contextlib.suppress(OSError):
                active.close()

    def _write(self, frame: bytes, tail: int) -> None:
        active = self._active
        assert active is not None
        start = self.view.end
        end = start + len(frame)
        try:
            if end > self._allocated:
                self._reserve(active, end)
            write_all(active, start, frame)
        except OSError as error:
            raise self._take_back(active, start, error) from error
        try:
            active.sync()
        except OSError as error:
            self._broken = str(error)
            raise OutcomeUnknown(f"the group may or may not be durable: {error}", advice=_REOPEN) from error
        with self._lock:
            self.view = View(self.view.segments, end, tail)

    def _reserve(self, active: DiskFile, end: int) -> None:
        self._allocated = end
        step = min(SEGMENT_ALLOCATE_SIZE, self._segment_size)
        size = -(-end // step) * step
        # Where there is no room for the reserve, or no such thing, the group itself may still fit.
        with contextlib.suppress(OSError):
            active.allocate(size)
            self._allocated = size

    def _take_back(self, active: DiskFile, start: int, error: OSError) -> EngineFull | EngineFailed | OutcomeUnknown:
        try:
            active.truncate(start)
            self._allocated = start
        except OSError as second:
            self._broken = f"{error}, then {second}"
        if not is_full(error):
            self._broken = self._broken or str(error)
            return OutcomeUnknown(f"the group may or may not be durable: {error}", advice=_REOPEN)
        return cast("EngineFull", failure(error, doing="writing the journal"))

    def _entries(self, view: View, after: int) -> Iterator[Entry]:
        number = bisect_right(view.segments, after + 1) - 1
        position = after
        try:
            for first in view.segments[number:]:
                if first != view.segments[number] and first != position + 1:
                    raise self._gap(position, first)
                end = view.end if first == view.segments[-1] else None
                position = yield from self._segment_entries(first, end, after)
        except OSError as error:
            raise failure(error, doing="reading the journal") from error
        if position < view.tail:
            raise self._gap(position, view.tail + 1)

    def _segment_entries(self, first: int, end: int | None, after: int) -> Generator[Entry, None, int]:
        file = self._open_segment(first)
        try:
            header = read_header(file)
            if header is None or header.first != first:
                raise self._gap(first - 1, first)
            position, offset = first - 1, HEADER_SIZE
            stop = end or file.size()
            for frame in read_frames(file, header, offset, end=stop, expected=first):
                start = position + 1
                position += frame[1]
                offset = frame[2] + frame[3]
                if position <= after:
                    continue
                blobs = split_frame(frame)
                if len(blobs) == 1:
                    yield _entry((position, blobs[0]))
                else:
                    entries = map(_entry, zip(range(start, position + 1), blobs, strict=True))
                    yield from entries if start > after else islice(entries, after + 1 - start, None)
            if offset < stop and used_size(file, offset, stop):
                raise self._gap(position, position + 1)
            return position
        finally:
            file.close()

    def _open_segment(self, first: int) -> DiskFile:
        path = self._directory / segment_name(first)
        try:
            return self._disk.open(path)
        except FileNotFoundError as error:
            segments = self.view.segments
            if first in segments and not self._read_only:
                raise _damaged(f"{path} is missing", position=first, oldest=segments[0]) from error
            # Trimmed while it was followed, perhaps by the process that writes.
            raise Compacted(f"position {first} was trimmed meanwhile", oldest=segments[0]) from error

    def _gap(self, position: int, following: int) -> Compacted | Damaged:
        if following <= self._covered + 1 and following > position + 1:
            return Compacted(f"positions before {following} were trimmed", oldest=following)
        return _damaged("the journal is damaged", position=position + 1, oldest=self.view.segments[0])


def segment_name(first: int) -> str:
    """File name of the segment that begins with position ``first``."""
    return f"{first:020d}.seg"


def segment_positions(names: Iterable[str]) -> list[int]:
    """First positions of the segments among these file names, ascending."""
    return sorted(int(match[1]) for match in map(_NAME.match, names) if match)


def find_tail(file: DiskFile, segments: Sequence[int]) -> tuple[Header, Tail]:
    """Verify the last of ``segments`` and find where its sound frames end. Raises ``Damaged`` or ``OSError``."""
    header = read_header(file)
    if header is None or header.first != segments[-1]:
        raise _damaged("the last segment's header is damaged", position=segments[-1], oldest=segments[0])
    tail = Tail(HEADER_SIZE, header.first - 1, 0, 0)
    while True:
        for _, count, offset, size, _, _ in read_frames(
            file, header, tail.end, end=file.size(), expected=tail.position + 1
        ):
            tail = Tail(offset + size, tail.position + count, size, count)
        if find_frame(file, header, tail.end, end=file.size(), at_least=tail.position + 1) is None:
            return header, tail
        # Something sound follows. If a writer is at work it has completed what was unsound a moment ago.
        if not any(read_frames(file, header, tail.end, end=file.size(), expected=tail.position + 1)):
            raise _damaged("the journal is damaged", position=tail.position + 1, oldest=segments[0])


def used_size(file: DiskFile, start: int, stop: int) -> int:
    """Bytes from ``start`` up to the last one before ``stop`` that is not zero; 0 when all are."""
    used = 0
    for offset in range(start, stop, REPLAY_BLOCK_SIZE):
        block = file.read_at(offset, size=min(REPLAY_BLOCK_SIZE, stop - offset)).rstrip(b"\0")
        used = offset - start + len(block) if block else used
    return used


def _damaged(message: str, *, position: int, oldest: int) -> Damaged:
    return Damaged(
        f"{message} at position {position}; {position - oldest} entries before it are sound",
        advice="keep a copy of the data directory; 'townhall inspect' shows more, 'townhall salvage' saves what is sound",
        position=position,
        salvageable=position - oldest,
    )


# Makes entries without a Python frame for each: replay is a million of them.
_entry = cast("Callable[[tuple[int, bytes]], Entry]", partial(tuple.__new__, Entry))
