"""grpc without asyncio through a Consumer of ``townhall.blocking``."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from fake_registry import FakeRegistry
from grpc_backends import BOTH, DOWN, UNARY, UP, GrpcBackend

import townhall
from free_ports import free_port
from townhall.client.grpc_blocking_channel import BlockingChannel, Unreached
from townhall.client.loop_thread import LoopThread
from townhall.client.tally import Tally


@contextlib.contextmanager
def scene(*names: str, **options: object) -> Iterator[tuple[BlockingChannel, dict[str, GrpcBackend]]]:
    thread, fake = LoopThread(), FakeRegistry()
    made = {name: GrpcBackend(name) for name in names}

    async def begin() -> None:
        await fake.start()
        for name, backend in made.items():
            await backend.__aenter__()
            await fake.put("user", name, port=backend.port)
        await fake.put("user", "dead", port=free_port(), weight=0.0)

    async def end() -> None:
        for backend in made.values():
            await backend.die()
        await fake.stop()

    thread.run(begin())
    try:
        with (
            townhall.blocking.Consumer(fake.url, snapshot_directory=None) as consumer,
            BlockingChannel(consumer, "user", **options) as channel,  # type: ignore[arg-type]
        ):
            yield channel, made
    finally:
        townhall.blocking.close()
        thread.run(end())
        thread.stop()


def tally(channel: BlockingChannel) -> Tally:
    return channel.handle._handle.chooser.tally


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_all_four_shapes() -> None:
    with scene("a", "b") as (channel, _):
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append, try_to_connect=True)
        channel.unsubscribe(states.append)
        assert states == [grpc.ChannelConnectivity.READY]
        unary = channel.unary_unary(UNARY)
        assert Counter(unary(b"x") for _ in range(6)) == {b"a": 3, b"b": 3}
        response, call = unary.with_call(b"x", timeout=120)
        assert response in {b"a", b"b"}
        assert call.code() is grpc.StatusCode.OK
        assert unary.future(b"x").result() in {b"a", b"b"}
        assert list(channel.unary_stream(DOWN)(b"x")) in ([b"a"] * 3, [b"b"] * 3)
        up = channel.stream_unary(UP)
        assert up(iter([b"1", b"2"])) in {b"a", b"b"}
        assert up.with_call(iter([b"1"]))[1].code() is grpc.StatusCode.OK
        assert len(list(channel.stream_stream(BOTH)(iter([b"1", b"2"])))) == 2
        until(lambda: tally(channel).running == 0)
        assert tally(channel).attempts == 12


def test_failures_are_repeated_where_that_is_safe() -> None:
    with scene("a", "b", idempotent={UNARY}, try_timeout=5.0) as (channel, made):
        made["a"].status = grpc.StatusCode.UNAVAILABLE
        unary = channel.unary_unary(UNARY)
        assert {unary(b"x") for _ in range(4)} == {b"b"}
        made["b"].status = grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.RpcError) as caught:
            unary(b"x")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        made["b"].status = grpc.StatusCode.NOT_FOUND
        made["a"].status = grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            unary(b"x")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        made["a"].status = made["b"].status = grpc.StatusCode.UNAVAILABLE
        before = tally(channel).failures["reset"]
        assert channel.unary_stream(DOWN)(b"x").code() is grpc.StatusCode.UNAVAILABLE
        until(lambda: tally(channel).failures["reset"] > before and tally(channel).running == 0)


def test_nobody_to_call_is_unavailable() -> None:
    options: Any = {"snapshot_directory": None, "start_timeout": 0.1}
    with townhall.blocking.Consumer("http://127.0.0.1:1", **options) as consumer:
        nobody = townhall.grpc.BlockingChannel(consumer, "nobody")
        for call in (nobody.unary_unary(UNARY), nobody.unary_stream(DOWN)):
            with pytest.raises(Unreached) as caught:
                call(b"x")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert caught.value.details()
            assert caught.value.trailing_metadata() == ()
    townhall.blocking.close()
