"""The client's end of a connection: requests out, answers in (RFC 9113), without I/O.

The other half of ``connection``, for a proxy that speaks HTTP/2 with its instances. It asks for no table and no pushes,
reads answers strictly (RFC 9113 §8.1.1: an answer that is malformed is a stream's fault), and what the server breaks of the
connection's rules ends it: ``over`` is set and every stream is lost.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final, Protocol

import hpack

from townhall.model.limits import HTTP2_CONTINUATIONS_MAX
from townhall.wire.http2 import PREFACE, ErrorCode, Fault, Http2Limits, Writable
from townhall.wire.http2 import frames as f
from townhall.wire.http2.guard import Guard
from townhall.wire.http2.heads import OF_CONNECTIONS, Field
from townhall.wire.http2.outbox import Outbox, Stream
from townhall.wire.http2.settings import Settings, asking

__all__ = ["Requested", "Requester", "RequesterSink"]

_HEAD_SIZE: Final = 9
_STREAM_BITS: Final = 2**31 - 1
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_STATUS: Final = re.compile(rb"[1-5][0-9]{2}")
_number_of = struct.Struct(">I").unpack_from


class Requested(Stream):
    """A request and its answer."""

    answer: int | None = None
    """The final status, when it has come."""
    bodiless: bool = False
    """The answer has no body, whatever its fields say (HEAD)."""


class RequesterSink(Writable, Protocol):
    """Whom it tells. Calls come from within ``receive`` and may answer at once."""

    def answered(self, stream: Requested, status: int, fields: list[Field], *, ended: bool) -> None:
        """A head of an answer, final or not."""
        ...

    def data(self, stream: Requested, data: bytes, *, ended: bool) -> None:
        """A part of its body."""
        ...

    def trailers(self, stream: Requested, fields: list[Field]) -> None:
        """What came behind the body; the answer is complete."""
        ...

    def lost(self, stream: Requested, why: str, *, unprocessed: bool) -> None:
        """The answer will not be completed. ``unprocessed``: it is certain that nothing was done with the request."""
        ...


class RequestOutbox(Outbox):
    """Requests instead of answers: one that is complete has its answer before it."""

    __slots__ = ()

    def _finish(self, stream: Stream) -> None:
        stream.finished = True
        if stream.ended:
            del self.streams[stream.id]


class Requester:
    """One connection. ``outbox`` is what it says: ``begin``, ``send`` and ``end`` on a stream of ``open``."""

    __slots__ = (
        "_block", "_decoder", "_half", "_handlers", "_held", "_limits", "_next", "_peer", "_sink", "_stream_half", "_unacked", "guard", "leaving", "outbox",
        "over", "streams", "streams_max",
    )  # fmt: skip

    def __init__(self, limits: Http2Limits, sink: RequesterSink, room: int) -> None:
        self._limits = limits
        self._sink = sink
        self._decoder = hpack.Decoder(max_header_list_size=limits.header_size_max)
        self._peer = Settings()
        self._held = b""
        self._next = 1
        self._block: tuple[int, bool, list[bytes]] | None = None
        """HEADERS without END_HEADERS: nothing but CONTINUATION may follow."""
        self._unacked = 0
        self.guard = Guard(limits.noise_max)
        self._half = limits.connection_window_size // 2
        self._stream_half = limits.stream_window_size // 2
        self.outbox = RequestOutbox(sink, room)
        self.outbox.out.append(PREFACE + asking(limits))
        self.streams = self.outbox.streams
        self.streams_max = limits.streams_max
        """At the same time; the server may want fewer."""
        self.leaving = False
        """The server takes no more streams."""
        self.over = False
        self._handlers: tuple[Callable[[int, int, bytes], None], ...] = (
            self._data, self._headers, self._pass, self._reset, self._settings, self._push, self._ping, self._goaway,
            self._window_update, self._continuation,
        )  # fmt: skip

    # --- requests

    @property
    def free(self) -> bool:
        """Whether one more stream may be opened."""
        return not (self.over or self.leaving) and len(self.streams) < self.streams_max

    def open(self) -> Requested:
        """A stream for a request."""
        assert self.free
        number, self._next = self._next, self._next + 2
        if self._next > _STREAM_BITS - 2:
            self.leaving = True
        stream = self.streams[number] = Requested(number, self.outbox.initial_window)
        return stream

    def resume(self, stream: Requested) -> None:
        """What came on a paused stream has been dealt with."""
        stream.paused = False
        self._acknowledge(stream)

    def cancel(self, stream: Requested) -> None:
        """Nothing more is wanted of it; the sink is not told."""
        self.outbox.reset(stream, ErrorCode.CANCEL)

    # --- bytes in

    def receive(self, data: bytes) -> None:
        """Take what has arrived."""
        if self.over:
            return
        held = self._held + data if self._held else data
        try:
            at = self._read(held)
        except Fault as fault:
            self.fail(fault)
        else:
            self._held = held[at:]

    def _read(self, held: bytes) -> int:
        at, end = 0, len(held)
        while end - at >= _HEAD_SIZE and not self.over:
            high, low, kind, flags, number = f.head_of(held, at)
            start = at + _HEAD_SIZE
            stop = start + (high << 8 | low)
            if stop - start > f.FRAME_SIZE_MIN:
                raise Fault(ErrorCode.FRAME_SIZE_ERROR, "a frame over the size that was agreed on")
            if stop > end:
                break
            at = stop
            if self._block is not None and kind != f.CONTINUATION:
                raise Fault(ErrorCode.PROTOCOL_ERROR, "a header block that is interrupted")
            if kind < len(self._handlers):
                try:
                    self._handlers[kind](flags, number & _STREAM_BITS, held[start:stop])
                except Fault as fault:
                    if not fault.stream:
                        raise
                    self._end_stream(fault)
        return at

    # --- frames

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._unacked += size
        if self._unacked >= self._half:
            self.outbox.out.append(f.window_update(0, self._unacked))
            self._unacked = 0
        stream = self._stream(number)
        if stream is None:
            return
        if stream.answer is None:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a body before its head", stream=number)
        if flags & f.PADDED:
            payload = f.unpadded(payload)
        ended = bool(flags & f.END_STREAM)
        if stream.expected >= 0:
            stream.expected -= len(payload)
            if stream.expected < 0 or (ended and stream.expected):
                raise Fault(ErrorCode.PROTOCOL_ERROR, "a body that is not as long as was said", stream=number)
        stream.unacked += size
        if stream.unacked > self._limits.stream_window_size:
            raise Fault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window", stream=number)
        if ended:
            self._ended(stream)
        elif not stream.paused:
            self._acknowledge(stream)
        if payload or ended:
            self._sink.data(stream, payload, ended=ended)

    def _acknowledge(self, stream: Requested) -> None:
        if stream.unacked >= self._stream_half and not stream.ended:
            self.outbox.out.append(f.window_update(stream.id, stream.unacked))
            stream.unacked = 0

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & f.PADDED:
            payload = f.unpadded(payload)
        if flags & f.PRIORITY_FLAG:
            payload = payload[5:]
        if not number & 1 or number >= self._next:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that was never opened")
        self._block = (number, bool(flags & f.END_STREAM), [])
        self._continuation(flags, number, payload)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION of nothing")
        _, ended, parts = self._block
        parts.append(payload)
        if len(parts) > HTTP2_CONTINUATIONS_MAX + 1:
            raise Fault(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & f.END_HEADERS:
            self._block = None
            # Read whether anybody wants it or not: the tables must see every block (RFC 9113 §4.3).
            try:
                raw = self._decoder.decode(b"".join(parts), raw=True)
            except (hpack.HPACKError, IndexError) as error:
                raise Fault(ErrorCode.COMPRESSION_ERROR, "a header block that cannot be decoded") from error
            stream = self._stream(number)
            if stream is not None:
                self._head(stream, [(bytes(name), bytes(value)) for name, value in raw], ended=ended)

    def _head(self, stream: Requested, fields: list[Field], *, ended: bool) -> None:
        if stream.answer is not None:
            if not ended:
                raise Fault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream", stream=stream.id)
            if stream.expected > 0:
                raise Fault(ErrorCode.PROTOCOL_ERROR, "a body that is not as long as was said", stream=stream.id)
            _check(fields, stream.id)
            self._ended(stream)
            self._sink.trailers(stream, fields)
            return
        if not fields or fields[0][0] != b":status" or _STATUS.fullmatch(fields[0][1]) is None:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "an answer without status", stream=stream.id)
        status, fields = int(fields[0][1]), fields[1:]
        _check(fields, stream.id)
        if status < 200:
            if ended or status == 101:
                raise Fault(ErrorCode.PROTOCOL_ERROR, "an interim answer that is the last", stream=stream.id)
        else:
            stream.answer = status
            stream.expected = -1 if stream.bodiless or status in (204, 304) else _length_of(fields, stream.id)
            if ended:
                if stream.expected > 0:
                    raise Fault(ErrorCode.PROTOCOL_ERROR, "a body that does not come", stream=stream.id)
                self._ended(stream)
        self._sink.answered(stream, status, fields, ended=ended)

    def _ended(self, stream: Requested) -> None:
        stream.ended = True
        if stream.finished:
            del self.streams[stream.id]

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        stream = self._stream(number)
        if stream is not None:
            code = _number_of(payload)[0]
            self.outbox.drop(stream)
            self._sink.lost(stream, f"reset with {_named(code)}", unprocessed=code == ErrorCode.REFUSED_STREAM)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & f.ACK:
            return
        self.guard.spend(1, self._next)
        window = self._peer.window
        self._peer.read(payload)
        self.outbox.frame_size_max = self._peer.frame_size_max
        self.streams_max = min(self._limits.streams_max, self._peer.streams_max)
        self.outbox.out.append(f.frame(f.SETTINGS, f.ACK, 0))
        if self._peer.window != window:
            self.outbox.resized(self._peer.window)

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "PING has eight bytes")
        self.guard.spend(1, self._next)
        if not flags & f.ACK:
            self.outbox.out.append(f.frame(f.PING, f.ACK, 0, payload))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) < 8:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")
        self.leaving = True
        last = _number_of(payload)[0] & _STREAM_BITS
        for stream in [one for one in self.streams.values() if one.id > last]:
            assert isinstance(stream, Requested)
            # RFC 9113 §6.8: they were not looked at.
            self.outbox.drop(stream)
            self._sink.lost(stream, "the instance is leaving", unprocessed=True)

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        size = _number_of(payload)[0] & _STREAM_BITS
        if not size:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a window that opens by nothing", stream=number)
        if number == 0:
            self.outbox.opened(None, size)
        else:
            stream = self._stream(number)
            if stream is not None:
                self.outbox.opened(stream, size)

    def _push(self, flags: int, number: int, payload: bytes) -> None:
        raise Fault(ErrorCode.PROTOCOL_ERROR, "a push that was forbidden")

    def _pass(self, flags: int, number: int, payload: bytes) -> None:
        """PRIORITY means nothing (RFC 9113 §5.3.2)."""

    def _stream(self, number: int) -> Requested | None:
        """The stream of a frame; None for one that has ended. Raises ``Fault``."""
        if not number & 1 or number >= self._next:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was never opened")
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            return None
        assert isinstance(stream, Requested)
        return stream

    # --- ends

    def fail(self, fault: Fault) -> None:
        """End the connection and say why."""
        if not self.over:
            self.outbox.out.append(f.goaway(0, fault.error, fault.message))
            self.lose(fault.message)

    def lose(self, why: str) -> None:
        """The connection is gone, and all its streams with it."""
        self.over = True
        self._held = b""
        for stream in list(self.streams.values()):
            assert isinstance(stream, Requested)
            ended = stream.ended
            self.outbox.drop(stream)
            if not ended:
                self._sink.lost(stream, why, unprocessed=False)

    def _end_stream(self, fault: Fault) -> None:
        stream = self.streams.get(fault.stream)
        if stream is None:
            return
        assert isinstance(stream, Requested)
        self.outbox.reset(stream, fault.error)
        self._sink.lost(stream, fault.message, unprocessed=False)


def _check(fields: list[Field], stream: int) -> None:
    for name, value in fields:
        if name in OF_CONNECTIONS or _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise Fault(ErrorCode.PROTOCOL_ERROR, "a field that HTTP/2 does not have", stream=stream)


def _length_of(fields: list[Field], stream: int) -> int:
    lengths = {value for name, value in fields if name == b"content-length"}
    if not lengths:
        return -1
    (value, *more) = lengths
    if more or not value.isdigit() or len(value) > 18:
        raise Fault(ErrorCode.PROTOCOL_ERROR, "a content-length that is no number, or two", stream=stream)
    return int(value)


def _named(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode.__members__.values() else str(code)
