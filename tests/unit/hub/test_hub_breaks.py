"""Connections that break together are one commit, and a reconnection in the same turn still comes after the break."""

from __future__ import annotations

import asyncio

from running_hub import Running, running

from townhall.core import Outcome
from townhall.core.commands import Register, SetConnection
from townhall.model import limits
from townhall.model.instance import ServiceKey, Verdict


async def leases(bench: Running, count: int) -> list[int]:
    found = []
    for number in range(count):
        # A service each, so that no floor plays a part.
        key = ServiceKey("default", "default", f"s{number}")
        outcome = await bench.done(Register(key=key, id="a", address="127.0.0.1", port=80))
        found.append(outcome.result.lease)  # type: ignore[attr-defined]
    return found


def verdicts(bench: Running) -> list[Verdict]:
    return [one.verdict for service in bench.hub.state.services.values() for one in service.instances.values()]


def test_breaks_of_one_turn_are_one_commit() -> None:
    async def body(bench: Running) -> None:
        found = await leases(bench, 10)
        before = bench.hub.state.position
        results = await asyncio.gather(*[bench.send(SetConnection(leases=(lease,), up=False)) for lease in found])
        assert all(isinstance(result, Outcome) for result in results)
        assert bench.hub.state.position == before + 1
        assert verdicts(bench) == [Verdict.SUSPECT] * 10

    running(body)


def test_a_reconnection_in_the_same_turn_undoes_the_break() -> None:
    async def body(bench: Running) -> None:
        (lease,) = await leases(bench, 1)
        broken = bench.send(SetConnection(leases=(lease,), up=False))
        undone = bench.send(SetConnection(leases=(lease,), up=True))
        await asyncio.gather(broken, undone)
        assert verdicts(bench) == [Verdict.UP]

    running(body)


def test_more_than_a_batch_is_several_commands() -> None:
    async def body(bench: Running) -> None:
        found = await leases(bench, 2)
        many = (*range(1, limits.BATCH_COUNT_MAX + 1), *found)
        assert isinstance(await bench.send(SetConnection(leases=many, up=False)), Outcome)
        assert verdicts(bench) == [Verdict.SUSPECT] * 2

    running(body)


def test_breaks_that_wait_are_written_before_the_hub_stops() -> None:
    async def body(bench: Running) -> None:
        (lease,) = await leases(bench, 1)
        broken = bench.send(SetConnection(leases=(lease,), up=False))
        await bench.hub.stop()
        assert isinstance(await broken, Outcome)

    running(body)
