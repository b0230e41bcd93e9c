"""One port for HTTP/1.1 and HTTP/2: the first bytes tell them apart.

HTTP/2 begins with ``PRI * HTTP/2.0`` (RFC 9113 §3.4), which no HTTP/1.1 request does. Over TLS the two have been agreed
on by ALPN, and the first bytes say the same. Where only one of them is served, the other ends with a word about it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from townhall.serve.http1 import Connection
from townhall.serve.http2 import Http2Peer
from townhall.serve.wheel import Timed
from townhall.wire.http2 import PREFACE

if TYPE_CHECKING:
    from townhall.serve.calls import CallDriver
    from townhall.serve.driver import Driver

__all__ = ["Entry"]

_ENOUGH: Final = 4
"""Bytes that tell: no method begins with ``PRI``."""
_NO_HTTP1: Final = b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Length: 28\r\n\r\nthis port speaks gRPC alone\n"


class Entry(Timed, asyncio.Protocol):
    """A connection that has said nothing yet."""

    __slots__ = ("_calls", "_held", "_http", "_transport", "address")

    def __init__(self, calls: CallDriver, http: Driver | None) -> None:
        super().__init__()
        self._calls = calls
        self._http = http
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        calls = self._calls
        if calls.peers.arrived(self):
            calls.wheel.arm(self, calls.http.header_timeout_ms)
        else:
            # Neither protocol has begun, so there is no word for it in which it would be understood.
            calls.counters.turned_away += 1
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        if PREFACE.startswith(data[:_ENOUGH]):
            if len(data) < _ENOUGH:
                self._held = data
                return
            self._hand_over(Http2Peer(self._calls), data)
        elif b"\n" in data and b" HTTP/1." not in data[: data.index(b"\n")]:
            # It is neither, and HTTP/2 has a word for that which its clients understand.
            self._hand_over(Http2Peer(self._calls), data)
        elif self._http is not None:
            self._hand_over(Connection(self._http), data)
        elif self._transport is not None:
            self._calls.counters.malformed += 1
            self._transport.write(_NO_HTTP1)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._calls.wheel.forget(self)
            self._calls.peers.departed(self)

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def expired(self) -> None:
        self._calls.counters.timed_out += 1
        self.abort()

    def _hand_over(self, protocol: Http2Peer | Connection, data: bytes) -> None:
        transport, self._transport = self._transport, None
        assert transport is not None
        self._calls.wheel.forget(self)
        # It arrives again at once, counted by what it speaks.
        self._calls.peers.departed(self)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)
