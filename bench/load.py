"""A closed-loop HTTP/1.1 load generator on raw bytes: one request in flight per connection, every status checked.

Run as a process of its own, so that it can be pinned away from the server:

    python -m bench.load --url http://127.0.0.1:7500 --plan plan.json

The plan (JSON): ``connections``, ``seconds`` or ``count``, ``requests``: a list of ``{"method", "path", "body"}`` that
each connection walks through from its own place; ``{n}`` in path or body is a number no other request had. With
``once`` all connections share one walk, which ends with the list. Prints one JSON object: operations, seconds, rate, latencies in milliseconds, statuses, bytes, and the CPU share of this process,
so that one sees when the generator is the limit.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import contextlib
import itertools
import json
import re
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"
UNKNOWN = 1 << 60
"""What is missing of a chunked answer."""
LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)\r\n")


class Plan:
    """What to send, for how long."""

    def __init__(self, raw: dict[str, Any], host: str) -> None:
        self.connections: int = raw["connections"]
        self.seconds: float = raw.get("seconds", 0.0)
        self.count: int = raw.get("count", 0)
        self.numbers = itertools.count(raw.get("first", 0))
        self.requests = [self._encode(request, host) for request in raw["requests"]]
        self.once: bool = raw.get("once", False)
        if self.once:
            self.count = len(self.requests)

    @staticmethod
    def _encode(request: dict[str, str], host: str) -> tuple[str, bytes, bytes]:
        headers = f" HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        return request["method"] + " " + request["path"], headers.encode(), request.get("body", "").encode()

    def render(self, index: int) -> bytes:
        """The next request of a connection."""
        line, headers, body = self.requests[index % len(self.requests)]
        if "{n}" in line or b"{n}" in body:
            number = next(self.numbers)
            line = line.replace("{n}", str(number))
            body = body.replace(b"{n}", b"%d" % number)
        return b"%s%sContent-Length: %d\r\n\r\n%s" % (line.encode(), headers, len(body), body)


class Run:
    """Counters shared by all connections of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.latencies = array.array("d")
        self.statuses: dict[int, int] = {}
        self.bytes = 0
        self.started = 0
        self.open = 0
        self.ends_at = float("inf")
        self.done = asyncio.get_running_loop().create_future()
        # A plan whose requests never change is rendered once.
        fixed = all("{n}" not in line and b"{n}" not in body for line, _, body in plan.requests)
        self.rendered = [plan.render(n) for n in range(len(plan.requests))] if fixed else None

    def next(self, index: int) -> bytes | None:
        """The next request, or None when the run is over."""
        if (self.plan.count and self.started >= self.plan.count) or time.perf_counter() >= self.ends_at:
            return None
        if self.plan.once:
            index = self.started
        self.started += 1
        return self.rendered[index % len(self.rendered)] if self.rendered else self.plan.render(index)

    def lost(self) -> None:
        """A connection is finished."""
        self.open -= 1
        if self.open == 0 and not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One connection: send, wait for the whole answer, check it, send the next."""

    def __init__(self, run: Run, index: int) -> None:
        self.run = run
        self.index = index
        self.missing = -1
        self.sent_at = 0.0
        self.head = b""
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.send()

    def send(self) -> None:
        request = self.run.next(self.index)
        if request is None:
            self.transport.close()
            return
        self.index += 1
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.run.bytes += len(data)
        if self.missing < 0:
            data = self.head + data if self.head else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.head = data
                return
            self.head = b""
            length = LENGTH.search(data, 0, end + 2)
            status = int(data[9:12])
            self.run.statuses[status] = self.run.statuses.get(status, 0) + 1
            if length is not None or status == 204:
                self.missing = (int(length.group(1)) if length else 0) - (len(data) - end - 4)
            elif CHUNKED in data[: end + 2].lower():
                # Go's server sends larger answers so. One request is in flight, so the last chunk ends the bytes.
                self.missing = 0 if data.endswith(LAST_CHUNK) else UNKNOWN
            else:
                raise RuntimeError(f"an answer without length: {data[:200]!r}")
        elif self.missing == UNKNOWN:
            # The end may come in two parts; what is kept is enough to see it.
            self.tail = (self.tail + data)[-len(LAST_CHUNK) :]
            if self.tail == LAST_CHUNK:
                self.missing = 0
        else:
            self.missing -= len(data)
        if self.missing == 0:
            self.tail = b""
            self.missing = -1
            self.run.latencies.append(time.perf_counter() - self.sent_at)
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.lost()


def quantiles(latencies: list[float]) -> dict[str, float]:
    """p50, p99, p99.9 and the maximum, in milliseconds."""
    ordered = sorted(latencies)
    if not ordered:
        return {}
    pick = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    found = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3 for name, share in pick.items()}
    return {**found, "max": ordered[-1] * 1e3}


async def drive(plan: Plan, host: str, port: int) -> dict[str, Any]:
    """Run a plan to its end."""
    run = Run(plan)
    loop = asyncio.get_running_loop()
    began, cpu = time.perf_counter(), time.process_time()
    if plan.seconds:
        run.ends_at = began + plan.seconds
    run.open = plan.connections
    spread = max(1, len(plan.requests) // plan.connections)
    for number in range(plan.connections):
        await loop.create_connection(lambda n=number: Connection(run, n * spread), host, port)  # type: ignore[misc]
    await run.done
    seconds = time.perf_counter() - began
    return {
        "operations": len(run.latencies),
        "seconds": seconds,
        "rate": len(run.latencies) / seconds,
        "latency_ms": quantiles(list(run.latencies)),
        "statuses": run.statuses,
        "bytes": run.bytes,
        "generator_cpu": (time.process_time() - cpu) / seconds,
    }


def main() -> None:
    """Read the plan, run it, print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--plan", required=True)
    options = parser.parse_args()
    url = urlsplit(options.url)
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - optional

        uvloop.install()
    plan = Plan(json.loads(Path(options.plan).read_text()), url.netloc)
    json.dump(asyncio.run(drive(plan, url.hostname or "127.0.0.1", url.port or 80)), sys.stdout)


if __name__ == "__main__":
    main()
