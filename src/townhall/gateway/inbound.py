"""A client's connection: requests in, answers out, one after the other.

While one request is answered, what follows stays in the reader as bytes, so pipelined requests are served in order; when
too much waits there, reading stops. What cannot be understood is answered with 4xx and ends the connection, because
nothing after it can be understood either (RFC 9112 §11.2).

States: OPEN, TUNNEL (the bytes are not HTTP any more), LINGER (an early answer is sent; input is dropped so that the
answer is not lost), CLOSED.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Final, cast

from townhall.gateway.alarm import Alarm
from townhall.gateway.answers import UNTIL_CLOSE, AnswerHead
from townhall.gateway.contracts import Carrier
from townhall.gateway.exchange import Exchange
from townhall.gateway.outbound import Outbound
from townhall.gateway.plane import Refusal
from townhall.gateway.problems import TABLE, Problem, answer, of_misuse
from townhall.gateway.rendering import Asker, answer_head, field_block
from townhall.gateway.requests import Fields
from townhall.gateway.trace import Trace
from townhall.gateway.tunnel import Tunnel
from townhall.model import limits
from townhall.model.errors import Misuse
from townhall.wire.http1 import LAST_CHUNK, chunk, refusal
from townhall.wire.http1_reader import RequestReader

if TYPE_CHECKING:
    from townhall.gateway.plane import Plane

__all__ = ["Inbound"]

OPEN: Final = 0
TUNNEL: Final = 1
LINGER: Final = 2
CLOSED: Final = 3


class Inbound(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_alarm", "_asker", "_begun", "_block", "_block_for", "_chunked", "_ended", "_exchange", "_last", "_out", "_plane",
        "_reader", "_resting", "_running", "_state", "_trace", "_transport", "_tunnel", "address", "blocked",
    )  # fmt: skip

    def __init__(self, plane: Plane, scheme: bytes) -> None:
        self._plane = plane
        self._reader = RequestReader(plane.options)
        self._transport: asyncio.Transport | None = None
        self._asker = Asker(b"", scheme, trusted=False, forwarded=False, name=plane.name)
        self._exchange: Exchange | None = None
        self._trace: Trace | None = None
        self._tunnel: Tunnel | None = None
        self._state = OPEN
        self._running = False
        """Requests are being taken; who completes one meanwhile need not go on."""
        self._begun = False
        """A head has begun and its timeout runs."""
        self._last = False
        """The connection ends after the present answer."""
        self._ended = False
        """The client sends nothing more."""
        self._resting = False
        self._alarm = Alarm(plane.loop, self._expired)
        self._out: list[bytes] = []
        """The head of an answer, which goes out with the first of its body."""
        self._chunked = False
        """The present answer's body is."""
        self._block_for: tuple[Fields, bytes, bool] | None = None
        self._block = b""
        self.address = ""
        self.blocked = False

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        plane = self._plane
        self._asker = plane.asker(transport, self._asker.scheme)
        self.address = self._asker.address.decode("ascii", "replace")
        self._transport.set_write_buffer_limits(high=limits.PROXY_BUFFER_SIZE_MAX)
        if plane.arrived(self):
            self._settle()
        else:
            self._answer(TABLE["overloaded"], "too many connections")
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._state == TUNNEL:
            assert self._tunnel is not None
            self._tunnel.from_client(data)
            return
        if self._state >= LINGER:
            return
        self._reader.feed(data)
        if self._exchange is None:
            self._proceed()
        else:
            self.pump()

    def eof_received(self) -> bool:
        if self._state == TUNNEL or self._state >= LINGER or self._transport is None:
            return False
        self._ended = True
        # Half closed: when all of its request is here, or may be, the answer still goes out.
        reader = self._reader
        waits = self._exchange is not None and (reader.ended or reader.size > 0)
        return waits and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._state = CLOSED
        self._alarm.cancel()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.client_gone()
        if self._trace is not None:
            self._trace.status = self._trace.status or 499
            self._note()
        self._reader.drop()
        self._plane.departed(self)

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        if self._exchange is not None:
            self._exchange.client_writable()
        elif self._tunnel is not None:
            self._tunnel.client_writable()
        elif self._state == OPEN:
            self._proceed()

    # --- contracts.Client

    @property
    def unsent(self) -> int:
        """See ``contracts.Client``."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def block(self, authority: bytes, *, expects: bool) -> bytes:
        assert self._trace is not None
        assert self._trace.head is not None
        fields = self._trace.head.fields
        place = (fields, authority, expects)
        if self._block_for != place:
            self._block = field_block(fields, self._asker, authority=authority, expects=expects)
            self._block_for = place
        return self._block

    def interim(self, head: AnswerHead) -> None:
        """See ``contracts.Client``."""
        self.send(answer_head(head, 0, name=self._plane.name, old=False, close=False))

    def begin(self, head: AnswerHead, length: int, *, whole: bool) -> None:
        """See ``contracts.Client``."""
        assert self._trace is not None
        assert self._trace.head is not None
        old, framed = self._trace.head.fields.old, 0 <= length < UNTIL_CLOSE
        # A client of HTTP/1.0 learns the end of a body without length from the connection's end.
        if not whole or self._plane.stopping or (old and not framed):
            self._last = True
        self._chunked = not (framed or old)
        self._out = [answer_head(head, length, name=self._plane.name, old=old, close=self._last)]

    def more(self, parts: Sequence[bytes]) -> None:
        """See ``contracts.Client``."""
        out = self._out
        out += map(chunk, parts) if self._chunked else parts
        if out:
            self.send(b"".join(out))
            out.clear()

    def end(self, parts: Sequence[bytes], trailers: bytes) -> None:
        """See ``contracts.Client``."""
        out = self._out
        if self._chunked:
            out += map(chunk, parts)
            out.append(b"0\r\n" + trailers + b"\r\n" if trailers else LAST_CHUNK)
        else:
            out += parts
        if out:
            self.send(b"".join(out))
            out.clear()
        self._exchange = None
        self._note()
        if self._last or self._plane.stopping or not self._reader.ended:
            self._close()
        elif not self._running:
            if self._reader.size:
                # What is pipelined takes its turn after others.
                self._plane.loop.call_soon(self._proceed)
            else:
                self._settle()

    def refuse(self, code: str, detail: str, *, retry_after_s: int = 0) -> None:
        self._exchange = None
        self._answer(TABLE[code], detail, retry_after_s=retry_after_s)
        if self._last or not self._reader.ended:
            self._close()
        elif not self._running:
            self._plane.loop.call_soon(self._proceed)

    def cut(self) -> None:
        self._exchange = None
        self._note()
        self.abort()

    def pump(self) -> None:
        """Take of the request's body what its exchange wants; what it does not want keeps the client waiting."""
        exchange, reader = self._exchange, self._reader
        if exchange is None:
            return
        try:
            # The exchange may come to its end while it is given something.
            while self._wants_more(exchange):
                data = reader.part()
                if not data and not reader.ended:
                    break
                if reader.ended:
                    assert self._trace is not None
                    self._trace.trailers = reader.trailers
                exchange.body(data, ended=reader.ended)
        except Misuse as error:
            self._exchange = None
            exchange.client_gone()
            self._reject(error)
            return
        if self._ended and self._exchange is exchange and not reader.ended and not reader.size:
            # The rest of the body will never come.
            self._exchange = None
            exchange.client_gone()
            self._reject(refusal(400, "the request ended in the midst of its body"))
            return
        self._rest(self._exchange is not None and reader.size > limits.READ_AHEAD_SIZE_MAX)

    def _wants_more(self, exchange: Exchange) -> bool:
        return self._exchange is exchange and not self._reader.ended and exchange.hungry

    def due(self, when: float) -> None:
        """See ``contracts.Client``."""
        self._alarm.set(when)

    def switched(self, carrier: Carrier, head: AnswerHead, over: Callable[[], None], *, idle_s: float) -> None:
        """See ``contracts.Client``."""
        self._exchange = None
        self._state = TUNNEL
        assert self._trace is not None
        assert isinstance(carrier, Outbound), "only HTTP/1.1 changes its protocol"
        self.interim(head)
        self._tunnel = tunnel = Tunnel(self, carrier, self._trace, over, idle_s=idle_s)
        tunnel.start()
        self._reader.begin_body(1 << 62, size_max=None)
        early = self._reader.part()
        if early:
            tunnel.from_client(early)
        self.touched()

    # --- tunnel.TunnelClient

    def send(self, data: bytes) -> None:
        """Bytes for the client."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def touched(self) -> None:
        """Something passed through the tunnel."""
        self.due(self._plane.loop.time() + (self._tunnel.idle_s if self._tunnel is not None else 0.0))

    def over(self) -> None:
        """The tunnel is over: what is written goes out, then the connection ends."""
        self._tunnel = None
        self._note()
        self._close()

    def rest(self, rest: bool) -> None:
        """Stop or go on reading from the client."""
        self._rest(rest)

    # --- for the plane

    @property
    def idle(self) -> bool:
        """No request is being answered or read."""
        return self._exchange is None and self._tunnel is None and not self._reader.size

    def leave(self) -> None:
        """The gateway is stopping: end what waits for nothing, and let what runs come to its end."""
        self._last = True
        if self._tunnel is not None:
            self._tunnel.leave()
        elif self._state == OPEN and self.idle:
            self._close()

    def abort(self) -> None:
        """Cut the connection."""
        self._state = CLOSED
        if self._transport is not None:
            self._transport.abort()

    # --- within

    def _proceed(self) -> None:
        """Take requests, as long as they are here whole and answered at once."""
        if self._running or self._state != OPEN:
            return
        self._running = True
        try:
            while self._exchange is None and self._state == OPEN and not self.blocked:
                raw = self._reader.head()
                if raw is None:
                    break
                self._begin(raw)
        except Misuse as error:
            self._reject(error)
        self._running = False
        if self._exchange is None:
            self._settle()
        elif self._reader.size or not self._reader.ended or self._resting:
            self.pump()

    def _begin(self, raw: bytes) -> None:
        plane = self._plane
        self._begun = False
        head = plane.heads.read(raw)
        self._trace = trace = Trace(head, self.address, plane.loop.time())
        fields = head.fields
        self._last = not fields.keep_alive or plane.stopping
        if self._asker.trusted:
            trace.address = plane.client_behind(fields.claimed_for, self.address)
        refused: Refusal | None
        way = plane.find(head, trace)
        if isinstance(way, Refusal):
            refused = way
            self._reader.begin_body(fields.length, size_max=limits.READ_AHEAD_SIZE_MAX)
        else:
            self._reader.begin_body(fields.length, size_max=way.route.body_size_max)
            refused = plane.admit(way, trace)
            if refused is None:
                self._exchange = exchange = Exchange(self, head, way, trace)
                exchange.start()
                return
        self.refuse(refused.code, refused.detail, retry_after_s=ceil(refused.wait_s))

    def _settle(self) -> None:
        """After anything has happened: which timeout runs."""
        if self._state != OPEN or self._exchange is not None:
            return
        plane = self._plane
        if self._resting:
            self._rest(False)
        if self._ended:
            self._close()
        elif not self._reader.size:
            self._alarm.set(plane.loop.time() + plane.options.client_idle)
        elif not self._begun:
            self._begun = True
            self._alarm.set(plane.loop.time() + plane.options.header_timeout)

    def _expired(self) -> None:
        if self._state == LINGER:
            self.abort()
        elif self._tunnel is not None:
            self._tunnel.expired()
        elif self._exchange is not None:
            self._exchange.expired()
        elif self._begun:
            self._reject(refusal(408, "the request did not come to its end in time"))
        else:
            self._close()

    def _rest(self, rest: bool) -> None:
        if rest != self._resting and self._transport is not None and not self._transport.is_closing():
            self._resting = rest
            if rest:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _reject(self, error: Misuse) -> None:
        """Answer what cannot be read, and end."""
        self._last = True
        if self._trace is None:
            self._trace = Trace(None, self.address, self._plane.loop.time())
        if self._trace.status:
            # An answer has begun; a second one must not be put into its midst.
            self._note()
            self.abort()
            return
        self._plane.counters.malformed += 1
        self._answer(of_misuse(error), error.message)
        self._close(linger=True)

    def _answer(self, problem: Problem, detail: str, *, retry_after_s: int = 0) -> None:
        trace = self._trace
        head = trace.head if trace is not None else None
        close = self._last or not self._reader.ended
        body = head is None or head.method != b"HEAD"
        self.send(answer(problem, detail, close=close, body=body, retry_after_s=retry_after_s))
        if trace is not None:
            trace.status, trace.code = problem.status, problem.code
            self._note()

    def _note(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None:
            self._plane.noted(trace)

    def _close(self, *, linger: bool = False) -> None:
        """Send what is written, then end. ``linger``: the client may still be sending, and closing over unread bytes
        would reset the connection and lose the answer.
        """
        transport = self._transport
        if transport is None or self._state >= LINGER:
            return
        unread = linger or not self._reader.ended or self._reader.size
        if unread and not self._ended and not transport.is_closing() and transport.can_write_eof():
            self._state = LINGER
            self._reader.drop()
            self._rest(False)
            transport.write_eof()
            self.due(self._plane.loop.time() + self._plane.options.linger)
        else:
            self._state = CLOSED
            transport.close()
