"""A journal segment: a file of groups, each a checksummed frame.

::

    segment  = header frame*                    (what follows the last frame is zeros, or the torn rest of a crash)
    header   = magic[8] first[8] salt[8] zero[4] crc[4]
    frame    = crc[4] salt[8] first[8] count[4] size[4] body[size]
    body     = length[4]*count blob*count

All numbers are little-endian. ``first`` is the position of the first entry; ``crc`` (CRC-32) covers the rest of its
header or frame. The salt is random for each segment and starts every frame, so that bytes a client stores, even the
copy of another segment, are never taken for a frame when a torn tail is searched. A frame without entries is a
*seal*: it is written at an orderly close and says that everything before it was durable, so that damage to the last
group is told from a torn write.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple
from zlib import crc32

from townhall.engine.disk import DiskFile
from townhall.model.limits import GROUP_SIZE_MAX, REPLAY_BLOCK_SIZE

__all__ = [
    "HEADER_SIZE", "Frame", "Header", "find_frame", "new_header", "pack_frame", "pack_header", "read_all_frames",
    "read_frames", "read_header", "split_frame",
]  # fmt: skip

_MAGIC = b"THSEG\x00\x00\x01"
_HEADER = struct.Struct("<8sQ8s4xI")
_FRAME = struct.Struct("<I8sQII")
HEADER_SIZE = _HEADER.size
_FRAME_SIZE = _FRAME.size
_BODY_SIZE_MAX = GROUP_SIZE_MAX + (GROUP_SIZE_MAX >> 2)  # Blobs, and their lengths if they are tiny.


class Header(NamedTuple):
    """What a segment begins with."""

    first: int
    salt: bytes


Frame = tuple[int, int, int, int, bytes, int]
"""first position, count, offset in the file, size in the file, block read, offset of the body in it.

A plain tuple, because replay makes a million of them.
"""


def new_header(first: int) -> Header:
    """A header for a segment whose first entry will have position ``first``."""
    salt = os.urandom(8)
    while salt == bytes(8):  # Zeros mean 'nothing here'.
        salt = os.urandom(8)
    return Header(first, salt)


def pack_header(header: Header) -> bytes:
    """The bytes a segment begins with."""
    head = _HEADER.pack(_MAGIC, header.first, header.salt, 0)[:-4]
    return head + crc32(head).to_bytes(4, "little")


def read_header(file: DiskFile) -> Header | None:
    """The header, or None when these bytes are not one."""
    head = file.read_at(0, size=HEADER_SIZE)
    if len(head) != HEADER_SIZE:
        return None
    magic, first, salt, crc = _HEADER.unpack(head)
    if magic != _MAGIC or crc != crc32(head[:-4]):
        return None
    return Header(first, salt)


def pack_frame(salt: bytes, first: int, blobs: Sequence[bytes]) -> bytes:
    """One group as it lies in the file."""
    count = len(blobs)
    lengths = struct.pack(f"<{count}I", *map(len, blobs))
    size = sum(map(len, blobs)) + len(lengths)
    head = _FRAME.pack(0, salt, first, count, size)[4:]
    crc = crc32(head)
    body = b"".join((lengths, *blobs))
    return b"".join((crc32(body, crc).to_bytes(4, "little"), head, body))


def read_frames(file: DiskFile, header: Header, offset: int, *, end: int, expected: int) -> Iterator[Frame]:
    """Whole, sound frames from ``offset`` up to ``end``, the first of them at position ``expected``.

    Stops at the first byte that is not part of one; the caller knows from the last frame where that is.
    """
    salt = header.salt
    unpack = _FRAME.unpack_from
    need = _FRAME_SIZE
    while end - offset >= need:
        want = min(max(need, REPLAY_BLOCK_SIZE), end - offset)
        block = file.read_at(offset, size=want)
        have = len(block)
        view = memoryview(block)
        start = 0
        need = _FRAME_SIZE
        while have - start >= _FRAME_SIZE:
            crc, mark, first, count, size = unpack(block, start)
            if mark != salt or first != expected or size > _BODY_SIZE_MAX:
                return
            stop = start + _FRAME_SIZE + size
            if stop > have:
                need = stop - start
                break
            if crc32(view[start + 4 : stop]) != crc:
                return
            yield first, count, offset + start, stop - start, block, start + _FRAME_SIZE
            expected += count
            start = stop
        if have < want:
            return
        offset += start


def split_frame(frame: Frame) -> list[bytes]:
    """The blobs of a frame."""
    _, count, _, size, block, body = frame
    if count == 1:
        return [block[body + 4 : body - _FRAME_SIZE + size]]
    lengths = struct.unpack_from(f"<{count}I", block, body)
    return [block[start:stop] for start, stop in pairwise(accumulate(lengths, initial=body + 4 * count))]


def read_all_frames(file: DiskFile, header: Header) -> Iterator[Frame]:
    """All sound frames of a segment, also those behind damage: positions ascend, with gaps where it lies."""
    offset, expected = HEADER_SIZE, header.first
    while True:
        for frame in read_frames(file, header, offset, end=file.size(), expected=expected):
            yield frame
            offset = frame[2] + frame[3]
            expected = frame[0] + frame[1]
        found = find_frame(file, header, offset, end=file.size(), at_least=expected)
        if found is None:
            return
        offset, expected = found


def find_frame(file: DiskFile, header: Header, offset: int, *, end: int, at_least: int) -> tuple[int, int] | None:
    """Offset and first position of the next sound frame at or behind ``offset`` for a position of at least ``at_least``.

    This tells the torn rest of the last write (nothing behind it) from damage (something behind it).
    """
    salt = header.salt
    overlap = _FRAME_SIZE - 1
    while end - offset >= _FRAME_SIZE:
        block = file.read_at(offset, size=min(REPLAY_BLOCK_SIZE, end - offset))
        found = block.find(salt, 4)
        while found >= 0:
            candidate = offset + found - 4
            head = file.read_at(candidate, size=_FRAME_SIZE)
            if len(head) == _FRAME_SIZE:
                first = _FRAME.unpack(head)[2]
                if first >= at_least and any(read_frames(file, header, candidate, end=end, expected=first)):
                    return candidate, first
            found = block.find(salt, found + 1)
        if len(block) <= overlap:
            break
        offset += len(block) - overlap
    return None
