"""Real gRPC servers of both kinds with a counting interceptor, whose handlers work until they are let go."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest

from townhall.client.grpc_counting import BlockingCounting, Counting

KINDS = ("Unary", "Down", "Up", "Both")


@dataclass
class Gate:
    """Every handler asks it, in whatever loop or thread."""

    open: bool = False
    begun: int = 0

    def wait(self) -> None:
        self.begun += 1
        while not self.open:
            time.sleep(0.005)

    async def wait_async(self) -> None:
        self.begun += 1
        while not self.open:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@dataclass
class Counted:
    """A server that has not been started, its interceptor, and where it will listen."""

    server: Any
    counting: Any
    gate: Gate
    port: int

    async def start(self) -> None:
        started = self.server.start()
        if started is not None:
            await started

    async def stop(self) -> None:
        self.gate.open = True
        if isinstance(self.counting, Counting):
            await self.server.stop(None)
        else:
            await asyncio.to_thread(self.server.stop(None).wait)


@contextlib.asynccontextmanager
async def counted(kind: str) -> AsyncIterator[Counted]:
    """``kind`` is ``aio`` or ``threads``."""
    gate = Gate()
    with contextlib.ExitStack() as stack:
        counting: Any
        if kind == "aio":
            counting = Counting()
            server = grpc.aio.server(interceptors=[counting])
            handlers = _handlers(*_asynchronous(gate))
        else:
            counting = BlockingCounting()
            pool = stack.enter_context(ThreadPoolExecutor(8))
            server = grpc.server(pool, interceptors=[counting])
            handlers = _handlers(*_threaded(gate))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
        one = Counted(server, counting, gate, server.add_insecure_port("127.0.0.1:0"))
        try:
            yield one
        finally:
            await one.stop()


@contextlib.asynccontextmanager
async def calls_to(port: int) -> AsyncIterator[Any]:
    """``begin(kind)`` begins a call of a kind, which returns ``b"done"`` in the end, and gives gRPC's call.

    ``Quick`` asks no gate.
    """
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield functools.partial(_begin, channel)


def refusal(port: int, kind: str) -> Any:
    """The error that a call of a kind gets from a server that refuses it.

    Asked by a client with threads: one of asyncio gives its own INTERNAL in place of the status when it still writes to
    a stream that the server has ended.
    """
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as error:
        # A call with one answer raises by itself, one with many when they are asked for.
        list(_begin(channel, kind))
    return error.value


def _begin(channel: Any, kind: str) -> Any:
    if kind in ("Unary", "Quick"):
        return channel.unary_unary(f"/t.T/{kind}")(b"1", timeout=120)
    if kind == "Down":
        return channel.unary_stream("/t.T/Down")(b"1", timeout=120)
    if kind == "Up":
        return channel.stream_unary("/t.T/Up")(iter([b"1"]), timeout=120)
    return channel.stream_stream("/t.T/Both")(iter([b"1"]), timeout=120)


async def answer(call: Any) -> bytes:
    """The answer, of whatever kind the call is. Raises gRPC's error."""
    if hasattr(call, "__aiter__"):
        return b"".join([piece async for piece in call])
    return bytes(await call)


def _handlers(unary: Any, down: Any, up: Any, both: Any, quick: Any) -> dict[str, Any]:
    return {
        "Quick": grpc.unary_unary_rpc_method_handler(quick),
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    }


def _asynchronous(gate: Gate) -> tuple[Any, ...]:
    async def unary(request: bytes, context: Any) -> bytes:
        await gate.wait_async()
        return b"done"

    async def down(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"do"
        await gate.wait_async()
        yield b"ne"

    async def up(requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for _ in requests:
            await gate.wait_async()
        return b"done"

    async def both(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield b"do"
            await gate.wait_async()
            yield b"ne"

    async def quick(request: bytes, context: Any) -> bytes:
        return b"done"

    return unary, down, up, both, quick


def _threaded(gate: Gate) -> tuple[Any, ...]:
    def unary(request: bytes, context: Any) -> bytes:
        gate.wait()
        return b"done"

    def down(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"do"
        gate.wait()
        yield b"ne"

    def up(requests: Iterator[bytes], context: Any) -> bytes:
        for _ in requests:
            gate.wait()
        return b"done"

    def both(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for _ in requests:
            yield b"do"
            gate.wait()
            yield b"ne"

    def quick(request: bytes, context: Any) -> bytes:
        return b"done"

    return unary, down, up, both, quick
