"""Connections to one instance: kept alive between requests, opened when there is none, never more than allowed."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from townhall.gateway.answers import AnswerReader
from townhall.gateway.options import GatewayOptions
from townhall.model import limits

if TYPE_CHECKING:
    import ssl

__all__ = ["Endpoint", "Outbound", "Taker", "Waiter"]

_REUSE_S = limits.PROXY_INSTANCE_IDLE_MS / 1000
_REUSE_UNSAFE_S = limits.PROXY_REUSE_UNSAFE_MS / 1000


class Taker(Protocol):
    """What a connection works for."""

    def received(self, connection: Outbound, data: bytes) -> None:
        """Bytes came from the instance."""
        ...

    def lost(self, connection: Outbound) -> None:
        """The connection has ended."""
        ...

    def writable(self) -> None:
        """The instance takes bytes again."""
        ...


class Waiter(Protocol):
    """Who asked for a connection."""

    def connected(self, connection: Outbound) -> None:
        """Here is one; who does not want it any more gives it back with ``release``."""
        ...

    def not_connected(self, error: OSError) -> None:
        """There is none to be had."""
        ...


class Outbound(asyncio.Protocol):
    """One connection to an instance."""

    __slots__ = ("blocked", "endpoint", "idle_since", "reader", "resting", "reused", "taker", "transport")

    def __init__(self, endpoint: Endpoint, options: GatewayOptions) -> None:
        self.endpoint = endpoint
        self.reader = AnswerReader(options)
        self.transport: asyncio.Transport | None = None
        self.taker: Taker | None = None
        self.blocked = False
        """The kernel takes no more for now."""
        self.resting = False
        self.reused = False
        """It has carried a request before the present one."""
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=limits.PROXY_BUFFER_SIZE_MAX)

    def data_received(self, data: bytes) -> None:
        if self.taker is None:
            # Nobody asked for anything: whatever this is, it must not become somebody's answer.
            self.close()
        else:
            self.taker.received(self, data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.endpoint.gone(self)
        taker, self.taker = self.taker, None
        if taker is not None:
            taker.lost(self)

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        if self.taker is not None:
            self.taker.writable()

    def write(self, data: bytes) -> None:
        """Send; a connection that is lost swallows it, and says so to its taker."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def rest(self, rest: bool) -> None:
        """Stop or go on reading."""
        if rest is not self.resting and self.transport is not None and not self.transport.is_closing():
            self.resting = rest
            if rest:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def finish(self) -> None:
        """The same as ``close``, but what is written still goes out."""
        self.taker = None
        self.endpoint.gone(self)
        if self.transport is not None:
            self.transport.close()

    def close(self) -> None:
        """Let go of the instance; nobody is told any more."""
        self.taker = None
        self.endpoint.gone(self)
        if self.transport is not None:
            self.transport.abort()


class Endpoint:
    """The connections to one address of one service."""

    def __init__(self, host: str, port: int, options: GatewayOptions) -> None:
        self.host = host
        self.port = port
        self.connections_max = limits.PROXY_CONNECTIONS_PER_INSTANCE_MAX
        self.connect_timeout_s = limits.PROXY_CONNECT_TIMEOUT_MS / 1000
        self.ssl_context: ssl.SSLContext | None = None
        self.server_name = ""
        self.all: set[Outbound] = set()
        self.waiting: deque[Waiter] = deque()
        """Requests for which there is no connection within the limit."""
        self._options = options
        self._idle: deque[Outbound] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def authority(self) -> bytes:
        """``host:port`` as a Host field has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode("ascii", "replace")

    @property
    def busy(self) -> bool:
        """Whether a request is on one of the connections, or waits for one."""
        return len(self.all) > len(self._idle) or bool(self._opening) or bool(self.waiting)

    def take(self, *, unsafe: bool) -> Outbound | None:
        """A kept connection, the one used last; ``unsafe``: for a request that must not be sent twice."""
        idle = self._idle
        if not idle:
            return None
        age_s = self._loop.time() - idle[-1].idle_since
        if age_s > _REUSE_S:
            self.forget_idle()
            return None
        if unsafe and age_s > _REUSE_UNSAFE_S:
            return None
        connection = idle.pop()
        connection.reused = True
        return connection

    def ask(self, waiter: Waiter, *, pending_max: int) -> bool:
        """Open a connection for this one, or let it wait for one that becomes free; False when too many wait."""
        if len(self.all) + len(self._opening) >= self.connections_max:
            if len(self.waiting) >= pending_max:
                return False
            self.waiting.append(waiter)
            return True
        self._begin(waiter)
        return True

    def _begin(self, waiter: Waiter) -> None:
        task = self._loop.create_task(self._open(waiter))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def release(self, connection: Outbound) -> None:
        """Its answer is complete and it may carry another request."""
        connection.taker = None
        if connection.transport is None or connection.transport.is_closing() or connection not in self.all:
            return
        connection.rest(False)
        connection.idle_since = self._loop.time()
        if self.waiting:
            connection.reused = True
            self.waiting.popleft().connected(connection)
        elif len(self._idle) < limits.PROXY_IDLE_PER_INSTANCE_MAX:
            self._idle.append(connection)
        else:
            connection.close()

    def gone(self, connection: Outbound) -> None:
        """A connection has ended."""
        if connection in self.all:
            self.all.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            if self.waiting:
                self._begin(self.waiting.popleft())

    def expire(self) -> None:
        """Close what has been idle for too long."""
        now = self._loop.time()
        while self._idle and now - self._idle[0].idle_since > _REUSE_S:
            self._idle.popleft().close()

    def forget_idle(self) -> None:
        """Close all that carry nothing: the instance is leaving."""
        while self._idle:
            self._idle.popleft().close()

    def close(self) -> None:
        """Close everything."""
        for task in self._opening:
            task.cancel()
        for connection in tuple(self.all):
            connection.close()
        self._idle.clear()

    def _opened(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._opening.discard(task)

    async def _open(self, waiter: Waiter) -> None:
        try:
            async with asyncio.timeout(self.connect_timeout_s):
                _, connection = await self._loop.create_connection(
                    lambda: Outbound(self, self._options),
                    self.host,
                    self.port,
                    ssl=self.ssl_context,
                    server_hostname=(self.server_name or self.host) if self.ssl_context is not None else None,
                )
        except OSError as error:
            self._opened()
            waiter.not_connected(error)
            return
        self._opened()
        if connection.transport is None:
            waiter.not_connected(ConnectionResetError("the instance closed the connection at once"))
            return
        self.all.add(connection)
        waiter.connected(connection)
