"""A gRPC service that is found through Townhall, and stops without losing a call. Needs grpcio, grpcio-health-checking.

``python examples/grpc_service.py [REGISTRY [PORT]]``; stop it with Ctrl-C or SIGTERM. It speaks bytes, to need no generated
code; with yours, only the handlers differ.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health

import townhall

registry = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 50051


async def say(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    """Answers at once."""
    return str(port).encode()


async def slow(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    """Takes its time; a stop waits for it."""
    yield b"begin"
    await asyncio.sleep(float(request))
    yield b"end"


async def main() -> None:
    """Serve until a signal comes."""
    counting = townhall.grpc.Counting()
    server = grpc.aio.server(interceptors=[counting])
    handlers = {"Say": grpc.unary_unary_rpc_method_handler(say), "Slow": grpc.unary_stream_rpc_method_handler(slow)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("hello.Hello", handlers),))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    registered = townhall.grpc.Registered(
        server, registry, service="hello-grpc", port=port, servicer=servicer, counting=counting, tags=["v1"], ttl=10
    )
    async with registered:
        await registered.wait_stopped()


asyncio.run(main())
