"""A client that has said nothing yet: HTTP/2 when its first bytes, or TLS's agreement, say so, else HTTP/1.1.

HTTP/2 begins with ``PRI * HTTP/2.0`` (RFC 9113 §3.4), which no HTTP/1.1 request does. Over TLS the two have been agreed
on by ALPN, and the first bytes say the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from townhall.gateway.alarm import Alarm
from townhall.gateway.inbound import Inbound
from townhall.gateway.inbound_http2 import InboundHttp2
from townhall.wire.http2 import PREFACE

if TYPE_CHECKING:
    from townhall.gateway.plane import Plane

__all__ = ["Entry"]

_ENOUGH: Final = 4
"""Bytes that tell: no method begins with ``PRI``."""


class Entry(asyncio.Protocol):
    """Hands its connection over with the first bytes."""

    __slots__ = ("_alarm", "_held", "_plane", "_scheme", "_transport")

    def __init__(self, plane: Plane, scheme: bytes) -> None:
        self._plane = plane
        self._scheme = scheme
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._alarm = Alarm(plane.loop, self.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._plane.full:
            # HTTP/1.1 has a word for it, and HTTP/2's clients read it as that they are not served.
            self._hand_over(Inbound(self._plane, self._scheme), b"")
            return
        self._plane.arrived(self)
        self._alarm.set(self._plane.loop.time() + self._plane.options.client_idle)

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        if PREFACE.startswith(data[:_ENOUGH]):
            if len(data) < _ENOUGH:
                self._held = data
                self._alarm.set(self._plane.loop.time() + self._plane.options.header_timeout)
            else:
                self._hand_over(InboundHttp2(self._plane, self._scheme), data)
        else:
            self._hand_over(Inbound(self._plane, self._scheme), data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._let_go()

    def leave(self) -> None:
        """See ``plane.Leaver``."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """See ``plane.Leaver``."""
        if self._transport is not None:
            self._transport.abort()

    def _let_go(self) -> asyncio.Transport:
        transport, self._transport = self._transport, None
        assert transport is not None
        self._alarm.cancel()
        self._plane.departed(self)
        return transport

    def _hand_over(self, protocol: Inbound | InboundHttp2, data: bytes) -> None:
        # It arrives again at once, as what it is.
        transport = self._let_go()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)
