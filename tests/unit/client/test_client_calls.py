"""Calls with a balancer that is told of them, with keys, hedges and a budget, through a real handle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from backends import Backend
from fake_registry import FakeRegistry, until
from test_client_handle import backends

from townhall import blocking
from townhall.client.consumer import Consumer, ConsumerOptions
from townhall.client.handle import ServiceHandle
from townhall.client.loop_thread import shared_thread
from townhall.client.records import Instance
from townhall.model import limits
from townhall.model.errors import InvalidField, NoInstance

Scene = Callable[[ServiceHandle, dict[str, Backend]], Awaitable[None]]


def play(scene: Scene, *names: str, **options: object) -> None:
    given: ConsumerOptions = {"snapshot_directory": None, "start_timeout": 5.0, **options}  # type: ignore[typeddict-item]

    async def main() -> None:
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            backends(fake, *names) as made,
            Consumer(fake.url, **given) as consumer,
        ):
            await consumer["user"].start()
            await scene(consumer["user"], made)

    asyncio.run(main())


def test_a_busy_instance_gets_no_more_calls() -> None:
    async def scene(handle: ServiceHandle, made: dict[str, Backend]) -> None:
        made["a"].hang = made["b"].hang = True
        # Three calls go to three instances; the one at "c" is answered.
        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(handle.get("/", timeout=120)) for _ in range(3)]
        await until(lambda: made["a"].requests and made["b"].requests and any(task.done() for task in waiting))
        for _ in range(5):
            assert (await handle.get("/")).body == b"c"
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        made["a"].hang = made["b"].hang = False
        assert {(await handle.get("/")).body for _ in range(9)} == {b"a", b"b", b"c"}, "cancelled calls are over"

    play(scene, "a", "b", "c", balancer="least_outstanding")


def test_a_key_keeps_its_instance_until_that_fails() -> None:
    async def scene(handle: ServiceHandle, made: dict[str, Backend]) -> None:
        owner = handle.pick("cart-7")
        assert {(await handle.get("/", key="cart-7")).body for _ in range(5)} == {owner.id.encode()}
        await made[owner.id].die()
        other = (await handle.get("/", key=b"cart-7")).body
        assert other != owner.id.encode()
        assert {(await handle.get("/", key="cart-7")).body for _ in range(5)} == {handle.pick("cart-7").id.encode()}

    play(scene, "a", "b", "c", balancer="ring_hash")


def test_a_hedge_answers_for_one_that_hangs() -> None:
    async def scene(handle: ServiceHandle, made: dict[str, Backend]) -> None:
        made["a"].hang = True
        # Round robin: one of two calls begins at the one that hangs.
        assert {(await handle.get("/", hedge=0.01, timeout=120)).body for _ in range(4)} == {b"b"}
        assert made["a"].requests, "it was asked, and its answer not waited for"

    play(scene, "a", "b", balancer="round_robin")


def test_what_is_not_idempotent_is_never_hedged() -> None:
    async def scene(handle: ServiceHandle, made: dict[str, Backend]) -> None:
        calls: list[str] = []

        async def slow(instance: Instance) -> str:
            calls.append(instance.id)
            await asyncio.sleep(0.05)
            return instance.id

        await handle.call(slow, hedge=0.001, idempotent=False)
        assert len(calls) == 1

    play(scene, "a", "b")


def test_retries_stop_when_the_budget_is_spent() -> None:
    async def scene(handle: ServiceHandle, made: dict[str, Backend]) -> None:
        async def refuse(instance: Instance) -> None:
            raise ConnectionRefusedError(instance.id)

        attempts = 0

        async def counted(instance: Instance) -> None:
            nonlocal attempts
            attempts += 1
            await refuse(instance)

        budget = handle.chooser.budget
        while budget.spend(now_ms=asyncio.get_running_loop().time() * 1000):
            pass
        calls = 50
        for _ in range(calls):
            with pytest.raises(ConnectionRefusedError):
                await handle.call(counted, retries=2)
        assert calls <= attempts < calls * 2
        assert budget.refused > 0
        assert limits.CLIENT_RETRY_RATIO < 1

    play(scene, "a", "b", "c")


def test_zones_and_subsets_are_options_of_the_consumer() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            for number in range(6):
                await fake.put("user", f"i{number}", zone="near" if number < 2 else "far")
            async with Consumer(fake.url, snapshot_directory=None, zone="near") as consumer:
                await consumer["user"].start()
                assert {consumer["user"].pick().id for _ in range(40)} == {"i0", "i1"}
            async with Consumer(fake.url, snapshot_directory=None, subset=3, name="me") as consumer:
                await consumer["user"].start()
                assert len({consumer["user"].pick().id for _ in range(60)}) == 3

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"subset": -1}, {"panic_threshold": 1.5}, {"balancer": "best"}])
def test_options_that_make_no_sense_are_refused(options: ConsumerOptions) -> None:
    with pytest.raises(InvalidField):
        Consumer("http://127.0.0.1:1", **options)


def test_blocking_calls_are_told_too() -> None:
    with shared_thread_registry() as url, blocking.Consumer(url, balancer="least_outstanding", snapshot_directory=None) as consumer:  # fmt: skip
        handle = consumer["user"]
        handle.start()
        seen: list[str] = []

        def outer(instance: Instance) -> str:
            seen.append(instance.id)
            if len(seen) < 3:
                return handle.call(outer)
            return instance.id

        handle.call(outer)
        assert sorted(seen) == ["a", "b", "c"], "each nested call goes to one that is idle"
        with pytest.raises(NoInstance):
            consumer["nobody"].call(outer)


class shared_thread_registry:  # noqa: N801 - used as a context manager, like a function
    """A fake registry in the SDK's own thread."""

    def __enter__(self) -> str:
        async def begin() -> FakeRegistry:
            fake = await FakeRegistry().__aenter__()
            for name in "abc":
                await fake.put("user", name)
            return fake

        self._fake = shared_thread().run(begin())
        return self._fake.url

    def __exit__(self, *_: object) -> None:
        shared_thread().run(self._fake.__aexit__(None, None, None))
        blocking.close()
