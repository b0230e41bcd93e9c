"""One request of a client's over HTTP/2: a stream, as an exchange sees it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING

from townhall.gateway.alarm import Alarm
from townhall.gateway.answers import AnswerHead
from townhall.gateway.contracts import Carrier
from townhall.gateway.exchange import Exchange
from townhall.gateway.http2_heads import answer_block, trailer_block
from townhall.gateway.plane import Refusal, Way
from townhall.gateway.problems import GRPC, TABLE, Problem, of_misuse, said, said_in_grpc
from townhall.gateway.trace import Trace
from townhall.model.errors import Misuse, PeerMisbehaved
from townhall.wire.http1 import refusal
from townhall.wire.http2 import ErrorCode
from townhall.wire.http2.frames import END, block, headers
from townhall.wire.http2.heads import Head
from townhall.wire.http2.outbox import Stream

if TYPE_CHECKING:
    from townhall.gateway.inbound_http2 import InboundHttp2

__all__ = ["InboundStream"]


class InboundStream:
    """A ``contracts.Client``."""

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
            refused: Refusal | Way | None
            refused = way = plane.find(head, trace)
            if isinstance(way, Way):
                self._size_max = way.route.body_size_max
                self._check_size(head.fields.length)
                refused = plane.admit(way, trace)
                if refused is None:
                    self._exchange = Exchange(self, head, way, trace)
        except Misuse as error:
            self._reject(error)
            return
        if self._exchange is not None:
            self._exchange.start()
        elif isinstance(refused, Refusal):
            self._answer(TABLE[refused.code], refused.detail, retry_after_s=ceil(refused.wait_s))

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

    def lost(self) -> bool:
        """The client has taken it back, or is gone; whether that was before it had an answer."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return False
        exchange.client_gone()
        early = not self._trace.status
        self._trace.status = self._trace.status or 499
        self._over()
        return early

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
