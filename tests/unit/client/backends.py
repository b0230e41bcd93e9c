"""Small HTTP instances for tests of calls: each answers its name, and can be told to fail."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from raw_server import ok

import asyncio_servers


@dataclass
class Backend:
    """One instance. ``status`` and ``hang`` change what it does from now on."""

    name: str
    port: int = 0
    status: int = 200
    hang: bool = False
    requests: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Backend:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        await asyncio_servers.close(self._server)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0
                )
                body = await reader.readexactly(length)
                self.requests.append(head.split("\r\n")[0] + (" " + body.decode() if body else ""))
                if self.hang:
                    await asyncio.Event().wait()
                writer.write(ok(self.name.encode()).replace(b"200", str(self.status).encode(), 1))
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
