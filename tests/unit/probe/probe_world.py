"""Targets for probes: small servers on loopback that say what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncio_servers
from townhall.model.check import CheckDefinition
from townhall.probe import Finding, Ground, Prober
from townhall.probe.ranges import Ranges

GROUND = Ground(Ranges(), 5_000)
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[int]:
    """A TCP server; its port."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await asyncio_servers.close(server)
        await server.wait_closed()


def answering(*replies: bytes, seen: list[bytes] | None = None) -> Handle:
    """Answers the requests of successive connections; the last reply again and again."""
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        request = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in request.split(b"\r\n") if line.lower().startswith(b"content-length")),
            0,
        )
        request += await reader.readexactly(length)
        if seen is not None:
            seen.append(request)
        writer.write(replies[min(count, len(replies) - 1)])
        count += 1
        await writer.drain()

    return handle


def look(prober: Prober, definition: CheckDefinition, ground: Ground = GROUND) -> Finding:
    """One look from outside a loop."""

    async def main() -> Finding:
        return await asyncio.wait_for(prober(definition, ground), 120)

    return asyncio.run(main())
