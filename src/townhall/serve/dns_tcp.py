"""DNS over TCP (RFC 7766): messages with their length in front, many in a row, answered as they are ready."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from townhall.model import limits
from townhall.serve.wheel import Timed

if TYPE_CHECKING:
    from townhall.serve.dns import DnsServer

__all__ = ["StreamConnection"]

_LENGTH_SIZE = 2


class StreamConnection(asyncio.Protocol, Timed):
    """One TCP client."""

    def __init__(self, server: DnsServer) -> None:
        Timed.__init__(self)
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._paused = False
        self._pending = 0
        self._ending = False
        self.address = ""

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.DNS_WRITE_BUFFER_SIZE_MAX)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        if not self._server.arrived(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = None
        self._server.departed(self)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._buffer += data
        self._read()

    def eof_received(self) -> bool:
        """The client sends nothing more; what it asked is still answered."""
        self._ending = True
        return self._pending > 0

    def pause_writing(self) -> None:
        """The client does not take its answers: read nothing more from it."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
            self._read()

    # --- for the server

    def expired(self) -> None:
        """Nothing was asked for too long; what is still to come from a recursor has its own, shorter time."""
        self._server.counters.timed_out += 1
        self.abort()

    def abort(self) -> None:
        """Cut it off; idempotent."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Close when everything sent has been taken."""
        if self._transport is not None:
            self._transport.close()

    # --- inside

    def _read(self) -> None:
        buffer = self._buffer
        while not self._paused and self._transport is not None and len(buffer) >= _LENGTH_SIZE:
            size = int.from_bytes(buffer[:_LENGTH_SIZE], "big")
            if size > limits.DNS_QUERY_SIZE_MAX or size == 0:
                # What follows cannot be found any more without taking all of it in.
                self._server.counters.malformed += 1
                self.abort()
                return
            if len(buffer) < _LENGTH_SIZE + size:
                break
            data = bytes(buffer[_LENGTH_SIZE : _LENGTH_SIZE + size])
            del buffer[: _LENGTH_SIZE + size]
            self._server.wheel.arm(self, self._server.options.idle_timeout_ms)
            self._pending += 1
            self._server.streamed(data, self._answered)

    def _answered(self, answer: bytes | None) -> None:
        self._pending -= 1
        if self._transport is None:
            self._server.counters.dropped += answer is not None
            return
        if answer is None:
            # Not even a header: what comes behind it will not be better.
            self.abort()
            return
        self._transport.write(len(answer).to_bytes(_LENGTH_SIZE, "big") + answer)
        if self._ending and not self._pending:
            self._transport.close()
