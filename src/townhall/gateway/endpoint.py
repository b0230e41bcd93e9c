"""The connections to one instance: kept alive between requests, opened when there is none, never more than allowed."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeVar

from townhall.gateway.contracts import Carrier, Waiter
from townhall.gateway.options import GatewayOptions
from townhall.gateway.outbound import Outbound
from townhall.model import limits

if TYPE_CHECKING:
    import ssl

    from townhall.gateway.outbound_http2 import OutboundHttp2

__all__ = ["Endpoint", "EndpointHttp1"]

_Protocol = TypeVar("_Protocol", bound="Outbound | OutboundHttp2")
_REUSE_S = limits.PROXY_INSTANCE_IDLE_MS / 1000
_REUSE_UNSAFE_S = limits.CLIENT_REUSE_UNSAFE_MS / 1000


class Endpoint(ABC):
    """One address of one service, whatever it speaks."""

    def __init__(self, host: str, port: int, options: GatewayOptions) -> None:
        self.host = host
        self.port = port
        self.connections_max = limits.PROXY_CONNECTIONS_PER_INSTANCE_MAX
        self.connect_timeout_s = limits.PROXY_CONNECT_TIMEOUT_MS / 1000
        self.ssl_context: ssl.SSLContext | None = None
        self.server_name = ""
        self.waiting: dict[Waiter, None] = {}
        """Requests for which there is no connection within the limit, in order."""
        self._options = options
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def authority(self) -> bytes:
        """``host:port`` as a Host field has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode("ascii", "replace")

    # --- what differs

    @property
    @abstractmethod
    def connections(self) -> int:
        """Open ones."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a request is on one of the connections, or waits for one."""

    @abstractmethod
    def take(self, *, unsafe: bool) -> Carrier | None:
        """A way that is there at once; ``unsafe``: for a request that must not be sent twice."""

    @abstractmethod
    def ask(self, waiter: Waiter, *, pending_max: int) -> bool:
        """Open a connection for this one, or let it wait for one that becomes free; False when too many wait."""

    @abstractmethod
    def expire(self) -> None:
        """Close what has been idle for too long."""

    @abstractmethod
    def forget_idle(self) -> None:
        """Close all that carry nothing: the instance is leaving."""

    # --- what is the same

    def forgo(self, waiter: Waiter) -> None:
        """It waits no longer."""
        self.waiting.pop(waiter, None)

    def close(self) -> None:
        """Close everything."""
        for task in self._opening:
            task.cancel()

    def _next(self) -> Waiter:
        waiter = next(iter(self.waiting))
        del self.waiting[waiter]
        return waiter

    def _spawn(self, opening: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(opening)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _opened(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._opening.discard(task)

    async def _connected(self, factory: Callable[[], _Protocol]) -> _Protocol:
        """A connection. Raises ``OSError``."""
        try:
            async with asyncio.timeout(self.connect_timeout_s):
                _, connection = await self._loop.create_connection(
                    factory,
                    self.host,
                    self.port,
                    ssl=self.ssl_context,
                    server_hostname=(self.server_name or self.host) if self.ssl_context is not None else None,
                )
        except UnicodeError as error:
            raise OSError(f"{self.host!r} is no host's name") from error
        if not connection.open:
            raise ConnectionResetError("the instance closed the connection at once")
        return connection


class EndpointHttp1(Endpoint):
    """One that takes a request at a time on each connection."""

    def __init__(self, host: str, port: int, options: GatewayOptions) -> None:
        super().__init__(host, port, options)
        self.all: set[Outbound] = set()
        self._idle: deque[Outbound] = deque()

    @property
    def connections(self) -> int:
        """See ``Endpoint``."""
        return len(self.all)

    @property
    def busy(self) -> bool:
        """See ``Endpoint``."""
        return len(self.all) > len(self._idle) or bool(self._opening) or bool(self.waiting)

    def take(self, *, unsafe: bool) -> Outbound | None:
        """See ``Endpoint``; the one used last."""
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
        """See ``Endpoint``."""
        if len(self.all) + len(self._opening) >= self.connections_max:
            if len(self.waiting) >= pending_max:
                return False
            self.waiting[waiter] = None
            return True
        self._spawn(self._open(waiter))
        return True

    def release(self, connection: Outbound) -> None:
        """Its answer is complete and it may carry another request."""
        connection.taker = None
        if not connection.open or connection not in self.all:
            return
        connection.idle_since = self._loop.time()
        while self.waiting:
            connection.reused = True
            if self._next().connected(connection):
                return
        if len(self._idle) < limits.PROXY_IDLE_PER_INSTANCE_MAX:
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
                self._spawn(self._open(self._next()))

    def expire(self) -> None:
        """See ``Endpoint``."""
        now = self._loop.time()
        while self._idle and now - self._idle[0].idle_since > _REUSE_S:
            self._idle.popleft().close()

    def forget_idle(self) -> None:
        """See ``Endpoint``."""
        while self._idle:
            self._idle.popleft().close()

    def close(self) -> None:
        """See ``Endpoint``."""
        super().close()
        for connection in tuple(self.all):
            connection.close()
        self._idle.clear()

    async def _open(self, waiter: Waiter) -> None:
        try:
            connection = await self._connected(lambda: Outbound(self, self._options))
        except OSError as error:
            self._opened()
            waiter.not_connected(error)
            return
        self._opened()
        self.all.add(connection)
        if not waiter.connected(connection):
            self.release(connection)
