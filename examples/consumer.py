"""Call the service of ``provider.py``: balanced, retried elsewhere when an instance fails.

``python examples/consumer.py [REGISTRY]``
"""

import asyncio
import sys

import townhall


async def main(registry: str) -> None:
    """Three calls."""
    async with townhall.Consumer(registry) as consumer:
        hello = consumer["hello"]
        for _ in range(3):
            answer = await hello.get("/", wait=5)
            print(answer.status, answer.text.strip())  # noqa: T201


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"))
