"""What is counted of a service's calls, streams that stay open among them."""

from __future__ import annotations

import asyncio

from fake_registry import FakeRegistry
from test_client_handle import backends

from free_ports import free_port
from townhall.client.consumer import Consumer
from townhall.client.opened import Opened
from townhall.client.records import Instance
from townhall.client.tally import FAILURE_KINDS, Tally


def test_kinds_stay_few() -> None:
    tally = Tally()
    tally.failed("timeout")
    tally.failed("something new")
    assert set(tally.failures) == set(FAILURE_KINDS)
    assert (tally.failures["timeout"], tally.failures["reset"]) == (1, 1)


def test_an_open_call_runs_until_it_is_closed_once() -> None:
    async def main() -> None:
        async with (
            FakeRegistry() as fake,
            backends(fake, "a"),
            Consumer(fake.url, snapshot_directory=None, balancer="peak_ewma") as consumer,
        ):
            handle = consumer["user"]
            tally = handle.chooser.tally

            async def answer(instance: Instance) -> str:
                return instance.id

            opened = await handle.open(answer)
            assert isinstance(opened, Opened)
            assert (opened.value, opened.instance.id, tally.running) == ("a", "a", 1)
            opened.close()
            opened.close()
            opened.fail("reset")
            assert (tally.running, tally.attempts, tally.failures["reset"]) == (0, 1, 0)
            broken = await handle.open(answer)
            broken.fail("reset")
            broken.close()
            assert (tally.running, tally.failures["reset"], tally.ejections) == (0, 1, 1)

    asyncio.run(main())


def test_a_hedge_that_loses_is_closed() -> None:
    async def main() -> None:
        async with (
            FakeRegistry() as fake,
            backends(fake, "a", "b"),
            Consumer(fake.url, snapshot_directory=None) as consumer,
        ):
            handle = consumer["user"]
            both = asyncio.Event()
            begun: list[str] = []

            async def answer(instance: Instance) -> str:
                begun.append(instance.id)
                if len(begun) == 2:
                    both.set()
                await both.wait()
                return instance.id

            (await handle.open(answer, hedge=0.001)).close()
            assert (handle.chooser.tally.running, handle.chooser.tally.hedges) == (0, 1)

    asyncio.run(main())


def test_retries_and_failures_are_counted() -> None:
    async def main() -> None:
        async with (
            FakeRegistry() as fake,
            backends(fake, "a"),
            Consumer(fake.url, snapshot_directory=None, balancer="round_robin") as consumer,
        ):
            await fake.put("user", "dead", port=free_port())
            await consumer["user"].wait_callable(2)
            for _ in range(2):
                await consumer["user"].get("/")
            tally = consumer["user"].chooser.tally
            assert (tally.retries, tally.failures["connect"], tally.attempts, tally.running) == (1, 1, 3, 0)
            assert tally.seconds > 0

    asyncio.run(main())
