"""The same as ``grpc_service.py`` with threads instead of asyncio. Needs grpcio.

``python examples/grpc_blocking_service.py [REGISTRY [PORT]]``; stop it with Ctrl-C or SIGTERM.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

import townhall

registry = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 50051


def say(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answers at once."""
    return str(port).encode()


def slow(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Takes its time; a stop waits for it."""
    yield b"begin"
    time.sleep(float(request))
    yield b"end"


counting = townhall.grpc.BlockingCounting()
server = grpc.server(ThreadPoolExecutor(max_workers=16), interceptors=[counting])
handlers = {"Say": grpc.unary_unary_rpc_method_handler(say), "Slow": grpc.unary_stream_rpc_method_handler(slow)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("hello.Hello", handlers),))
server.add_insecure_port(f"127.0.0.1:{port}")
with townhall.grpc.BlockingRegistered(
    server, registry, service="hello-grpc-threads", port=port, counting=counting, ttl=10
):
    server.wait_for_termination()
