"""Small gRPC instances for tests: bytes in, bytes out, no generated code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

UNARY, DOWN, UP, BOTH = "/t.T/Unary", "/t.T/Down", "/t.T/Up", "/t.T/Both"


@dataclass
class GrpcBackend:
    """One instance. ``status`` and ``hang`` change what it does from now on."""

    name: str
    port: int = 0
    status: grpc.StatusCode | None = None
    not_acted_on: bool = False
    hang: bool = False
    requests: list[bytes] = field(default_factory=list)

    async def __aenter__(self) -> GrpcBackend:
        self.server = grpc.aio.server()
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Down": grpc.unary_stream_rpc_method_handler(self._down),
            "Up": grpc.stream_unary_rpc_method_handler(self._up),
            "Both": grpc.stream_stream_rpc_method_handler(self._both),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        await self.server.stop(None)

    async def _judge(self, request: bytes, context: Any) -> None:
        self.requests.append(request)
        if self.hang:
            await asyncio.Event().wait()
        if self.status is not None:
            trailing = (("townhall-not-acted-on", "stopping"),) if self.not_acted_on else ()
            await context.abort(self.status, "as told", trailing)

    async def _unary(self, request: bytes, context: Any) -> bytes:
        await self._judge(request, context)
        return self.name.encode()

    async def _down(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._judge(request, context)
        for _ in range(3):
            yield self.name.encode()

    async def _up(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        received = [one async for one in requests]
        await self._judge(b"".join(received), context)
        return self.name.encode()

    async def _both(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for one in requests:
            await self._judge(one, context)
            yield self.name.encode()
