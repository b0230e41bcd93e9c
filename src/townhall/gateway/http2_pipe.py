"""What a connection over HTTP/2 does with its transport, whichever side it is on."""

from __future__ import annotations

import asyncio
from typing import Final, Generic, TypeVar, cast

from townhall.model import limits
from townhall.wire.http2.connection import Connection
from townhall.wire.http2.outbox import Outbox
from townhall.wire.http2.requester import Requester

__all__ = ["Http2Pipe"]

_W = TypeVar("_W", bound=Connection | Requester)
_TICKS_PER_S: Final = 20
"""Of the purse that ``wire.http2.guard`` keeps."""


class Http2Pipe(asyncio.Protocol, Generic[_W]):
    """Carries what the outbox of ``wire`` holds to the transport, as fast as that takes it.

    What is said within one turn of the loop, or while input is taken (between ``_begin`` and ``_running = False``), goes
    out together.
    """

    __slots__ = ("_blocked", "_loop", "_running", "_said", "_transport", "outbox", "wire")

    def __init__(self, wire: _W, loop: asyncio.AbstractEventLoop) -> None:
        self.wire = wire
        self.outbox: Outbox = wire.outbox
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._running = False
        """Input is being taken."""
        self._said = False
        """What was said goes out at the end of this turn."""
        self._blocked = False
        """The socket takes no more for now."""

    # --- asyncio.Protocol

    def eof_received(self) -> bool:
        # A peer that says no more cannot open windows either.
        return False

    def pause_writing(self) -> None:
        self._blocked = True
        self.outbox.room = 0

    def resume_writing(self) -> None:
        self._blocked = False
        self.outbox.room = limits.PROXY_BUFFER_SIZE_MAX
        self.outbox.pump()
        self._flush()

    # --- for the requests

    def say(self) -> None:
        """Something was put into the outbox: it goes out with this turn of the loop."""
        if not self._running and not self._said:
            self._said = True
            self._loop.call_soon(self._flush)

    # --- for the two sides

    def _attach(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.PROXY_BUFFER_SIZE_MAX)

    def _begin(self) -> None:
        """Input is taken from here on."""
        self.wire.guard.tick = int(self._loop.time() * _TICKS_PER_S)
        self._running = True

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
            self._end(transport)

    def _end(self, transport: asyncio.Transport) -> None:
        """Nothing more is to be said."""
        transport.close()
