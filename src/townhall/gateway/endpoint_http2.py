"""The HTTP/2 connections to one instance: one as a rule, more when the instance takes no more requests on it."""

from __future__ import annotations

import asyncio

from townhall.gateway.contracts import Waiter
from townhall.gateway.endpoint import Endpoint
from townhall.gateway.options import GatewayOptions
from townhall.gateway.outbound_http2 import OutboundHttp2, StreamCarrier
from townhall.model import limits
from townhall.wire.http2 import Http2Limits

__all__ = ["EndpointHttp2"]

_IDLE_S = limits.PROXY_INSTANCE_IDLE_MS / 1000


class EndpointHttp2(Endpoint):
    """One address of one service that speaks HTTP/2 from the first byte (or as TLS agrees)."""

    def __init__(self, host: str, port: int, options: GatewayOptions) -> None:
        super().__init__(host, port, options)
        self._sizes = Http2Limits(
            streams_max=limits.PROXY_STREAMS_MAX,
            stream_window_size=limits.PROXY_STREAM_WINDOW_SIZE,
            header_size_max=options.header_size_max,
        )
        self._all: list[OutboundHttp2] = []

    @property
    def scheme(self) -> bytes:
        """Of the requests' targets."""
        return b"https" if self.ssl_context is not None else b"http"

    @property
    def connections(self) -> int:
        """See ``Endpoint``."""
        return len(self._all)

    @property
    def busy(self) -> bool:
        """See ``Endpoint``."""
        return bool(self._opening or self.waiting) or any(one.wire.streams for one in self._all)

    def take(self, *, unsafe: bool) -> StreamCarrier | None:
        """See ``Endpoint``. What goes on a connection that ends is told apart by its number, so nothing is unsafe."""
        for one in self._all:
            if one.open and one.wire.free:
                return one.carrier()
        return None

    def ask(self, waiter: Waiter, *, pending_max: int) -> bool:
        """See ``Endpoint``. Those that come while a connection is opened share it."""
        if len(self.waiting) >= pending_max:
            return False
        self.waiting[waiter] = None
        self._open_more()
        return True

    def freed(self, connection: OutboundHttp2) -> None:
        """A stream of it has ended."""
        if self.waiting:
            self._serve(connection)

    def gone(self, connection: OutboundHttp2) -> None:
        """It has ended."""
        if connection in self._all:
            self._all.remove(connection)
            self._open_more()

    def expire(self) -> None:
        """See ``Endpoint``."""
        now = asyncio.get_running_loop().time()
        for one in [one for one in self._all if not one.wire.streams and now - one.idle_since > _IDLE_S]:
            one.close()

    def forget_idle(self) -> None:
        """See ``Endpoint``."""
        for one in [one for one in self._all if not one.wire.streams]:
            one.close()

    def close(self) -> None:
        """See ``Endpoint``."""
        super().close()
        for one in tuple(self._all):
            one.close()

    def _open_more(self) -> None:
        if self.waiting and not self._opening and len(self._all) < self.connections_max:
            self._spawn(self._open())

    async def _open(self) -> None:
        try:
            connection = await self._connected(lambda: OutboundHttp2(self, self._sizes))
            if self.ssl_context is not None and connection.agreed != "h2":
                connection.close()
                # RFC 9113 §3.2: over TLS it is agreed upon, never taken for granted.
                raise ConnectionAbortedError("TLS with the instance does not agree on HTTP/2 (ALPN)")
        except OSError as error:
            self._opened()
            waiting, self.waiting = self.waiting, {}
            for waiter in waiting:
                waiter.not_connected(error)
            return
        self._opened()
        self._all.append(connection)
        self._serve(connection)
        self._open_more()

    def _serve(self, connection: OutboundHttp2) -> None:
        while self.waiting and connection.open and connection.wire.free:
            # One that does not want it any more has opened no stream.
            self._next().connected(connection.carrier())
