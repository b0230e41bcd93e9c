"""What the SDK adds to a call: the same requests to one loopback server with bare httpx and with ``users.get``.

    python -m bench.calls --port 8001 --client sdk --count 2000 --at-once 1

Prints one JSON object: the CPU time of this process for each request, and how long the requests took. ``--client`` is

- ``httpx``: an ``httpx.AsyncClient`` and a URL, which is what there is without discovery;
- ``sdk``: ``users.get``, the SDK with its own small HTTP client;
- ``sdk-httpx``: ``users.call`` around the same ``httpx.AsyncClient``: choice, failover and accounting of the SDK;
- ``sdk-transport-httpx``: an ``httpx.AsyncClient`` over the SDK's httpx transport;
- ``sdk-bare``: the SDK's own HTTP client without the rest, so that the two can be told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import townhall
from bench.load import quantiles
from townhall.client.connection import Origin
from townhall.client.http import HttpClient, Request

PATH = "/users/1"
WARM_UP = 256
Call = Callable[[], Awaitable[int]]


def available(client: str) -> bool:
    """Whether what it needs is installed."""
    return "httpx" not in client or importlib.util.find_spec("httpx") is not None


@asynccontextmanager
async def calling(client: str, port: int, at_once: int) -> AsyncIterator[Call]:
    """A function that makes one call and returns its status."""
    consumer = townhall.Consumer("http://127.0.0.1:1", snapshot_directory=None)
    users = consumer[f"static://127.0.0.1:{port}"]
    await users.start()
    async with consumer:
        if client == "sdk":

            async def get() -> int:
                return (await users.get(PATH)).status

            yield get
        elif client == "sdk-bare":
            request = Request(Origin("http", "127.0.0.1", port), "GET", PATH)
            async with HttpClient() as http:

                async def bare() -> int:
                    return (await http.request(request)).status

                yield bare
        else:
            import httpx  # noqa: PLC0415 - not needed for the others

            limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
            if client == "sdk-transport-httpx":
                from townhall.client.httpx_transport import Transport  # noqa: PLC0415 - needs httpx

                inner = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
                services = {"users": f"static://127.0.0.1:{port}"}
                async with httpx.AsyncClient(transport=Transport(consumer, inner=inner, services=services)) as over:

                    async def through() -> int:
                        return (await over.get(f"townhall://users{PATH}")).status_code

                    yield through
                return
            async with httpx.AsyncClient(limits=limits, trust_env=False) as bare_client:

                async def attempt(instance: townhall.Instance) -> int:
                    return (await bare_client.get(instance.url(PATH))).status_code

                async def around() -> int:
                    return await users.call(attempt, failures=(httpx.TransportError,))

                async def plain() -> int:
                    return (await bare_client.get(f"http://127.0.0.1:{port}{PATH}")).status_code

                yield around if client == "sdk-httpx" else plain


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Warm up, then make the calls, so many at a time."""
    async with calling(options.client, options.port, options.at_once) as call:
        took: list[float] = []

        async def several(count: int) -> None:
            for _ in range(count):
                begun = time.perf_counter()
                status = await call()
                took.append(time.perf_counter() - begun)
                if status != 200:
                    raise RuntimeError(f"status {status}")

        each = options.count // options.at_once
        await asyncio.gather(*(several(WARM_UP // options.at_once) for _ in range(options.at_once)))
        took.clear()
        begun, begun_cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(several(each) for _ in range(options.at_once)))
        cpu, seconds = time.process_time() - begun_cpu, time.perf_counter() - begun
        count = len(took)
        return {"calls": count, "cpu_us": cpu / count * 1e6, "rate": count / seconds, "latency_ms": quantiles(took)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--at-once", type=int, default=1)
    json.dump(asyncio.run(measure(parser.parse_args())), sys.stdout)


if __name__ == "__main__":
    main()
