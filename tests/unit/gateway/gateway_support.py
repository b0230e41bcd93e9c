"""A gateway on a loop of the test's own, and instances that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncio_servers
from townhall.gateway.accesslog import AccessLog
from townhall.gateway.config import read_config
from townhall.gateway.gateway import Gateway

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(300):
            await main
        # Connections that were cut are closed in the loop's next turns.
        for _ in range(10):
            await asyncio.sleep(0.001)

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One message with its body, chunked bodies as they came. Raises IncompleteReadError at the end."""
    head = await reader.readuntil(b"\r\n\r\n")
    low = head.lower()
    if b"transfer-encoding: chunked" in low:
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            body += await reader.readexactly(1)
        return head, body
    length = int(low.partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
    return head, await reader.readexactly(length)


def held(go: asyncio.Event) -> Script:
    """One request a connection, answered with ``HELLO`` once ``go`` is set."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        await go.wait()
        writer.write(HELLO)

    return script


class Instance:
    """A server that answers each request with ``answer``, or lets ``script`` do what it wants with each connection."""

    def __init__(
        self, answer: bytes | Callable[[bytes, bytes], bytes] = HELLO, *, script: Script | None = None
    ) -> None:
        self.answer = answer
        self.script = script
        self.seen: list[tuple[bytes, bytes]] = []
        """Heads and bodies that came."""
        self.raw = b""
        self.connections = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> Instance:
        # The gateway may connect for all streams of a client in one turn of the loop; a SYN that finds the backlog
        # full is repeated after a second only, which eats up the time a connection may take.
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        await asyncio_servers.close(self._server)
        self.cut()

    def cut(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.script is not None:
                await self.script(reader, writer)
                return
            while True:
                head, body = await read_message(reader)
                self.seen.append((head, body))
                answer = self.answer(head, body) if callable(self.answer) else self.answer
                writer.write(answer)
                if b"connection: close" in answer.lower():
                    break
        except (OSError, EOFError, asyncio.CancelledError):
            # Cancelled by the end of the loop; asyncio's streams make a noise about that.
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Stand:
    """A gateway with its port; ``async with Stand(text)``. ``{a}``, ``{b}`` in the text are the instances' ports."""

    def __init__(self, text: str, **instances: Instance) -> None:
        self.text = text
        self.instances = instances

    async def __aenter__(self) -> Stand:
        for one in self.instances.values():
            if not one.port:
                await one.start()
        text = self.text
        for name, one in self.instances.items():
            text = text.replace("{" + name + "}", f"127.0.0.1:{one.port}")
        config = read_config(text)
        self.gateway = Gateway(config.options, {"urls": "http://127.0.0.1:1"}, AccessLog(""))
        self.gateway.route(config.routes)
        self.port = (await self.gateway.listen("127.0.0.1", 0))[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.stop()
        for one in self.instances.values():
            await one.stop()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, raw: bytes) -> bytes:
        """Send bytes on a connection of their own; everything that comes until its end or one whole answer."""
        reader, writer = await self.connect()
        writer.write(raw)
        try:
            head, body = await read_message(reader)
            return head + body
        finally:
            writer.close()

    async def raw(self, raw: bytes) -> bytes:
        """Send bytes and read until the gateway closes."""
        reader, writer = await self.connect()
        writer.write(raw)
        try:
            return await reader.read()
        finally:
            writer.close()


def get(path: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
