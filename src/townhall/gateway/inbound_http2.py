"""A client's connection over HTTP/2: requests side by side, each an exchange of its own.

What breaks the protocol's rules is dealt with by ``wire.http2``. Bodies of requests are held back by their streams'
windows while an instance takes no more, and answers by the client's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Final, cast

from townhall.gateway.alarm import Alarm
from townhall.gateway.answers import AnswerHead
from townhall.gateway.contracts import Carrier
from townhall.gateway.exchange import Exchange
from townhall.gateway.http2_heads import answer_block, trailer_block
from townhall.gateway.plane import Refusal, Way
from townhall.gateway.problems import GRPC, TABLE, Problem, of_misuse, said, said_in_grpc
from townhall.gateway.rendering import Asker, field_block
from townhall.gateway.requests import Fields
from townhall.gateway.trace import Trace
from townhall.model import limits
from townhall.model.errors import Misuse, PeerMisbehaved
from townhall.wire.http1 import refusal
from townhall.wire.http2 import ErrorCode
from townhall.wire.http2.connection import Connection
from townhall.wire.http2.frames import END, block, headers
from townhall.wire.http2.heads import Head
from townhall.wire.http2.outbox import Stream

if TYPE_CHECKING:
    from townhall.gateway.plane import Plane

__all__ = ["InboundHttp2"]

_GOODBYE_S: Final = 0.1
"""Between the two GOAWAYs: what the client opened before it read the first one is served."""
_TICKS_PER_S: Final = 20
"""Of the purse that ``wire.http2.guard`` keeps."""


class InboundHttp2(asyncio.Protocol):
    """One client: the sink of its ``wire.http2`` connection and the protocol of its transport."""

    __slots__ = (
        "_alarm", "_asker", "_block", "_block_for", "_blocked", "_going", "_leaving", "_mark", "_resting", "_running", "_said", "_scheme",
        "_transport", "address", "outbox", "plane", "wire",
    )  # fmt: skip

    def __init__(self, plane: Plane, scheme: bytes) -> None:
        self.plane = plane
        self.wire = Connection(plane.http2, plane.memory, self, limits.PROXY_BUFFER_SIZE_MAX)
        self.outbox = self.wire.outbox
        self.address = ""
        self._transport: asyncio.Transport | None = None
        self._scheme = scheme
        self._asker = Asker(b"", scheme, trusted=False, forwarded=False, name=plane.name)
        self._block_for: tuple[Fields, bytes, bool] | None = None
        self._block = b""
        self._alarm = Alarm(plane.loop, self._expired)
        self._running = False
        """Input is being taken; what is said meanwhile goes out together."""
        self._said = False
        """What was said goes out at the end of this turn."""
        self._going = False
        """More input is taken in the next turn."""
        self._blocked = False
        """The socket takes no more for now."""
        self._resting = False
        self._leaving = False
        self._mark = -1
        """What the client had not taken when it was looked at last."""

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.PROXY_BUFFER_SIZE_MAX)
        self._asker = self.plane.asker(transport, self._scheme)
        self.address = self._asker.address.decode("ascii", "replace")
        self.plane.arrived(self)
        self._alarm.set(self.plane.loop.time() + self.plane.options.header_timeout)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.wire.feed(data)
        if self.wire.greeted and not self._leaving:
            self._alarm.set(self.plane.loop.time() + self.plane.options.client_idle)
        if not self._going and not self._blocked:
            self._read()

    def eof_received(self) -> bool:
        # A client that says no more cannot open windows either.
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._alarm.cancel()
        self.wire.lose()
        self.plane.departed(self)

    def pause_writing(self) -> None:
        self._blocked = True
        self.outbox.room = 0
        self._rest()

    def resume_writing(self) -> None:
        self._blocked = False
        self.outbox.room = limits.PROXY_BUFFER_SIZE_MAX
        self.outbox.pump()
        # What was held back is read now; this flushes as well.
        self._read()

    # --- wire.http2.Sink

    def request(self, stream: Stream, head: Head, varying: bytes, ended: bool) -> None:
        """See ``wire.http2``."""
        asking = stream.owner = _Asking(self, stream)
        asking.start(head, varying, ended=ended)

    def data(self, stream: Stream, data: bytes, ended: bool) -> None:
        """See ``wire.http2``."""
        # Nobody wants it when the answer is complete, though the client has not taken all of it.
        if isinstance(stream.owner, _Asking):
            stream.owner.data(data, ended=ended)

    def whole(self, stream: Stream, head: Head, data: bytes) -> None:
        """See ``wire.http2``; never called, since no head is said to be given so."""
        raise AssertionError("no head says that it may be given whole")

    def lost(self, stream: Stream) -> None:
        """See ``wire.http2``."""
        if isinstance(stream.owner, _Asking):
            stream.owner.lost()

    def writable(self, stream: Stream) -> None:
        """See ``wire.http2``."""
        if isinstance(stream.owner, _Asking):
            stream.owner.writable()

    # --- for the requests

    def block(self, fields: Fields, authority: bytes, *, expects: bool) -> bytes:
        """The fields that an instance gets."""
        place = (fields, authority, expects)
        if self._block_for != place:
            self._block = field_block(fields, self._asker, authority=authority, expects=expects)
            self._block_for = place
        return self._block

    def client_behind(self, fields: Fields) -> str:
        """Who asks, as far as it may be believed."""
        return self.plane.client_behind(fields.claimed_for, self.address) if self._asker.trusted else self.address

    def say(self) -> None:
        """Something was put into the outbox: it goes out with this turn of the loop."""
        if not self._running and not self._said:
            self._said = True
            self.plane.loop.call_soon(self._flush)

    # --- plane.Leaver

    def leave(self) -> None:
        """See ``plane.Leaver``."""
        self._leaving = True
        self.wire.leave(last=False)
        self._flush()
        self._alarm.set(self.plane.loop.time() + _GOODBYE_S)

    def abort(self) -> None:
        """See ``plane.Leaver``."""
        if self._transport is not None:
            self._transport.abort()

    # --- within

    def _expired(self) -> None:
        unsent = self.outbox.unsent + (self._transport.get_write_buffer_size() if self._transport is not None else 0)
        if self._leaving:
            self.wire.leave(last=True)
            self._flush()
        elif not self.wire.greeted or (unsent and unsent == self._mark):
            # It says nothing, or takes nothing.
            self.abort()
        elif not self.wire.streams:
            self.wire.leave(last=True)
            self._flush()
        else:
            self._mark = unsent
            self._alarm.set(self.plane.loop.time() + self.plane.options.client_idle)

    def _read(self) -> None:
        self.wire.guard.tick = int(self.plane.loop.time() * _TICKS_PER_S)
        self._running = True
        try:
            more = self.wire.proceed()
        finally:
            self._running = False
        if more and not self._going:
            self._going = True
            self.plane.loop.call_soon(self._go_on)
        self._flush()
        if self._resting or self._going or self._blocked:
            self._rest()

    def _go_on(self) -> None:
        self._going = False
        if not self._blocked:
            self._read()

    def _rest(self) -> None:
        """Read from the socket, or let the client wait."""
        rest = self._blocked or (self._going and self.wire.held > limits.READ_AHEAD_SIZE_MAX)
        transport = self._transport
        if rest != self._resting and transport is not None and not transport.is_closing():
            self._resting = rest
            if rest:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _flush(self) -> None:
        self._said = False
        transport, outbox = self._transport, self.outbox
        if transport is None or transport.is_closing():
            outbox.out.clear()
            return
        if outbox.out:
            transport.write(outbox.take())
        if not self._blocked:
            outbox.room = limits.PROXY_BUFFER_SIZE_MAX
            if outbox.unsent:
                outbox.pump()
                if outbox.out:
                    self.say()
        if self.wire.over or (self.wire.leaving and not self.wire.streams):
            self.plane.counters.malformed += self.wire.over
            transport.close()


class _Asking:
    """One request: a ``contracts.Client``."""

    __slots__ = ("_alarm", "_connection", "_ended", "_exchange", "_head", "_held", "_size_max", "_stream", "_trace")

    def __init__(self, connection: InboundHttp2, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._exchange: Exchange | None = None
        self._trace = Trace(None, connection.address, connection.plane.loop.time())
        self._alarm: Alarm | None = None
        self._head: tuple[AnswerHead, int] | None = None
        """The answer's, not sent yet."""
        self._held: deque[bytes] = deque()
        """What came of the body and was not taken yet; the stream's window bounds it."""
        self._ended = False
        """The client has said its last."""
        self._size_max = 0
        """What may still come of a body."""

    def start(self, raw: Head, varying: bytes, *, ended: bool) -> None:
        """Read the head and take the request where it belongs."""
        plane, trace = self._connection.plane, self._trace
        self._ended = ended
        try:
            trace.head = head = plane.http2_heads.read(raw, varying, ended=ended)
            trace.address = self._connection.client_behind(head.fields)
            way = plane.find(head, trace)
            if isinstance(way, Way):
                self._size_max = way.route.body_size_max
                self._check_size(head.fields.length)
                way = plane.admit(way, trace)
        except Misuse as error:
            self._reject(error)
            return
        if isinstance(way, Refusal):
            self._answer(TABLE[way.code], way.detail, retry_after_s=ceil(way.wait_s))
            return
        self._exchange = Exchange(self, head, way, trace)
        self._exchange.start()

    def data(self, data: bytes, *, ended: bool) -> None:
        """A part of the request's body."""
        if self._exchange is None:
            return
        self._ended = ended
        if data:
            try:
                self._check_size(len(data))
            except Misuse as error:
                self._exchange.client_gone()
                self._reject(error)
                return
            self._size_max -= len(data)
            self._held.append(data)
        self.pump()

    def lost(self) -> None:
        """The client has taken it back, or is gone."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()
            self._trace.status = self._trace.status or 499
            self._over()

    def writable(self) -> None:
        """The client has taken all that was sent."""
        if self._exchange is not None:
            self._exchange.client_writable()

    # --- contracts.Client

    @property
    def blocked(self) -> bool:
        """See ``contracts.Client``."""
        return self._stream.pending is not None

    @property
    def unsent(self) -> int:
        """See ``contracts.Client``."""
        return self._stream.unsent

    def block(self, authority: bytes, *, expects: bool) -> bytes:
        """See ``contracts.Client``."""
        assert self._trace.head is not None
        return self._connection.block(self._trace.head.fields, authority, expects=expects)

    def interim(self, head: AnswerHead) -> None:
        """See ``contracts.Client``."""
        made = answer_block(head, 0, name=self._connection.plane.name, ends=False)
        self._connection.outbox.out.append(headers(made, self._stream.id))
        self._connection.say()

    def begin(self, head: AnswerHead, length: int, *, whole: bool) -> None:
        """See ``contracts.Client``."""
        self._head = (head, length)

    def more(self, parts: Sequence[bytes]) -> None:
        """See ``contracts.Client``."""
        stream, outbox = self._stream, self._connection.outbox
        if self._head is not None:
            head, length = self._head
            self._head = None
            outbox.begin(stream, answer_block(head, length, name=self._connection.plane.name, ends=False))
        for part in parts:
            outbox.send(stream, part)
        self._connection.say()

    def end(self, parts: Sequence[bytes], trailers: bytes) -> None:
        """See ``contracts.Client``."""
        stream, outbox = self._stream, self._connection.outbox
        last = trailer_block(trailers) if trailers else END
        if self._head is None:
            for part in parts:
                outbox.send(stream, part)
            outbox.end(stream, last)
        else:
            (head, length), data = self._head, b"".join(parts)
            ends = not data and not trailers
            made = answer_block(head, length, name=self._connection.plane.name, ends=ends)
            if ends:
                outbox.begin(stream, made)
            else:
                outbox.answer(stream, made, b"", data, last)
        self._over()

    def refuse(self, code: str, detail: str) -> None:
        """See ``contracts.Client``."""
        self._answer(TABLE[code], detail)

    def cut(self) -> None:
        """See ``contracts.Client``."""
        self._connection.wire.reset(self._stream, ErrorCode.INTERNAL_ERROR)
        self._over()

    def pump(self) -> None:
        """See ``contracts.Client``."""
        exchange, held, stream = self._exchange, self._held, self._stream
        # The exchange may come to its end while it is given something.
        while exchange is not None and exchange.hungry and (held or self._ended):
            data = held.popleft() if held else b""
            exchange.body(data, ended=self._ended and not held)
            exchange = self._exchange
        if held:
            stream.paused = True
        elif stream.paused:
            self._connection.wire.resume(stream)
            self._connection.say()

    def due(self, when: float) -> None:
        """See ``contracts.Client``."""
        if self._alarm is None:
            self._alarm = Alarm(self._connection.plane.loop, self._expired)
        self._alarm.set(when)

    def switched(self, carrier: Carrier, head: AnswerHead, over: Callable[[], None], *, idle_s: float) -> None:
        """See ``contracts.Client``; HTTP/2 has no Upgrade, so it is never asked for."""
        raise PeerMisbehaved("the instance switched protocols unasked")

    # --- within

    def _expired(self) -> None:
        if self._exchange is not None:
            self._exchange.expired()

    def _check_size(self, size: int) -> None:
        if size > self._size_max:
            raise refusal(413, "the body is too large", limit=self._size_max)

    def _reject(self, error: Misuse) -> None:
        if self._trace.status:
            # An answer has begun.
            self.cut()
            return
        self._connection.plane.counters.malformed += 1
        self._answer(of_misuse(error), error.message)

    def _answer(self, problem: Problem, detail: str, *, retry_after_s: int = 0) -> None:
        trace, outbox, stream = self._trace, self._connection.outbox, self._stream
        fields, content = said(problem, detail, retry_after_s=retry_after_s)
        status = problem.status
        if trace.head is not None and trace.head.method == b"HEAD":
            content = b""
        elif trace.head is not None and trace.head.fields.by_name.get(b"content-type", b"").startswith(GRPC):
            status, content, fields = 200, b"", said_in_grpc(problem, detail)
        made = block([(b":status", b"%d" % status), *fields], ends=not content)
        if content:
            outbox.answer(stream, made, b"", content, END)
        else:
            outbox.begin(stream, made)
        trace.status, trace.code = problem.status, problem.code
        self._over()

    def _over(self) -> None:
        """It is answered, or cannot be."""
        self._exchange = None
        self._stream.owner = None
        self._held.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        self._connection.plane.noted(self._trace)
        self._connection.say()
