"""A server: an HTTP face, a gRPC face or both, on any number of listeners."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

from townhall.face import Face
from townhall.face.grpc import GrpcFace
from townhall.hub import Hub
from townhall.model.limits import (
    FANOUT_SLICE_COUNT,
    LISTEN_BACKLOG_COUNT,
    TIMER_TICK_MS,
    UNSENT_IN_KERNEL_SIZE_MAX,
)
from townhall.serve.calls import CallDriver, GrpcOptions
from townhall.serve.counters import Counters, GrpcCounters
from townhall.serve.driver import Driver
from townhall.serve.entry import Entry
from townhall.serve.http1 import Connection
from townhall.serve.options import HttpOptions
from townhall.serve.peers import Peers

if TYPE_CHECKING:
    import ssl as tls

__all__ = ["HttpServer"]


class HttpServer:
    """Serves ``face`` over HTTP/1.1, and ``grpc`` over HTTP/2 on the same ports; one of them may be None.

    Made and used on the running loop, uvloop's or asyncio's own. Raises ``ValueError`` for a table of routes or methods
    that cannot be compiled.
    """

    def __init__(
        self,
        face: Face | None,
        hub: Hub,
        options: HttpOptions | None = None,
        *,
        grpc: GrpcFace | None = None,
        grpc_options: GrpcOptions | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._options = options or HttpOptions()
        self._peers = Peers(self._options)
        self._driver = Driver(face, hub, self._options, self._loop, peers=self._peers) if face is not None else None
        self._calls: CallDriver | None = None
        if grpc is not None:
            self._calls = CallDriver(
                grpc, hub, grpc_options or GrpcOptions(), self._loop, http=self._options, peers=self._peers
            )
        elif face is None:
            raise ValueError("a server needs a face")
        self._listeners: list[asyncio.AbstractServer] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0

    @property
    def counters(self) -> Counters | None:
        """What it has counted of HTTP so far; None without such a face."""
        return self._driver.counters if self._driver is not None else None

    @property
    def grpc_counters(self) -> GrpcCounters | None:
        """The same of gRPC; None without such a face."""
        return self._calls.counters if self._calls is not None else None

    async def start(self, host: str, port: int, *, ssl: tls.SSLContext | None = None) -> tuple[str, int]:
        """Listen on one more address; returns the host and port it has. Port 0 takes a free one.

        Raises ``OSError`` when the address cannot be resolved or bound.
        """
        family, _, _, _, address = (
            await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit what follows: a peer that lost its power is noticed in the end, and one that is slow
            # is seen to read.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if sys.platform == "linux":
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_IN_KERNEL_SIZE_MAX)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            bound = listening.getsockname()
            handshake_s = self._options.header_timeout_ms / 1000
            listener = await self._loop.create_server(
                self._connection,
                sock=listening,
                backlog=LISTEN_BACKLOG_COUNT,
                ssl=ssl,
                ssl_handshake_timeout=handshake_s if ssl is not None else None,
            )
        except BaseException:
            listening.close()
            raise
        self._listeners.append(listener)
        if self._timer is None:
            self._ticked = self._loop.time()
            self._tick()
        return bound[0], bound[1]

    async def stop(self, grace_ms: int) -> None:
        """Stop accepting, let what is in flight be answered, release parked requests and streams; then cut the rest.

        Returns when no connection is left, ``grace_ms`` later at most (and a moment for the sockets to close).
        """
        peers = self._peers
        for listener in self._listeners:
            listener.close()
        peers.stopping = True
        for driver in (self._driver, self._calls):
            if driver is not None:
                driver.stopping = True
        for index, connection in enumerate(list(peers.connections)):
            connection.leave()
            if index % FANOUT_SLICE_COUNT == FANOUT_SLICE_COUNT - 1:
                await asyncio.sleep(0)
        await self._emptied(grace_ms)
        for connection in list(peers.connections):
            connection.abort()
        await self._emptied(1_000)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()

    def _connection(self) -> asyncio.Protocol:
        if self._calls is not None:
            return Entry(self._calls, self._driver)
        assert self._driver is not None
        return Connection(self._driver)

    async def _emptied(self, within_ms: int) -> None:
        try:
            await asyncio.wait_for(self._peers.empty.wait(), within_ms / 1000)
        except TimeoutError:
            return

    def _tick(self) -> None:
        now = self._loop.time()
        elapsed_ms, self._ticked = (now - self._ticked) * 1000, now
        self._timer = self._loop.call_later(TIMER_TICK_MS / 1000, self._tick)
        for driver in (self._driver, self._calls):
            if driver is not None:
                driver.tick(elapsed_ms)
