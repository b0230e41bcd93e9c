"""aiohttp calls a service by its name. Needs aiohttp.

``python examples/aiohttp_client.py [REGISTRY [SERVICE]]``
"""

import asyncio
import sys

import aiohttp

import townhall

registry = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"
service = sys.argv[2] if len(sys.argv) > 2 else "hello-aiohttp"


async def main() -> None:
    """Three calls."""
    async with (
        townhall.Consumer(registry) as consumer,
        aiohttp.ClientSession(middlewares=[townhall.aiohttp.Balanced(consumer, wait=5)]) as session,
    ):
        for _ in range(3):
            async with session.get(f"http://{service}/") as answer:
                print(answer.status, answer.url, await answer.text())  # noqa: T201


asyncio.run(main())
