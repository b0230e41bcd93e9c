"""One provider of the demo: a real process with a small HTTP server that answers its name and registers itself.

``python -m townhall.ops.demo.provider --server URL --name alpha --ttl-ms 1500``. Prints one JSON line when it is
registered: when it asked for that, on the machine's monotonic clock, and where it listens. SIGTERM lets it leave
properly. It ends, too, when its standard input closes: that is how it notices that the demo is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from typing import Final

from townhall.client.provider import Provider

__all__ = ["SERVICE", "NameServer", "main"]

SERVICE: Final = "greeter"
_HEAD_SIZE_MAX: Final = 8_192
_QUIET_S: Final = 0.2
"""Without a request before the process ends: what was sent before everybody knew that it leaves may still be on its way."""


class NameServer:
    """HTTP/1.1 with keep-alive; every request is answered with the provider's name."""

    def __init__(self, name: str, *, work_s: float) -> None:
        body = f"{name}\n".encode()
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        self._work_s = work_s
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._running = 0
        self._last = 0.0
        """When the last answer was sent."""
        self.provider: Provider | None = None

    async def start(self) -> int:
        """Listen on a free loopback port; returns it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_SIZE_MAX)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Take no new connections, and end the idle ones; running requests finish."""
        if self._server is not None:
            self._server.close()

    async def finish(self) -> None:
        """Answer what still comes, then close what is open."""
        clock = asyncio.get_running_loop().time
        quiet_from = clock()
        while self._running or clock() - max(self._last, quiet_from) < _QUIET_S:  # noqa: ASYNC110 - nothing tells of silence
            await asyncio.sleep(0.01)
        for writer in list(self._connections):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                while await reader.readuntil(b"\r\n\r\n"):
                    await self._answer_one(writer)
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer_one(self, writer: asyncio.StreamWriter) -> None:
        assert self.provider is not None
        self._running += 1
        try:
            with self.provider.track():
                await asyncio.sleep(self._work_s)
                writer.write(self._answer)
                await writer.drain()
        finally:
            self._running -= 1
            self._last = asyncio.get_running_loop().time()


def main(arguments: list[str]) -> int:
    """The process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--ttl-ms", type=int, required=True)
    parser.add_argument("--weight", type=float, default=1.0)
    return asyncio.run(_run(parser.parse_args(arguments)))


async def _run(options: argparse.Namespace) -> int:
    server = NameServer(options.name, work_s=0.002)
    port = await server.start()
    server.provider = provider = Provider(
        options.server,
        service=SERVICE,
        port=port,
        address="127.0.0.1",
        id=options.name,
        weight=options.weight,
        ttl=options.ttl_ms / 1_000,
        name=f"{options.name}@{os.getpid()}",
        on_stop=server.close,
        drain_deadline=5.0,
        handle_signals=True,
    )
    asked = time.monotonic()
    await provider.start()
    sys.stdout.write(json.dumps({"name": options.name, "port": port, "asked": asked, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    orphaned = asyncio.get_running_loop().create_task(_parent_gone())
    stopped = asyncio.get_running_loop().create_task(provider.wait_stopped())
    await asyncio.wait({orphaned, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not stopped.done():
        # Nobody is left to see a graceful end.
        os._exit(1)
    await server.finish()
    os._exit(0)


async def _parent_gone() -> None:
    """Returns when standard input closes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1_024):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
