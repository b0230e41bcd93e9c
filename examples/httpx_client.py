"""httpx calls a service by its name, with and without an event loop. Needs httpx.

``python examples/httpx_client.py [REGISTRY [SERVICE]]``
"""

import asyncio
import sys

import httpx

import townhall

registry = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"
service = sys.argv[2] if len(sys.argv) > 2 else "hello-fastapi"


async def main() -> None:
    """Two calls."""
    async with (
        townhall.Consumer(registry) as consumer,
        httpx.AsyncClient(transport=townhall.httpx.Transport(consumer, wait=5)) as client,
    ):
        for _ in range(2):
            answer = await client.get(f"http://{service}/")
            print(answer.status_code, answer.extensions["townhall"].authority, answer.text)  # noqa: T201


asyncio.run(main())
with (
    townhall.blocking.Consumer(registry) as consumer,
    httpx.Client(transport=townhall.httpx.BlockingTransport(consumer, wait=5)) as client,
):
    print(client.get(f"http://{service}/").text)  # noqa: T201
townhall.blocking.close()
