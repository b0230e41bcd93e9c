"""Backends that do nothing but take their time: loopback HTTP servers in one process, one of which can be slow.

    python -m bench.upstreams --count 11 --delay-ms 167 --spread-ms 5

Prints one JSON line with their ports when they listen, and serves until its standard input ends. ``GET /slow?2000`` makes
the first backend that is asked so take 2,000 ms for each request from then on; ``/slow?0`` makes it usual again. With
``--delay-ms 0`` an answer goes out at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys

BODY = b'{"id":1,"name":"x"}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Backend:
    """One of them."""

    def __init__(self, delay_ms: float, spread_ms: float, rng: random.Random) -> None:
        self.delay_ms = delay_ms
        self.spread_ms = spread_ms
        self.slow_ms = 0.0
        self.rng = rng

    def seconds(self) -> float:
        """What the next request takes."""
        if self.slow_ms:
            return self.slow_ms / 1000
        return max(0.0, self.rng.gauss(self.delay_ms, self.spread_ms)) / 1000 if self.delay_ms else 0.0


class Connection(asyncio.Protocol):
    """Answers one request after the other; requests without a body only."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
            target = head.split(b" ", 2)[1]
            if target.startswith(b"/slow?"):
                self.backend.slow_ms = float(target[6:])
                self.transport.write(ANSWER)
                continue
            seconds = self.backend.seconds()
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        """Unless the peer has gone."""
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def serve(options: argparse.Namespace) -> None:
    """Listen on free ports until standard input ends."""
    loop = asyncio.get_running_loop()
    rng = random.Random(1)
    servers = []
    for _ in range(options.count):
        backend = Backend(options.delay_ms, options.spread_ms, rng)
        servers.append(await loop.create_server(lambda backend=backend: Connection(backend), "127.0.0.1", 0))  # type: ignore[misc]
    print(json.dumps({"ports": [one.sockets[0].getsockname()[1] for one in servers]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--spread-ms", type=float, default=0.0)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
