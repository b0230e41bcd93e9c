"""What comes again and again on streams that go on: DATA frames in a row that are answered at once, each by itself."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from townhall.wire.http2 import Sink
from townhall.wire.http2.frames import DATA, FRAME_SIZE_MIN
from townhall.wire.http2.outbox import Outbox

__all__ = ["Repeats"]

_HEAD_SIZE: Final = 9
_head_of = struct.Struct(">IBI").unpack_from


class Repeats:
    """The shortest path of one connection."""

    __slots__ = ("_outbox", "_sink", "_stream_size_max")

    def __init__(self, outbox: Outbox, sink: Sink, stream_size_max: int) -> None:
        """Fewer bytes than ``stream_size_max`` are taken before a stream's window must be opened again."""
        self._outbox = outbox
        self._sink = sink
        self._stream_size_max = stream_size_max

    def answer(self, held: bytes, begin: int, count_max: int, size_max: int) -> tuple[int, int]:
        """Answer whole frames up to the first that is not as nearly all are: to the same effect as if each were given to
        the sink's ``data``. Where that one begins and how many they were; their sizes are less than ``size_max`` in all.
        """
        at, end, count, outbox = begin, len(held), 0, self._outbox
        again: object = None
        answer: Callable[[bytes], bytes | None] | None = None
        while count < count_max and end - at >= _HEAD_SIZE:
            size, flags, number = _head_of(held, at)
            stream = outbox.streams.get(number)
            if stream is None or stream.again is None or flags or size & 255 != DATA:
                break
            size >>= 8
            start = at + _HEAD_SIZE
            stop = start + size
            if (
                stop > end or not 0 < size <= FRAME_SIZE_MIN or stream.expected >= 0
                or stop - begin >= size_max or stream.unacked + size >= self._stream_size_max
            ):  # fmt: skip
                break
            if stream.again is not again:
                again, answer = stream.again, self._sink.answering(stream)
            said = answer(held[start:stop]) if answer is not None else None
            if said is None:
                break
            stream.unacked += size
            outbox.send(stream, said)
            at = stop
            count += 1
        return at, count
