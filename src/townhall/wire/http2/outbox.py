"""What a server says: answers cut to the windows that the peer has opened (RFC 9113 §5.2 and §6.9).

Bytes for the socket are gathered in ``out`` and taken with ``take``. Beside the peer's windows there is ``room``, what
the socket itself still takes. What does not fit waits on its stream; streams with an open window of their own stand in
``waiting`` and take turns, a frame each, so that a large answer does not keep small ones waiting.
"""

from __future__ import annotations

import struct
from collections import OrderedDict, deque

from townhall.model.limits import HTTP2_DROPPED_COUNT_MAX
from townhall.wire.http2 import ErrorCode, Fault, Writable
from townhall.wire.http2.frames import FRAME_SIZE_MIN, WINDOW_MAX, Block, headers, reset
from townhall.wire.http2.settings import WINDOW_DEFAULT

__all__ = ["Outbox", "Stream"]

_pack_number = struct.Struct(">I").pack
_pack_data = struct.Struct(">IBI").pack
"""A DATA frame's head in three numbers: the size with the kind, which is 0, behind it."""


class Stream:
    """One exchange. It is asked for what it is far more often than it is made, hence the slots."""

    __slots__ = (
        "again", "due", "ended", "expected", "finished", "id", "owner", "paused", "pending", "started", "trailers",
        "unacked", "unsent", "window",
    )  # fmt: skip

    def __init__(self, number: int, window: int) -> None:
        self.id = number
        self.window = window
        """What the peer still takes on it; may be negative after it has changed its mind."""
        self.owner: object = None
        self.due = 0
        """Both for the sink."""
        self.again: object = None
        """Set by the sink when it may answer whole frames at once; equal for streams that are answered alike. See
        ``Sink.answering``.
        """
        self.ended = False
        """The peer has said its last."""
        self.started = False
        """Our head is sent."""
        self.finished = False
        """Nothing more is said on it by us."""
        self.paused = False
        """Its window is not opened again for now: what came is not dealt with yet."""
        self.unacked = 0
        """Bytes received since its window was opened last."""
        self.expected = -1
        """What is left of the announced content-length; -1 when none was announced."""
        self.pending: deque[bytes | memoryview] | None = None
        self.unsent = 0
        """Bytes in ``pending``."""
        self.trailers: Block | None = None
        """Said when ``pending`` is empty."""


class Outbox:
    """One connection's answers."""

    __slots__ = (
        "_sink", "_waiting", "dropped", "frame_size_max", "initial_window", "out", "room", "streams", "unsent", "window",
    )  # fmt: skip

    def __init__(self, sink: Writable, room: int) -> None:
        self._sink = sink
        self.streams: dict[int, Stream] = {}
        """All that are not closed on both sides."""
        self.out: list[bytes] = []
        self.room = room
        """DATA bytes that the socket still takes."""
        self.window = WINDOW_DEFAULT
        self.initial_window = WINDOW_DEFAULT
        self.frame_size_max = FRAME_SIZE_MIN
        self.unsent = 0
        """DATA bytes that wait, of all streams."""
        self._waiting: OrderedDict[Stream, None] = OrderedDict()
        self.dropped: OrderedDict[int, None] = OrderedDict()
        """Streams that we ended while the peer may still be sending on them."""

    def take(self) -> bytes:
        """The bytes for the socket; they are not here any more."""
        out = self.out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    # --- answers

    def answer(self, stream: Stream, head: Block, prefix: bytes, data: bytes, trailers: Block) -> None:
        """A whole answer: its head, its data in two parts (so that nobody need join them), its trailers."""
        if stream.finished:
            return
        size = len(prefix) + len(data)
        if size <= self.window and size <= stream.window and size <= FRAME_SIZE_MIN and size <= self.room:
            number = _pack_number(stream.id)
            self.window -= size
            self.room -= size
            self.out += (
                head.first, number, head.fields, _pack_data(size << 8, 0, stream.id), prefix, data,
                trailers.first, number, trailers.fields,
            )  # fmt: skip
            self._finish(stream)
            return
        self.begin(stream, head)
        self.send(stream, prefix + data)
        self.end(stream, trailers)

    def begin(self, stream: Stream, head: Block) -> None:
        """The head of an answer; with ``head.ends`` it is all of it."""
        if stream.finished:
            return
        assert not stream.started, "an answer has one head"
        stream.started = True
        self.out.append(headers(head, stream.id))
        if head.ends:
            self._finish(stream)

    def send(self, stream: Stream, data: bytes) -> None:
        """A piece of an answer that goes on."""
        if not data or stream.finished:
            return
        assert stream.started, "data stands behind the head"
        assert stream.trailers is None, "data stands before the trailers"
        if stream.pending is None:
            size = len(data)
            if size <= self.window and size <= stream.window and size <= FRAME_SIZE_MIN and size <= self.room:
                self.window -= size
                self.room -= size
                stream.window -= size
                # Not joined here: many streams may be sent the same bytes.
                self.out += (_pack_data(size << 8, 0, stream.id), data)
                return
            stream.pending = deque()
            if stream.window > 0:
                self._waiting[stream] = None
        # A view is cut without copying what is left.
        stream.pending.append(memoryview(data) if len(data) > FRAME_SIZE_MIN else data)
        stream.unsent += len(data)
        self.unsent += len(data)
        self.pump()

    def end(self, stream: Stream, trailers: Block) -> None:
        """The end of an answer, after all that waits on it."""
        if stream.finished:
            return
        assert trailers.ends
        if stream.pending is not None:
            stream.trailers = trailers
            return
        self.out.append(headers(trailers, stream.id))
        self._finish(stream)

    def reset(self, stream: Stream, error: ErrorCode) -> None:
        """End a stream in the middle of whatever it does; the sink is not told."""
        if self.streams.get(stream.id) is stream:
            self.out.append(reset(stream.id, error))
            if not stream.ended:
                self.forget(stream.id)
            self.drop(stream)

    def forget(self, number: int) -> None:
        """A stream ended while the peer may still be sending on it: what comes is passed over."""
        self.dropped[number] = None
        if len(self.dropped) > HTTP2_DROPPED_COUNT_MAX:
            self.dropped.popitem(last=False)

    def drop(self, stream: Stream) -> None:
        """The stream is closed on both sides."""
        self.streams.pop(stream.id, None)
        stream.finished = stream.ended = True
        if stream.pending is not None:
            self.unsent -= stream.unsent
            stream.unsent = 0
            stream.pending = None
            self._waiting.pop(stream, None)

    # --- windows

    def opened(self, stream: Stream | None, size: int) -> None:
        """The peer takes so much more, on a stream or in all. Raises ``Fault``."""
        if stream is None:
            self.window += size
            if self.window > WINDOW_MAX:
                raise Fault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is above 2^31-1")
            self.pump()
            return
        shut = stream.window <= 0
        stream.window += size
        if stream.window > WINDOW_MAX:
            raise Fault(ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is above 2^31-1", stream=stream.id)
        if shut and stream.pending is not None and stream.window > 0:
            self._waiting[stream] = None
            self.pump()

    def resized(self, initial: int) -> None:
        """The peer has changed the initial window: of the streams that there are as well. Raises ``Fault``."""
        change, self.initial_window = initial - self.initial_window, initial
        if not change:
            return
        for stream in self.streams.values():
            shut = stream.window <= 0
            stream.window += change
            if stream.window > WINDOW_MAX:
                raise Fault(ErrorCode.FLOW_CONTROL_ERROR, "a window is above 2^31-1")
            if shut and stream.pending is not None and stream.window > 0:
                self._waiting[stream] = None
        self.pump()

    def pump(self) -> None:
        """Send what waits, as far as the windows and the socket take it."""
        waiting = self._waiting
        while waiting and self.window > 0 and self.room > 0:
            stream, _ = waiting.popitem(last=False)
            if stream.pending is None or stream.window <= 0:
                continue
            self._send_frame(stream)
            if stream.pending:
                if stream.window > 0:
                    waiting[stream] = None
                continue
            stream.pending = None
            if stream.trailers is not None:
                self.out.append(headers(stream.trailers, stream.id))
                self._finish(stream)
            else:
                self._sink.writable(stream)

    def _send_frame(self, stream: Stream) -> None:
        assert stream.pending
        size = min(stream.window, self.window, self.room, self.frame_size_max)
        data = stream.pending.popleft()
        if len(data) > size:
            stream.pending.appendleft(data[size:])
            data = data[:size]
        else:
            size = len(data)
        stream.window -= size
        self.window -= size
        self.room -= size
        stream.unsent -= size
        self.unsent -= size
        self.out.append(_pack_data(size << 8, 0, stream.id) + data)

    def _finish(self, stream: Stream) -> None:
        stream.finished = True
        if stream.ended:
            del self.streams[stream.id]
        else:
            # RFC 9113 §8.1: the answer is complete, and the rest of the request is not wanted.
            self.reset(stream, ErrorCode.NO_ERROR)
