"""grpc.aio through a Consumer: every call picks its instance, and one that fails costs nothing where that is safe."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import pytest
from fake_registry import FakeRegistry, until
from grpc_backends import BOTH, DOWN, UNARY, UP, GrpcBackend

import townhall
from free_ports import free_port
from townhall.client.consumer import Consumer
from townhall.client.grpc_aio_channel import Channel
from townhall.client.grpc_instances import target
from townhall.client.records import Instance
from townhall.client.tally import Tally

Scene = Callable[[Channel, dict[str, GrpcBackend], FakeRegistry], Awaitable[None]]


def play(scene: Scene, *names: str, **options: object) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), contextlib.AsyncExitStack() as stack:
            fake = await stack.enter_async_context(FakeRegistry())
            made = {name: await stack.enter_async_context(GrpcBackend(name)) for name in names}
            for name, backend in made.items():
                await fake.put("user", name, port=backend.port)
            consumer = Consumer(fake.url, snapshot_directory=None, balancer="round_robin")
            await stack.enter_async_context(consumer)
            channel = Channel(consumer, "user", **options)  # type: ignore[arg-type]
            await stack.enter_async_context(channel)
            await scene(channel, made, fake)

    asyncio.run(main())


def tally(channel: Channel) -> Tally:
    return channel.handle.chooser.tally


def test_unary_calls_are_balanced() -> None:
    async def scene(channel: Channel, made: dict[str, GrpcBackend], fake: FakeRegistry) -> None:
        unary = channel.unary_unary(UNARY)
        assert Counter([await unary(b"x") for _ in range(6)]) == {b"a": 3, b"b": 3}
        call = unary(b"x", timeout=120, metadata=(("k", "v"),))
        called: list[object] = []
        call.add_done_callback(called.append)
        assert call.time_remaining() <= 120
        assert await call in {b"a", b"b"}
        assert await call.code() is grpc.StatusCode.OK
        assert await call.details() == ""
        assert await call.initial_metadata() is not None
        assert await call.trailing_metadata() is not None
        await call.wait_for_connection()
        await until(lambda: called == [call])
        assert call.done()
        assert not call.cancelled()
        assert (tally(channel).attempts, tally(channel).running) == (7, 0)
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        await channel.channel_ready()
        await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)

    play(scene, "a", "b")


def test_one_that_cannot_be_connected_costs_no_call() -> None:
    async def scene(channel: Channel, made: dict[str, GrpcBackend], fake: FakeRegistry) -> None:
        await fake.put("user", "dead", port=free_port())
        await channel.handle.wait_callable(2)
        unary = channel.unary_unary(UNARY)
        assert {await unary(b"x") for _ in range(6)} == {b"a"}
        assert tally(channel).failures["connect"] == 1
        assert made["a"].requests == [b"x"] * 6

    play(scene, "a")


def test_what_may_have_been_acted_on_is_repeated_only_if_allowed() -> None:
    async def scene(channel: Channel, made: dict[str, GrpcBackend], fake: FakeRegistry) -> None:
        for backend in made.values():
            backend.status = grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t.T/Unary")(b"x")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "as told")
        assert sum(len(one.requests) for one in made.values()) == 3, "once, and twice more"
        call = channel.unary_stream(DOWN)(b"x")
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        await until(lambda: tally(channel).running == 0)
        before = sum(len(one.requests) for one in made.values())
        channel.options["idempotent"] = False
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(UNARY)(b"x")
        assert sum(len(one.requests) for one in made.values()) == before + 1
        for backend in made.values():
            backend.not_acted_on = True
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(UNARY)(b"x")
        assert sum(len(one.requests) for one in made.values()) == before + 4, "refused before anything was done"

    play(scene, "a", "b", idempotent={UNARY})


def test_the_application_s_word_passes() -> None:
    async def scene(channel: Channel, made: dict[str, GrpcBackend], fake: FakeRegistry) -> None:
        made["a"].status = grpc.StatusCode.NOT_FOUND
        call = channel.unary_unary(UNARY)(b"x")
        assert await call.code() is grpc.StatusCode.NOT_FOUND
        assert await call.details() == "as told"
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        assert not channel.handle.chooser.ejections

    play(scene, "a")


def test_attempts_calls_and_cancellations() -> None:
    async def scene(channel: Channel, made: dict[str, GrpcBackend], fake: FakeRegistry) -> None:
        made["a"].hang = True
        unary = channel.unary_unary(UNARY)
        assert {await unary(b"x") for _ in range(3)} == {b"b"}
        made["b"].hang = True
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(b"x", timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        call = unary(b"x")
        assert call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert tally(channel).running == 0

    # In the real time of gRPC's own threads: more than a stop of this process takes.
    play(scene, "a", "b", try_timeout=4.0, idempotent=True)


def test_streams_are_made_once_and_count_while_they_last() -> None:
    async def scene(channel: Channel, made: dict[str, GrpcBackend], fake: FakeRegistry) -> None:
        async def requests() -> AsyncIterator[bytes]:
            yield b"1"
            yield b"2"

        assert [one async for one in channel.unary_stream(DOWN)(b"x")] == [b"a"] * 3
        assert await channel.stream_unary(UP)(requests()) == b"a"
        assert made["a"].requests[-1] == b"12"
        call = channel.stream_stream(BOTH)()
        await call.write(b"x")
        assert await call.read() == b"a"
        await until(lambda: tally(channel).running == 1)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        await until(lambda: tally(channel).running == 0)
        assert tally(channel).attempts == 3

    play(scene, "a")


def test_nobody_to_call_is_unavailable() -> None:
    async def scene(channel: Channel, made: dict[str, GrpcBackend], fake: FakeRegistry) -> None:
        call = channel.unary_unary(UNARY)(b"x")
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert "no instance" in await call.details()
        with pytest.raises(grpc.aio.AioRpcError):
            channel.unary_stream(DOWN)(b"x")
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE

    play(scene)


def test_the_connections_of_those_that_are_gone_end() -> None:
    async def scene(channel: Channel, made: dict[str, GrpcBackend], fake: FakeRegistry) -> None:
        unary = channel.unary_unary(UNARY)
        await unary(b"x")
        await unary(b"x")
        assert len(channel.pool._channels) == 2
        await fake.remove("user", "a")
        await until(lambda: len(channel.handle.instances()) == 1)
        await unary(b"x")
        assert len(channel.pool._channels) == 1

    play(scene, "a", "b")


def test_targets_name_no_address_to_dns() -> None:
    named = {"127.0.0.1": "ipv4:127.0.0.1:1", "::1": "ipv6:[::1]:1", "user.internal": "dns:///user.internal:1"}
    for address, expected in named.items():
        assert target(Instance(id="a", service="user", address=address, port=1)) == expected
    assert townhall.grpc.Channel is Channel
