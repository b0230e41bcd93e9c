"""What runs in a gRPC server is counted, of all kinds of calls, with asyncio and with threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest
from counted_servers import KINDS, Counted, answer, calls_to, counted, refusal

BOTH_SERVERS = pytest.mark.parametrize("kind", ["aio", "threads"])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def run(kind: str, test: Callable[[Counted, Any], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(300), counted(kind) as one:
            await one.start()
            async with calls_to(one.port) as begin:
                await test(one, begin)

    asyncio.run(main())


@BOTH_SERVERS
def test_calls_of_all_kinds_are_counted_while_they_run(kind: str) -> None:
    async def test(one: Counted, begin: Any) -> None:
        calls = one.counting.calls
        assert (calls.running, calls.asked) == (0, False)
        begun = [begin(name) for name in KINDS]
        answers = [asyncio.ensure_future(answer(call)) for call in begun]
        await until(lambda: one.gate.begun == 4)
        assert (calls.running, calls.asked) == (4, True)
        one.gate.open = True
        assert await asyncio.gather(*answers) == [b"done"] * 4
        await until(lambda: calls.running == 0)

    run(kind, test)


@BOTH_SERVERS
def test_calls_that_come_late_are_refused_and_those_that_run_go_on(kind: str) -> None:
    async def test(one: Counted, begin: Any) -> None:
        running = [asyncio.ensure_future(answer(begin(name))) for name in KINDS]
        await until(lambda: one.gate.begun == 4)
        one.counting.calls.refuse()
        for name in KINDS:
            error = await asyncio.to_thread(refusal, one.port, name)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert ("townhall-not-acted-on", "stopping") in tuple(error.trailing_metadata())
        assert (one.gate.begun, one.counting.calls.running) == (4, 4)
        one.gate.open = True
        assert await asyncio.gather(*running) == [b"done"] * 4
        await until(lambda: one.counting.calls.running == 0)

    run(kind, test)


@BOTH_SERVERS
def test_a_stream_that_sends_nothing_is_refused_all_the_same(kind: str) -> None:
    async def test(one: Counted, begin: Any) -> None:
        one.counting.calls.refuse()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{one.port}") as channel:
            silent = channel.stream_stream("/t.T/Both")(timeout=120)
            assert await silent.code() is grpc.StatusCode.UNAVAILABLE

    run(kind, test)


@BOTH_SERVERS
@pytest.mark.parametrize("name", KINDS)
def test_a_call_that_its_client_gives_up_is_over(kind: str, name: str) -> None:
    async def test(one: Counted, begin: Any) -> None:
        call = begin(name)
        await until(lambda: one.gate.begun == 1)
        call.cancel()
        if kind == "threads":
            # Nobody tells its thread, which works on, and is waited for.
            await asyncio.sleep(0.2)
            assert one.counting.calls.running == 1
            one.gate.open = True
        await until(lambda: one.counting.calls.running == 0)

    run(kind, test)


@BOTH_SERVERS
def test_what_fails_and_what_is_not_there_is_over_as_well(kind: str) -> None:
    async def test(one: Counted, begin: Any) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{one.port}") as channel:
            missing = channel.unary_unary("/t.T/Missing")(b"1", timeout=120)
            assert await missing.code() is grpc.StatusCode.UNIMPLEMENTED
            one.counting.calls.refuse()
            # Health checks shall hear of the health, from who knows it; here nobody.
            health = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=120)
            assert await health.code() is grpc.StatusCode.UNIMPLEMENTED
        await until(lambda: one.counting.calls.running == 0)

    run(kind, test)


def test_a_handler_that_raises_is_over() -> None:
    def fails(request: bytes, context: Any) -> bytes:
        raise ValueError("as told")

    async def main() -> None:
        async with asyncio.timeout(300), counted("threads") as one:
            handlers = {"Fail": grpc.unary_unary_rpc_method_handler(fails)}
            one.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("f.F", handlers),))
            await one.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{one.port}") as channel:
                call = channel.unary_unary("/f.F/Fail")(b"1", timeout=120)
                assert await call.code() is grpc.StatusCode.UNKNOWN
            await until(lambda: one.counting.calls.running == 0)

    asyncio.run(main())
