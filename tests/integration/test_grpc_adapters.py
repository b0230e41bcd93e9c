"""gRPC servers, with asyncio and with threads, stopped under load of our channels."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving_processes import EXAMPLES, consumer, example, stops_without_a_loss, until, wait_callable

import townhall
from townhall.client.handle import ServiceHandle
from townhall_process import TownhallProcess, environment


async def slow(port: int) -> AsyncIterator[bytes]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        async for piece in channel.unary_stream("/hello.Hello/Slow")(b"1", timeout=120):
            yield piece


@pytest.mark.parametrize(
    ("program", "service"),
    [("grpc_service.py", "hello-grpc"), ("grpc_blocking_service.py", "hello-grpc-threads")],
)
def test_a_stop_loses_no_call(registry: TownhallProcess, program: str, service: str) -> None:
    async def main() -> None:
        async with consumer(registry.url) as found, townhall.grpc.Channel(found, service) as channel:
            say = channel.unary_unary("/hello.Hello/Say")

            async def call(handle: ServiceHandle) -> object:
                return await say(b"", timeout=120)

            await stops_without_a_loss(found[service], call, slow, (first, second))

    with example(program, registry.url) as first, example(program, registry.url) as second:
        asyncio.run(asyncio.wait_for(main(), 300))


def test_health_says_not_serving_as_soon_as_it_leaves(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with (
            consumer(registry.url) as found,
            grpc.aio.insecure_channel(f"127.0.0.1:{process.port}") as channel,
        ):
            await found["hello-grpc"].wait_callable(budget_s=120)
            serving: list[int] = []

            async def watch() -> None:
                stub = health_pb2_grpc.HealthStub(channel)
                async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
                    serving.append(answer.status)  # noqa: PERF401 - the list is looked at meanwhile

            running = channel.unary_stream("/hello.Hello/Slow")(b"1")
            assert await running.read() == b"begin"
            watching = asyncio.ensure_future(watch())
            await until(lambda: serving == [health_pb2.HealthCheckResponse.SERVING], "serving")
            stopping = asyncio.ensure_future(process.stop())
            await until(lambda: len(serving) == 2, "told")
            assert serving[1] == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await running.read() == b"end"
            # The watch goes on and is not counted: the stop does not wait for it until its deadline.
            await stopping
            with pytest.raises(grpc.RpcError):
                await watching

    with example("grpc_service.py", registry.url) as process:
        asyncio.run(asyncio.wait_for(main(), 300))


def test_a_stop_refuses_who_comes_late_while_something_runs(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with (
            consumer(registry.url) as found,
            grpc.aio.insecure_channel(f"127.0.0.1:{process.port}") as channel,
        ):
            handle = found["hello-grpc"]
            await handle.wait_callable(budget_s=120)
            running = channel.unary_stream("/hello.Hello/Slow")(b"100", timeout=120)
            assert await running.read() == b"begin"
            stopping = asyncio.ensure_future(process.stop())
            say = channel.unary_unary("/hello.Hello/Say")
            while await (call := say(b"", timeout=120)).code() is grpc.StatusCode.OK:
                pass
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert ("townhall-not-acted-on", "stopping") in tuple(await call.trailing_metadata())
            assert [one.verdict for one in handle.instances()] == ["draining"]
            assert not stopping.done()
            running.cancel()
            assert await stopping == 0
            await until(lambda: not handle.instances(), "gone")

    with example("grpc_service.py", registry.url) as process:
        asyncio.run(asyncio.wait_for(main(), 300))


def test_the_client_s_example_runs(registry: TownhallProcess, tmp_path: Path) -> None:
    with example("grpc_service.py", registry.url) as process:
        wait_callable(registry.url, "hello-grpc")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(EXAMPLES / "grpc_client.py"), registry.url],
            env=environment({"XDG_CACHE_HOME": str(tmp_path)}), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(str(process.port)) == 3
