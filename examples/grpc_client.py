"""gRPC calls a service by its name, with and without an event loop. Needs grpcio.

``python examples/grpc_client.py [REGISTRY [SERVICE]]``
"""

import asyncio
import sys

import townhall

registry = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"
service = sys.argv[2] if len(sys.argv) > 2 else "hello-grpc"


async def main() -> None:
    """Two calls."""
    async with (
        townhall.Consumer(registry) as consumer,
        townhall.grpc.Channel(consumer, service, wait=5, idempotent={"/hello.Hello/Say"}) as channel,
    ):
        say = channel.unary_unary("/hello.Hello/Say")  # with generated code: stub = HelloStub(channel)
        for _ in range(2):
            print(await say(b"hello", timeout=5))  # noqa: T201


asyncio.run(main())
with (
    townhall.blocking.Consumer(registry) as consumer,
    townhall.grpc.BlockingChannel(consumer, service, wait=5) as channel,
):
    print(channel.unary_unary("/hello.Hello/Say")(b"hello", timeout=5))  # noqa: T201
townhall.blocking.close()
