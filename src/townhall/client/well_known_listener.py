"""A listener of its own for the metadata endpoint, for programs that serve no HTTP: one GET per connection, no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from townhall.client.interfaces import Interfaces
from townhall.client.well_known import Answer, answer
from townhall.model import limits

__all__ = ["WellKnownListener"]

_BAD = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class WellKnownListener:
    """Serves the documents at one address, until ``close``."""

    def __init__(self, documents: Iterable[Interfaces]) -> None:
        self._documents = tuple(documents)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self, host: str, port: int = 0) -> None:
        """Listen; ``port`` 0 takes a free one. Raises OSError."""
        limit = limits.CLIENT_WELL_KNOWN_HEAD_SIZE_MAX
        self._server = await asyncio.start_server(self._serve, host, port, limit=limit)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more, and drop what runs. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in tuple(self._serving):
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._serving) < limits.CLIENT_WELL_KNOWN_CONNECTIONS_MAX:
                self._serving.add(task)
                async with asyncio.timeout(limits.CLIENT_WELL_KNOWN_TIMEOUT_MS / 1000):
                    writer.write(self._reply(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # who asks badly, or goes away, is owed nothing
        except asyncio.CancelledError:
            if self._server is not None:
                raise
            # Cancelled by ``close``, which waits: asyncio's streams complain about a handler that ends cancelled.
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    def _reply(self, head: bytes) -> bytes:
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _BAD
        path = parts[1].decode("latin-1").partition("?")[0]
        found = answer(parts[0].decode("latin-1"), path, self._documents)
        status, headers, body = found or Answer(404, (("content-length", "0"),), b"")
        reason = found.reason if found else "Not Found"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "connection: close"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
