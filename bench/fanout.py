"""Many watchers of one service, one change after the other: how long until all of them have it.

    python -m bench.fanout --url http://127.0.0.1:7500 --watchers 1000 --changes 20

Watchers are raw server-sent-event streams in this process; a change is a PATCH of an instance's weight over another
connection. Latencies are counted from the moment the PATCH was *sent*, so they hold the commit as well, and end in
the watcher's ``data_received``, the place an SDK calls its callback from.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from bench.load import quantiles

SERVICE = "fanout"


class Watcher(asyncio.Protocol):
    """One stream. ``marks`` gets the time of each delta."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.transport.write(
            f"GET /api/v1/watch?service={SERVICE} HTTP/1.1\r\nHost: {self.crowd.host}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if b"event: delta" in data:
            self.crowd.seen(data)
        elif not self.ready and b"event: ready" in data:
            self.ready = True
            self.crowd.joined()


class Crowd:
    """All watchers together."""

    def __init__(self, host: str, count: int) -> None:
        self.host = host
        self.count = count
        self.waiting = count
        self.all_joined = asyncio.get_running_loop().create_future()
        self.all_told: asyncio.Future[None] | None = None
        self.sent_at = 0.0
        self.latencies: list[float] = []
        self.missing = 0
        self.mark = b""

    def joined(self) -> None:
        self.waiting -= 1
        if self.waiting == 0:
            self.all_joined.set_result(None)

    def expect(self, mark: bytes) -> asyncio.Future[None]:
        self.mark = mark
        self.missing = self.count
        self.all_told = asyncio.get_running_loop().create_future()
        self.sent_at = time.perf_counter()
        return self.all_told

    def seen(self, data: bytes) -> None:
        if self.mark in data and self.all_told is not None:
            self.latencies.append(time.perf_counter() - self.sent_at)
            self.missing -= 1
            if self.missing == 0:
                self.all_told.set_result(None)


async def request(host: str, port: int, *, method: str, path: str, body: str) -> bytes:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection(host, port)
    encoded = body.encode()
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(encoded)}\r\n\r\n".encode()
        + encoded
    )
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 20"):
        raise RuntimeError(answer[:500].decode(errors="replace"))
    return answer


async def measure(host: str, port: int, *, watchers: int, changes: int) -> dict[str, Any]:
    """Open the watchers, make the changes one by one, each when the one before has reached everybody."""
    loop = asyncio.get_running_loop()
    body = json.dumps({"service": SERVICE, "id": "one", "address": "127.9.0.1", "port": 80, "persistent": True})
    await request(host, port, method="POST", path="/api/v1/instances", body=body)
    crowd = Crowd(f"{host}:{port}", watchers)
    began = time.perf_counter()
    transports = []
    for number in range(watchers):
        # Loopback is wide: several source addresses, so that 10,000 connections do not exhaust one's ports.
        source = (f"127.0.0.{1 + number % 8}", 0)
        transport, _ = await loop.create_connection(lambda: Watcher(crowd), host, port, local_addr=source)
        transports.append(transport)
    await asyncio.wait_for(crowd.all_joined, 120)
    joined = time.perf_counter() - began
    writer_latencies = []
    for number in range(changes):
        weight = number % 100 + 2 + (number // 100) * 0.5
        told = crowd.expect(f'"weight":{float(weight)}'.encode())
        patch = json.dumps({"weight": weight})
        path = f"/api/v1/services/{SERVICE}/instances/one"
        await request(host, port, method="PATCH", path=path, body=patch)
        writer_latencies.append(time.perf_counter() - crowd.sent_at)
        await asyncio.wait_for(told, 60)
        await asyncio.sleep(0.05)
    for transport in transports:
        transport.abort()
    return {
        "watchers": watchers,
        "changes": changes,
        "joined_seconds": joined,
        "latency_ms": quantiles(crowd.latencies),
        "writer_ms": quantiles(writer_latencies),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=20)
    options = parser.parse_args()
    url = urlsplit(options.url)
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - optional

        uvloop.install()
    import resource  # noqa: PLC0415 - only where it exists

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    measured = measure(url.hostname or "127.0.0.1", url.port or 80, watchers=options.watchers, changes=options.changes)
    json.dump(asyncio.run(measured), sys.stdout)


if __name__ == "__main__":
    main()
