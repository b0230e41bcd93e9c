"""A client's connection over HTTP/2: requests side by side, each an exchange of its own.

What breaks the protocol's rules is dealt with by ``wire.http2``. Bodies of requests are held back by their streams'
windows while an instance takes no more, and answers by the client's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from townhall.gateway.alarm import Alarm
from townhall.gateway.http2_pipe import Http2Pipe
from townhall.gateway.inbound_stream import InboundStream
from townhall.gateway.rendering import Asker, field_block
from townhall.gateway.requests import Fields
from townhall.model import limits
from townhall.wire.http2 import ErrorCode, Fault
from townhall.wire.http2.connection import Connection
from townhall.wire.http2.heads import Head
from townhall.wire.http2.outbox import Stream

if TYPE_CHECKING:
    from townhall.gateway.plane import Plane

__all__ = ["InboundHttp2"]

_GOODBYE_S: Final = 0.1
"""Between the two GOAWAYs: what the client opened before it read the first one is served."""


class InboundHttp2(Http2Pipe[Connection]):
    """One client: the sink of its ``wire.http2`` connection and the protocol of its transport."""

    __slots__ = (
        "_alarm", "_asker", "_block", "_block_for", "_cancelled", "_going", "_leaving", "_mark", "_resting", "_scheme", "address", "plane",
    )  # fmt: skip

    def __init__(self, plane: Plane, scheme: bytes) -> None:
        super().__init__(Connection(plane.http2, plane.memory, self, limits.PROXY_BUFFER_SIZE_MAX), plane.loop)
        self.plane = plane
        self.address = ""
        self._scheme = scheme
        self._asker = Asker(b"", scheme, trusted=False, forwarded=False, name=plane.name)
        self._block_for: tuple[Fields, bytes, bool] | None = None
        self._block = b""
        self._alarm = Alarm(plane.loop, self._expired)
        self._going = False
        """More input is taken in the next turn."""
        self._resting = False
        self._leaving = False
        self._cancelled = 0
        """Requests that were taken back before they had an answer."""
        self._mark = -1
        """What the client had not taken when it was looked at last."""

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._attach(transport)
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

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._alarm.cancel()
        self.wire.lose()
        self.plane.departed(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._rest()

    def resume_writing(self) -> None:
        super().resume_writing()
        # What was held back meanwhile is read now.
        self._read()

    # --- wire.http2.Sink

    def request(self, stream: Stream, head: Head, varying: bytes, ended: bool) -> None:
        """See ``wire.http2``."""
        begun = stream.owner = InboundStream(self, stream)
        begun.start(head, varying, ended=ended)

    def answering(self, stream: Stream) -> None:
        """See ``wire.http2``: nothing is answered here."""

    def data(self, stream: Stream, data: bytes, ended: bool) -> None:
        """See ``wire.http2``."""
        # Nobody wants it when the answer is complete, though the client has not taken all of it.
        if isinstance(stream.owner, InboundStream):
            stream.owner.data(data, ended=ended)

    def whole(self, stream: Stream, head: Head, data: bytes) -> None:
        """See ``wire.http2``; never called, since no head is said to be given so."""
        raise AssertionError("no head says that it may be given whole")

    def lost(self, stream: Stream) -> None:
        """See ``wire.http2``."""
        if isinstance(stream.owner, InboundStream) and stream.owner.lost():
            self._cancelled += 1
            # Streams have every second number.
            most = self._cancelled > limits.PROXY_CANCELLED_MAX and self._cancelled * 4 > self.wire.last
            if most and not self.wire.over:
                raise Fault(ErrorCode.ENHANCE_YOUR_CALM, "most requests were taken back")

    def writable(self, stream: Stream) -> None:
        """See ``wire.http2``."""
        if isinstance(stream.owner, InboundStream):
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
        self._begin()
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

    def _end(self, transport: asyncio.Transport) -> None:
        self.plane.counters.malformed += self.wire.over
        super()._end(transport)
