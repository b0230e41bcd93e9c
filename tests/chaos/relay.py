"""A TCP relay on loopback that stands for the network: it passes, falls silent, or resets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

import asyncio_servers

_PIECE_SIZE = 65_536
# SO_LINGER with no time to linger: closing sends RST, as a firewall or a dead host's successor does.
_RESET = struct.pack("ii", 1, 0)


class Relay:
    """Whoever connects to ``self.port`` reaches ``target``, as long as the relay lets it."""

    def __init__(self, port: int = 0) -> None:
        self.target = ("127.0.0.1", port)
        self.port = 0
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = False
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        await asyncio_servers.close(self._server)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """Fall silent: nothing passes either way, connections stand, new ones are accepted and hear nothing."""
        self._passing.clear()

    def reset(self) -> None:
        """Reset all connections, and new ones at once."""
        self._refusing = True
        for writer in tuple(self._open):
            _abort(writer)

    def heal(self) -> None:
        """Pass again; what was held goes on where it was, as TCP does after a short outage."""
        self._refusing = False
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pair = [writer]
        self._open.add(writer)
        try:
            if not self._refusing:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await self._carry(reader, writer, pair)
        finally:
            self._tasks.discard(task)
            for one in pair:
                self._open.discard(one)
                _abort(one)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: list[asyncio.StreamWriter]
    ) -> None:
        await self._passing.wait()
        answers, onward = await asyncio.open_connection(*self.target)
        pair.append(onward)
        self._open.add(onward)
        loop = asyncio.get_running_loop()
        ways = {loop.create_task(self._pump(reader, onward)), loop.create_task(self._pump(answers, writer))}
        try:
            # One end closed or broke: so does the other.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE_SIZE):
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        await self._passing.wait()


def _abort(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
