"""A WebSocket through the gateway: after the handshake, bytes go both ways as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

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

    def end(self) -> None:
        """It is over."""
        ...


class Tunnel:
    """Both directions, each held back by the other's pace."""

    __slots__ = ("_client", "_connection", "_over", "_trace", "idle_s")

    def __init__(
        self, client: TunnelClient, connection: Outbound, trace: Trace, over: Callable[[], None], *, idle_s: float
    ) -> None:
        self._client = client
        self._over = over
        self._connection: Outbound | None = connection
        self._trace = trace
        self.idle_s = idle_s
        connection.taker = self

    def from_client(self, data: bytes) -> None:
        """Bytes for the instance."""
        connection = self._connection
        if connection is not None:
            self._trace.received += len(data)
            connection.write(data)
            self._client.rest(connection.blocked)
            self._client.touched()

    def received(self, connection: Outbound, data: bytes) -> None:
        self._trace.sent += len(data)
        self._client.send(data)
        connection.rest(self._client.blocked)
        self._client.touched()

    def writable(self) -> None:
        self._client.rest(False)

    def client_writable(self) -> None:
        """The client takes bytes again."""
        if self._connection is not None:
            self._connection.rest(False)

    def lost(self, connection: Outbound) -> None:
        self._connection = None
        self._over()
        self._client.end()

    def client_gone(self) -> None:
        """The client has left."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._over()

    def leave(self) -> None:
        """The gateway is stopping."""
        self.client_gone()
        self._client.end()

    def expired(self) -> None:
        """Nothing passed for too long."""
        self.leave()
