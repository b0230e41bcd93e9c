"""A connection to an instance over HTTP/1.1: one request at a time, framed by us, and its answer read strictly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from townhall.gateway.answers import AnswerReader
from townhall.gateway.contracts import Taker
from townhall.gateway.fields import safe_trailers
from townhall.gateway.options import GatewayOptions
from townhall.gateway.requests import RequestHead
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved
from townhall.wire.http1 import CHUNKED, LAST_CHUNK, chunk

if TYPE_CHECKING:
    from townhall.gateway.endpoint import EndpointHttp1

__all__ = ["Outbound", "RawTaker"]


class RawTaker(Protocol):
    """What a connection works for that is not HTTP any more."""

    def received(self, data: bytes) -> None:
        """Bytes came from the instance."""
        ...

    def lost(self) -> None:
        """The connection has ended."""
        ...

    def writable(self) -> None:
        """The instance takes bytes again."""
        ...


class Outbound(asyncio.Protocol):
    """A ``contracts.Carrier``, again and again."""

    __slots__ = (
        "_chunked",
        "_piped",
        "_reader",
        "_resting",
        "_transport",
        "blocked",
        "endpoint",
        "idle_since",
        "reused",
        "taker",
    )

    def __init__(self, endpoint: EndpointHttp1, options: GatewayOptions) -> None:
        self.endpoint = endpoint
        self._reader = AnswerReader(options)
        self._transport: asyncio.Transport | None = None
        self.taker: Taker | None = None
        self._piped: RawTaker | None = None
        """Instead of ``taker`` when the protocol has changed."""
        self.blocked = False
        self._resting = False
        self._chunked = False
        """The present request's body is."""
        self.reused = False
        self.idle_since = 0.0

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.PROXY_BUFFER_SIZE_MAX)

    def data_received(self, data: bytes) -> None:
        taker, reader = self.taker, self._reader
        if taker is None:
            self._unasked(data)
            return
        try:
            reader.feed(data)
            while not reader.begun:
                head = reader.head()
                if head is None:
                    return
                taker.head_came(self, head)
                if self.taker is not taker:
                    return
            part = b"" if reader.ended else reader.part()
        except PeerMisbehaved as error:
            taker.broken(self, error.message)
            return
        taker.body_came(self, part, ended=reader.ended)

    def _unasked(self, data: bytes) -> None:
        if self._piped is not None:
            self._piped.received(data)
        else:
            # Nobody asked for anything: whatever this is, it must not become somebody's answer.
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.endpoint.gone(self)
        taker, self.taker = self.taker, None
        piped, self._piped = self._piped, None
        if piped is not None:
            piped.lost()
        elif taker is not None and self._reader.begun and self._reader.closed():
            taker.body_came(self, b"", ended=True)
        elif taker is not None:
            untouched = not self._reader.begun and not self._reader.held
            taker.lost(self, untouched=untouched, unprocessed=False)

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        taker = self.taker or self._piped
        if taker is not None:
            taker.writable()

    # --- contracts.Carrier

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """See ``contracts.Carrier``."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def trailers(self) -> bytes:
        """See ``contracts.Carrier``."""
        return self._reader.trailers

    def send(self, head: RequestHead, target: bytes, block: bytes, body: Sequence[bytes]) -> None:
        """See ``contracts.Carrier``."""
        self._reader.expect(head.method)
        self._chunked = head.fields.length == CHUNKED
        raw = b"%b %b HTTP/1.1\r\n%b" % (head.method, target, block)
        if body:
            raw += b"".join([chunk(part) for part in body] if self._chunked else body)
        self.write(raw)

    def body(self, data: bytes) -> None:
        """See ``contracts.Carrier``."""
        self.write(chunk(data) if self._chunked else data)

    def end(self, trailers: bytes) -> None:
        """See ``contracts.Carrier``."""
        if self._chunked:
            kept = safe_trailers(trailers)
            self.write(b"0\r\n" + kept + b"\r\n" if kept else LAST_CHUNK)

    def write(self, data: bytes) -> None:
        """Send; a connection that is lost swallows it, and says so to its taker."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def rest(self, rest: bool) -> None:
        """See ``contracts.Carrier``."""
        if rest is not self._resting and self._transport is not None and not self._transport.is_closing():
            self._resting = rest
            if rest:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def finished(self, *, whole: bool) -> None:
        """See ``contracts.Carrier``."""
        if whole and self._reader.goes_on:
            if self._resting:
                self.rest(False)
            self.endpoint.release(self)
        else:
            self.close()

    def close(self, *, hung: bool = False) -> None:
        """See ``contracts.Carrier``; the connection is cut."""
        self.taker = self._piped = None
        self.endpoint.gone(self)
        if self._transport is not None:
            self._transport.abort()

    # --- after 101

    def pipe(self, taker: RawTaker) -> bytes:
        """It is HTTP no more; returns the bytes that have come already."""
        self.taker = None
        self._piped = taker
        return self._reader.rest()

    def hang_up(self) -> None:
        """The same as ``close``, but what is written still goes out."""
        self.taker = self._piped = None
        self.endpoint.gone(self)
        if self._transport is not None:
            self._transport.close()
