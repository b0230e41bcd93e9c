"""A server that answers with given bytes, for tests of the HTTP client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncio_servers
from townhall.client.connection import Origin, parse_origin

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(script: Script, *, host: str = "127.0.0.1", **options: Any) -> AsyncIterator[Origin]:
    """Run ``script`` for each connection; gives the origin."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await script(reader, writer)
        tasks.discard(task)
        writer.transport.abort()

    server = await asyncio.start_server(handle, host, 0, **options)
    port = server.sockets[0].getsockname()[1]
    scheme = "https" if "ssl" in options else "http"
    try:
        yield parse_origin(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
    finally:
        await asyncio_servers.close(server)
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def answering(*answers: bytes, close: bool = True) -> Script:
    """One answer per request, byte for byte; then the connection is closed, or left open and silent."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        if not close:
            await asyncio.Event().wait()
        writer.close()
        await writer.wait_closed()

    return script


def ok(body: bytes, *fields: bytes) -> bytes:
    """A plain answer."""
    head = b"".join(field + b"\r\n" for field in (b"content-length: %d" % len(body), *fields))
    return b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body
