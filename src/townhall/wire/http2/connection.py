"""One peer's connection: bytes in, calls to a sink (RFC 9113).

``receive`` takes bytes however they are cut. What breaks a rule ends its stream (RST_STREAM) or the connection: GOAWAY
is said, ``over`` is set, and whoever owns the socket closes it when the bytes are out. The peer's frames are read from
one table, but DATA and HEADERS, which make up nearly all, are looked at first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from townhall.model.limits import HTTP2_CONTINUATIONS_MAX, HTTP2_FRAMES_PER_TURN
from townhall.wire.http2 import PREFACE, ErrorCode, Fault, Http2Limits, Sink
from townhall.wire.http2 import frames as f
from townhall.wire.http2.guard import Guard
from townhall.wire.http2.memory import HeadReader, Memory
from townhall.wire.http2.outbox import Outbox, Stream
from townhall.wire.http2.repeats import Repeats
from townhall.wire.http2.settings import NO_TABLE, Settings, greeting

__all__ = ["Connection"]

_HEAD_SIZE: Final = 9
_STREAM_BITS: Final = 2**31 - 1
_NOISE_SIZE: Final = 64
"""Bytes of bodies that earn as much as a frame that asks for nothing costs."""
_OPENING_SIZE_MIN: Final = 1_024
"""A WINDOW_UPDATE of less is noise."""
_number_of = struct.Struct(">I").unpack_from
_head_of = struct.Struct(">IBI").unpack_from
"""A frame's head in three numbers: the size with the kind behind it, the flags, the stream."""


class Connection:
    """The server's end. ``outbox`` is what it says."""

    __slots__ = (
        "_acknowledged", "_greeted", "_half", "_handlers", "_held", "_limits", "_open_block", "_peer", "_reader", "_repeats",
        "_sink", "_stream_half", "_taken", "_unacked", "_usual", "guard", "last", "leaving", "outbox", "over", "settled", "streams",
    )  # fmt: skip

    def __init__(self, limits: Http2Limits, memory: Memory, sink: Sink, room: int) -> None:
        self._limits = limits
        self._sink = sink
        self._reader = HeadReader(memory, limits)
        self._peer = Settings()
        self._held = b""
        self._greeted = False
        self._usual = False
        """Any frame may come: it is greeted, and no header block is open."""
        self._open_block: _OpenBlock | None = None
        """HEADERS without END_HEADERS: nothing but CONTINUATION may follow."""
        self._unacked = 0
        """Bytes received since the connection's window was opened last."""
        self._taken = 0
        """Bytes received before that."""
        self._half = limits.connection_window_size // 2
        self._stream_half = limits.stream_window_size // 2
        self.guard = Guard(limits.noise_max)
        self.outbox = Outbox(sink, room)
        self.outbox.out.append(greeting(limits))
        self.streams = self.outbox.streams
        self._repeats = Repeats(self.outbox, sink, self._stream_half)
        self.last = 0
        """The highest stream that the peer has opened."""
        self.leaving = False
        """GOAWAY has been said: streams that the peer opens now are refused."""
        self.over = False
        """Nothing more is read."""
        self.settled = False
        """It has been asked to use no table."""
        self._acknowledged = 0
        """SETTINGS of ours that the peer has read."""
        self._handlers: tuple[Callable[[int, int, bytes], None], ...] = (
            self._data, self._headers, self._priority, self._reset, self._settings, self._push, self._ping, self._goaway,
            self._window_update, self._continuation,
        )  # fmt: skip

    # --- bytes in

    @property
    def held(self) -> int:
        """Bytes that wait to be read."""
        return len(self._held)

    @property
    def greeted(self) -> bool:
        """The peer has shown that it speaks HTTP/2."""
        return self._greeted

    def feed(self, data: bytes) -> None:
        """Keep what has arrived for ``proceed``."""
        if not self.over:
            self._held = self._held + data if self._held else data

    def receive(self, data: bytes) -> bool:
        """``feed`` and ``proceed``."""
        self.feed(data)
        return self.proceed()

    def proceed(self) -> bool:
        """Read what is there. True when there is more of it for the next turn."""
        if self.over:
            return False
        held = self._held
        try:
            at, more = self._read(held)
            self._held = held[at:] if at < len(held) else b""
            return more and not self.over
        except Fault as fault:
            self.fail(fault)
            return False

    def _read(self, held: bytes) -> tuple[int, bool]:
        """Where the first incomplete frame begins, and whether there are whole ones left for the next turn."""
        at, end, budget = 0, len(held), HTTP2_FRAMES_PER_TURN
        if not self._greeted:
            at = _preface_end(held)
            if not at:
                return 0, False
        while end - at >= _HEAD_SIZE:
            size, flags, number = _head_of(held, at)
            kind = size & 255
            size >>= 8
            start = at + _HEAD_SIZE
            stop = start + size
            if size > f.FRAME_SIZE_MIN:
                raise Fault(ErrorCode.FRAME_SIZE_ERROR, "a frame over the size that was agreed on")
            if stop > end:
                break
            if budget <= 0:
                return at, True
            budget -= 1
            at = stop
            try:
                # The first two make up nearly all.
                if kind == f.DATA and self._usual:
                    at, budget = self._data_from(held, start, stop, budget)
                elif kind == f.HEADERS and flags == f.END_HEADERS and self._usual:
                    at = self._whole(number & _STREAM_BITS, held, start, stop)
                    budget -= at > stop  # It was two frames.
                else:
                    self._unusual(kind, flags, number & _STREAM_BITS, held[start:stop])
            except Fault as fault:
                if not fault.stream:
                    raise
                self._end_stream(fault)
            if self.over:
                break
        # Until the first frame is whole, the preface is kept before it.
        return at if self._greeted else 0, False

    def _whole(self, number: int, held: bytes, start: int, stop: int) -> int:
        """A head and the one DATA frame that nearly always follows and ends the stream, as if one by one. Where they end."""
        block = held[start:stop]
        head = self._reader.whole.young.get(block)
        data, outbox = stop + _HEAD_SIZE, self.outbox
        if head is not None and head.whole and len(held) >= data and number > self.last and number & 1:
            size, flags, same = _head_of(held, stop)
            end: int = data + (size >> 8)
            if (
                size & 255 == f.DATA and flags == f.END_STREAM and same & _STREAM_BITS == number
                and end - data <= f.FRAME_SIZE_MIN and end <= len(held)
                and not (self.leaving or outbox.unsent) and len(self.streams) < self._limits.streams_max
            ):  # fmt: skip
                self.last = number
                self._unacked += end - data
                if self._unacked >= self._half:
                    self._replenish()
                stream = self.streams[number] = Stream(number, outbox.initial_window)
                stream.ended = True
                self._sink.whole(stream, head, held[data:end])
                return end
        self._block(number, block, ended=False)
        return stop

    def _data_from(self, held: bytes, start: int, stop: int, budget: int) -> tuple[int, int]:
        """A DATA frame, and with it those behind it that are answered at once like it. Where they end, and the budget."""
        begin = start - _HEAD_SIZE
        _, flags, number = _head_of(held, begin)
        if not flags:
            at, count = self._repeats.answer(held, begin, budget + 1, self._half - self._unacked)
            if count:
                self._unacked += at - start - (count - 1) * _HEAD_SIZE
                return at, budget - count + 1
        self._data(flags, number & _STREAM_BITS, held[start:stop])
        return stop, budget

    def _unusual(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._open_block is not None and kind != f.CONTINUATION:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a header block that is interrupted")
        if not self._greeted:
            # RFC 9113 §3.4: the preface ends with a SETTINGS frame.
            if kind != f.SETTINGS or flags & f.ACK:
                raise Fault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._greeted = self._usual = True
        if kind < len(self._handlers):
            self._handlers[kind](flags, number, payload)
        else:
            # RFC 9113 §5.5: unknown types are passed over.
            self._spend()

    def _spend(self, cost: int = 1) -> None:
        """Pay for a frame that asks for nothing; requests and bytes of bodies earn."""
        self.guard.spend(cost, self.last // 2 + self._taken // _NOISE_SIZE)

    # --- frames

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._unacked += size
        if self._unacked >= self._half:
            self._replenish()
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            self._late(number, flags)
            return
        if flags & f.PADDED:
            payload = f.unpadded(payload)
        if stream.expected >= 0:
            self._count_down(stream, len(payload), ended=bool(flags & f.END_STREAM))
        if flags & f.END_STREAM:
            stream.ended = True
            self._sink.data(stream, payload, True)
            return
        stream.unacked += size
        if stream.unacked >= self._stream_half:
            self._acknowledge(stream)
        if payload:
            self._sink.data(stream, payload, False)
        else:
            self._spend()

    def _replenish(self) -> None:
        """Open the connection's window again by what came. Streams have windows of their own, for what is not dealt with."""
        size, self._unacked = self._unacked, 0
        if size > self._limits.connection_window_size:
            raise Fault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._taken += size
        self.outbox.out.append(f.window_update(0, size))

    def _acknowledge(self, stream: Stream) -> None:
        if stream.unacked > self._limits.stream_window_size:
            raise Fault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window", stream=stream.id)
        if not stream.paused:
            self.outbox.out.append(f.window_update(stream.id, stream.unacked))
            stream.unacked = 0

    def settle(self) -> None:
        """The peer is one that calls again and again: from its acknowledgement on, its header blocks use no table."""
        if not self.settled:
            self.settled = True
            self.outbox.out.append(NO_TABLE)

    def resume(self, stream: Stream) -> None:
        """What came on a paused stream has been dealt with."""
        stream.paused = False
        if not stream.ended and stream.unacked >= self._stream_half:
            self._acknowledge(stream)

    def _count_down(self, stream: Stream, size: int, ended: bool) -> None:
        stream.expected -= size
        # RFC 9113 §8.1.1: a body that is not as long as was said makes the request malformed.
        if stream.expected < 0 or (ended and stream.expected):
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a body that is not as long as it was said to be", stream=stream.id)

    def _late(self, number: int, flags: int) -> None:
        """DATA or trailers on a stream that is not open."""
        if number == 0 or number > self.last or not number & 1:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was never opened")
        self._spend()
        if number in self.outbox.dropped:
            # It was on its way when we ended the stream.
            if flags & f.END_STREAM:
                del self.outbox.dropped[number]
            return
        raise Fault(ErrorCode.STREAM_CLOSED, "a frame on a stream that is closed", stream=number)

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & (f.PADDED | f.PRIORITY_FLAG):
            if flags & f.PADDED:
                payload = f.unpadded(payload)
            if flags & f.PRIORITY_FLAG:
                payload = self._unprioritised(number, payload)
        if flags & f.END_HEADERS:
            self._block(number, payload, bool(flags & f.END_STREAM))
            return
        self._usual = False
        self._open_block = _OpenBlock(number, payload, bool(flags & f.END_STREAM))

    def _unprioritised(self, number: int, payload: bytes) -> bytes:
        if len(payload) < 5:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for their priority")
        if _number_of(payload)[0] & _STREAM_BITS == number:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
        return payload[5:]

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._open_block
        if block is None or block.stream != number:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION of nothing")
        block.parts.append(payload)
        block.size += len(payload)
        if len(block.parts) > HTTP2_CONTINUATIONS_MAX or block.size > self._limits.header_size_max:
            raise Fault(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & f.END_HEADERS:
            self._open_block = None
            self._usual = True
            self._block(number, b"".join(block.parts), block.ended)

    def _block(self, number: int, block: bytes, ended: bool) -> None:
        # Read even when the stream is refused: the tables must see every block (RFC 9113 §4.3).
        reader = self._reader
        head = reader.whole.young.get(block)
        varying = b""
        if head is None:
            head, varying = reader.read(block)
        if number <= self.last or not number & 1:
            self._trailers(number, ended)
            return
        self.last = number
        outbox = self.outbox
        if self.leaving or len(self.streams) >= self._limits.streams_max:
            raise Fault(ErrorCode.REFUSED_STREAM, "too many streams", stream=number)
        stream = self.streams[number] = Stream(number, outbox.initial_window)
        if ended:
            stream.ended = True
        if head.fault or head.length >= 0:
            if head.fault or (head.length > 0 and ended):
                raise Fault(ErrorCode.PROTOCOL_ERROR, head.fault or "a body that does not come", stream=number)
            stream.expected = head.length
        self._sink.request(stream, head, varying, ended)

    def _trailers(self, number: int, ended: bool) -> None:
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            if number in self.outbox.dropped:
                self._late(number, f.END_STREAM if ended else 0)
                return
            # RFC 9113 §5.1.1: numbers only grow; on a stream that has ended, HEADERS end the connection.
            error = ErrorCode.STREAM_CLOSED if number & 1 and number else ErrorCode.PROTOCOL_ERROR
            raise Fault(error, "HEADERS on a stream that cannot begin")
        if not ended:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream", stream=number)
        stream.ended = True
        if stream.expected >= 0:
            self._count_down(stream, 0, ended=True)
        self._sink.data(stream, b"", True)

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        # RFC 9113 §5.3.2: given up, and passed over but for its form.
        if number == 0:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has five bytes", stream=number)
        if _number_of(payload)[0] & _STREAM_BITS == number:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself", stream=number)
        self._spend()

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        self._check_opened(number, "RST_STREAM")
        # What was asked for and taken back at once has cost us more than it has the peer (CVE-2023-44487).
        self._spend(2)
        self.outbox.dropped.pop(number, None)
        stream = self.streams.get(number)
        if stream is not None:
            self.outbox.drop(stream)
            self._sink.lost(stream)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & f.ACK:
            if payload:
                raise Fault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS has no payload")
            # The first one is for the greeting.
            self._acknowledged += 1
            if self._acknowledged == 2:
                self._reader.acknowledged()
            return
        self._spend(1 + len(payload) // 60)
        window = self._peer.window
        self._peer.read(payload)
        self.outbox.frame_size_max = self._peer.frame_size_max
        self.outbox.out.append(f.frame(f.SETTINGS, f.ACK, 0))
        if self._peer.window != window:
            self._spend(len(self.streams) // 100)
            self.outbox.resized(self._peer.window)

    def _push(self, flags: int, number: int, payload: bytes) -> None:
        raise Fault(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "PING has eight bytes")
        self._spend()
        if not flags & f.ACK:
            self.outbox.out.append(f.frame(f.PING, f.ACK, 0, payload))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")
        self._spend()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        size = _number_of(payload)[0] & _STREAM_BITS
        if number == 0:
            if not size:
                raise Fault(ErrorCode.PROTOCOL_ERROR, "a window that opens by nothing")
            self._spend_opening(size)
            self.outbox.opened(None, size)
            return
        self._check_opened(number, "WINDOW_UPDATE")
        self._spend_opening(size)
        if not size:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a window that opens by nothing", stream=number)
        stream = self.streams.get(number)
        if stream is not None:
            self.outbox.opened(stream, size)

    def _spend_opening(self, size: int) -> None:
        # Large steps are bounded by the window's own limit.
        if size < _OPENING_SIZE_MIN:
            self._spend()

    def _check_opened(self, number: int, what: str) -> None:
        if number == 0 or number > self.last or not number & 1:
            raise Fault(ErrorCode.PROTOCOL_ERROR, f"{what} on a stream that was never opened")

    # --- ends

    def leave(self, *, last: bool) -> None:
        """Say GOAWAY. Before the ``last`` one the peer is only asked to stop opening streams (RFC 9113 §6.8)."""
        if self.over:
            return
        self.outbox.out.append(f.goaway(self.last if last else _STREAM_BITS, ErrorCode.NO_ERROR))
        self.leaving = last

    def fail(self, fault: Fault) -> None:
        """End the connection: say why, and tell the sink of every stream that is lost by it."""
        if self.over:
            return
        self.over = True
        self.outbox.out.append(f.goaway(self.last, fault.error, fault.message))
        self.lose()

    def lose(self) -> None:
        """The connection is gone, and all its streams with it."""
        self.over = True
        self._held = b""
        for stream in list(self.streams.values()):
            finished = stream.finished
            self.outbox.drop(stream)
            if not finished:
                self._sink.lost(stream)

    def reset(self, stream: Stream, error: ErrorCode) -> None:
        """End one stream from our side; the sink is not told."""
        self.outbox.reset(stream, error)

    def _end_stream(self, fault: Fault) -> None:
        """The peer broke a rule of one stream."""
        self._spend()
        stream = self.streams.get(fault.stream)
        if stream is None:
            # It was refused, or had been closed before.
            self.outbox.out.append(f.reset(fault.stream, fault.error))
            self.outbox.forget(fault.stream)
            return
        self.outbox.reset(stream, fault.error)
        self._sink.lost(stream)


class _OpenBlock:
    """A header block that is not complete."""

    __slots__ = ("ended", "parts", "size", "stream")

    def __init__(self, stream: int, first: bytes, ended: bool) -> None:
        self.stream = stream
        self.parts = [first]
        self.size = len(first)
        self.ended = ended


def _preface_end(held: bytes) -> int:
    """Where the frames begin; 0 while the preface is not all there."""
    if not held.startswith(PREFACE[: len(held)]):
        raise Fault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin with HTTP/2's preface")
    return len(PREFACE) if len(held) >= len(PREFACE) else 0
