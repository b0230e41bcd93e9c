"""A WebSocket through the gateway: after the handshake, bytes go both ways as they are.

Frames are followed only as far as their ends, so that both sides can be told when the gateway leaves: a close frame with
1001 (going away) is put in where the present frame ends, and nothing is passed on after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from townhall.gateway.frames import GOING_AWAY, FrameEnds, close_frame
from townhall.gateway.outbound import Outbound

if TYPE_CHECKING:
    from townhall.gateway.trace import Trace

__all__ = ["Tunnel", "TunnelClient"]


class TunnelClient(Protocol):
    """The client's side."""

    blocked: bool

    def send(self, data: bytes) -> None:
        """Bytes from the instance."""
        ...

    def rest(self, rest: bool) -> None:
        """Stop or go on reading from the client."""
        ...

    def touched(self) -> None:
        """Something passed; the idle timeout begins anew."""
        ...

    def over(self) -> None:
        """It is over."""
        ...


class Tunnel:
    """Both directions, each held back by the other's pace."""

    __slots__ = (
        "_client",
        "_connection",
        "_down",
        "_leaving",
        "_over",
        "_told_down",
        "_told_up",
        "_trace",
        "_up",
        "idle_s",
    )

    def __init__(
        self, client: TunnelClient, connection: Outbound, trace: Trace, over: Callable[[], None], *, idle_s: float
    ) -> None:
        self._client = client
        self._over = over
        self._connection: Outbound | None = connection
        self._trace = trace
        self._up, self._down = FrameEnds(), FrameEnds()
        self._leaving = self._told_up = self._told_down = False
        self.idle_s = idle_s

    def start(self) -> None:
        """Pass on what came from the instance already, and all that comes."""
        assert self._connection is not None
        early = self._connection.pipe(self)
        if early:
            self.received(early)

    def from_client(self, data: bytes) -> None:
        """Bytes for the instance."""
        connection, closed = self._connection, self._up.closed
        end = self._up.feed(data)
        if self._told_up or connection is None:
            if self._told_down and self._up.closed:
                # Its answer to our close: nothing is to come any more.
                self.expired()
            return
        self._trace.received += len(data)
        if self._leaving and end is not None and not closed:
            connection.write(data[:end] + close_frame(GOING_AWAY, masked=True))
            self._told_up = True
        else:
            connection.write(data)
            self._client.rest(connection.blocked)
        self._client.touched()

    def received(self, data: bytes) -> None:
        connection = self._connection
        if self._told_down or connection is None:
            return
        self._trace.sent += len(data)
        closed = self._down.closed
        end = self._down.feed(data)
        if self._leaving and end is not None and not closed:
            self._client.send(data[:end] + close_frame(GOING_AWAY, masked=False))
            self._told_down = True
        else:
            self._client.send(data)
            connection.rest(self._client.blocked)
        self._client.touched()

    def writable(self) -> None:
        self._client.rest(False)

    def client_writable(self) -> None:
        """The client takes bytes again."""
        if self._connection is not None:
            self._connection.rest(False)

    def lost(self) -> None:
        self._connection = None
        self._over()
        if not self._told_down:
            self._client.over()

    def client_gone(self) -> None:
        """The client has left."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.hang_up()
            self._over()

    def leave(self) -> None:
        """The gateway is stopping: tell both sides where their present frames end, and let them close."""
        self._leaving = True
        if self._down.between:
            self._told_down = True
            self._client.send(close_frame(GOING_AWAY, masked=False))
        if self._connection is not None and self._up.between:
            self._told_up = True
            self._connection.write(close_frame(GOING_AWAY, masked=True))

    def expired(self) -> None:
        """Nothing passed for too long."""
        self.client_gone()
        self._client.over()
