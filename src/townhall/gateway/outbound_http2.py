"""A connection to an instance over HTTP/2: many requests at the same time, each a ``contracts.Carrier``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from townhall.gateway.contracts import Taker
from townhall.gateway.fields import rendered
from townhall.gateway.http2_heads import answer_of, request_block
from townhall.gateway.http2_pipe import Http2Pipe
from townhall.gateway.requests import RequestHead
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved
from townhall.wire.http2 import Http2Limits
from townhall.wire.http2.frames import END
from townhall.wire.http2.heads import Field
from townhall.wire.http2.outbox import Stream
from townhall.wire.http2.requester import Requested, Requester

if TYPE_CHECKING:
    from townhall.gateway.endpoint_http2 import EndpointHttp2

__all__ = ["OutboundHttp2", "StreamCarrier"]


class OutboundHttp2(Http2Pipe[Requester]):
    """The sink of its ``wire.http2.requester`` and the protocol of its transport."""

    __slots__ = ("endpoint", "idle_since", "used")

    def __init__(self, endpoint: EndpointHttp2, sizes: Http2Limits) -> None:
        super().__init__(Requester(sizes, self, limits.PROXY_BUFFER_SIZE_MAX), asyncio.get_running_loop())
        self.endpoint = endpoint
        self.used = False
        """It has carried a request."""
        self.idle_since = 0.0

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._attach(transport)
        self.idle_since = self._loop.time()
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._begin()
        try:
            self.wire.receive(data)
        finally:
            self._running = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.wire.lose("the instance closed the connection too early")
        self.endpoint.gone(self)

    # --- wire.http2.requester.RequesterSink

    def answered(self, stream: Requested, status: int, fields: list[Field], *, ended: bool) -> None:
        """See ``wire.http2.requester``."""
        if isinstance(stream.owner, StreamCarrier):
            stream.owner.answered(status, fields, ended=ended)

    def data(self, stream: Requested, data: bytes, *, ended: bool) -> None:
        """See ``wire.http2.requester``."""
        if isinstance(stream.owner, StreamCarrier):
            stream.owner.came(data, ended=ended)

    def trailers(self, stream: Requested, fields: list[Field]) -> None:
        """See ``wire.http2.requester``."""
        if isinstance(stream.owner, StreamCarrier):
            stream.owner.trailers = rendered(fields)
            stream.owner.came(b"", ended=True)

    def lost(self, stream: Requested, why: str, *, unprocessed: bool) -> None:
        """See ``wire.http2.requester``."""
        if isinstance(stream.owner, StreamCarrier):
            stream.owner.lost(unprocessed=unprocessed)

    def writable(self, stream: Stream) -> None:
        """See ``wire.http2.requester``."""
        if isinstance(stream.owner, StreamCarrier) and stream.owner.taker is not None:
            stream.owner.taker.writable()

    # --- for the endpoint and the carriers

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None and not self._transport.is_closing() and not self.wire.over

    @property
    def agreed(self) -> str | None:
        """The protocol that TLS has agreed on; None when on none."""
        return self._transport.get_extra_info("ssl_object").selected_alpn_protocol() if self._transport else None

    def carrier(self) -> StreamCarrier:
        """A way for one more request."""
        carrier = StreamCarrier(self)
        self.used = True
        return carrier

    def done(self) -> None:
        """A stream has ended."""
        self.idle_since = self._loop.time()
        self.endpoint.freed(self)
        self.say()

    def close(self) -> None:
        """Let go of the instance."""
        if self._transport is not None:
            self._transport.close()


class StreamCarrier:
    """One stream: a ``contracts.Carrier``."""

    __slots__ = ("_connection", "_stream", "endpoint", "reused", "taker", "trailers")

    def __init__(self, connection: OutboundHttp2) -> None:
        self._connection = connection
        self._stream: Requested | None = None
        """Opened with the request: a number that is skipped cannot be used later."""
        self.endpoint = connection.endpoint
        self.taker: Taker | None = None
        self.reused = connection.used
        self.trailers = b""

    # --- from the connection

    def answered(self, status: int, fields: list[Field], *, ended: bool) -> None:
        """A head has come."""
        taker = self.taker
        if taker is None:
            return
        try:
            taker.head_came(self, answer_of(status, fields, ended=ended))
        except PeerMisbehaved as error:
            taker.broken(self, error.message)
            return
        if status >= 200 and self.taker is taker:
            taker.body_came(self, b"", ended=ended)

    def came(self, data: bytes, *, ended: bool) -> None:
        """A part of the body has come, or its end."""
        if self.taker is not None:
            self.taker.body_came(self, data, ended=ended)

    def lost(self, *, unprocessed: bool) -> None:
        """The stream has ended too early."""
        taker, stream = self.taker, self._stream
        self._let_go()
        if taker is not None:
            assert stream is not None
            taker.lost(self, untouched=stream.answer is None, unprocessed=unprocessed)

    # --- contracts.Carrier

    @property
    def blocked(self) -> bool:
        """See ``contracts.Carrier``."""
        return self._stream is not None and self._stream.pending is not None

    @property
    def unsent(self) -> int:
        """See ``contracts.Carrier``."""
        return self._stream.unsent if self._stream is not None else 0

    def send(self, head: RequestHead, target: bytes, block: bytes, body: Sequence[bytes]) -> None:
        """See ``contracts.Carrier``."""
        ends, wire = not head.fields.length, self._connection.wire
        self._stream = stream = wire.open()
        stream.owner = self
        stream.bodiless = head.method == b"HEAD"
        made = request_block(head.method, target, block, scheme=self.endpoint.scheme, ends=ends)
        wire.outbox.begin(stream, made)
        for part in body:
            wire.outbox.send(stream, part)
        self._connection.say()

    def body(self, data: bytes) -> None:
        """See ``contracts.Carrier``."""
        assert self._stream is not None
        self._connection.wire.outbox.send(self._stream, data)
        self._connection.say()

    def end(self, trailers: bytes) -> None:
        """See ``contracts.Carrier``; trailers of requests end here."""
        assert self._stream is not None
        self._connection.wire.outbox.end(self._stream, END)
        self._connection.say()

    def rest(self, rest: bool) -> None:
        """See ``contracts.Carrier``: the stream's window holds the instance back."""
        stream = self._stream
        if stream is None:
            return
        if rest:
            stream.paused = True
        elif stream.paused:
            self._connection.wire.resume(stream)
            self._connection.say()

    def finished(self, *, whole: bool) -> None:
        """See ``contracts.Carrier``."""
        self.close()

    def close(self, *, hung: bool = False) -> None:
        """See ``contracts.Carrier``; a stream that has not ended is cancelled, and others may come to their end."""
        if hung:
            self._connection.wire.leaving = True
        if self._stream is not None:
            self._connection.wire.cancel(self._stream)
        self._let_go()

    def _let_go(self) -> None:
        self.taker = None
        if self._stream is not None and self._stream.owner is self:
            self._stream.owner = None
            self._connection.done()
