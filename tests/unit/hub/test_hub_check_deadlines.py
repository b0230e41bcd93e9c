"""TTL checks, heartbeats that stay out of the journal, and instances that were critical for too long."""

from __future__ import annotations

import asyncio
from typing import Any

from running_hub import WEB, Running, register, running, until

from townhall.core.commands import DeleteCheck, PutCheck, SetCheck
from townhall.engine.memory import MemoryEngine
from townhall.hub.check_deadlines import EXPIRED
from townhall.hub.hub import HubOptions
from townhall.model import limits
from townhall.model.check import Check, CheckDefinition, CheckStatus
from townhall.model.check import CheckKind as Kind

PASSING, CRITICAL = CheckStatus.PASSING, CheckStatus.CRITICAL
TTL = CheckDefinition(kind=Kind.TTL, ttl_ms=1_000)


def put(definition: CheckDefinition = TTL, **fields: Any) -> PutCheck:
    fields = {"status": PASSING, "key": WEB, "instance": "a"} | fields
    return PutCheck(node="n", id="c", definition=definition, **fields)


def check(bench: Running) -> Check:
    return bench.hub.state.checks["n", "c"]


async def pass_time(bench: Running, ms: int) -> None:
    """In steps shorter than what counts as a stall of our own."""
    for _ in range(ms // 100):
        bench.clock.advance(100)
        bench.hub.expiry.tick()
        bench.hub.check_deadlines.tick()
        await asyncio.sleep(0)


def test_a_ttl_check_expires_and_recovers():
    async def body(bench: Running) -> None:
        await bench.done(register("a", node="n", persistent=True))
        await bench.done(put(output="all well"))
        await pass_time(bench, 900)
        assert check(bench).status is PASSING
        await pass_time(bench, 400)
        await until(lambda: check(bench).status is CRITICAL)
        assert check(bench).output == f"{EXPIRED} (last output before timeout follows): all well"
        position = bench.hub.state.position
        await pass_time(bench, 3_000)
        assert bench.hub.state.position == position, "it has expired once and for all"
        await bench.done(SetCheck(node="n", id="c", status=PASSING))
        await pass_time(bench, 800)
        assert check(bench).status is PASSING
        await pass_time(bench, 600)
        await until(lambda: check(bench).status is CRITICAL)
        assert check(bench).output == EXPIRED
        assert bench.hub.status()["check_expiries"] == 2

    running(body)


def test_heartbeats_stay_out_of_the_journal():
    async def body(bench: Running) -> None:
        await bench.done(register("a", node="n", persistent=True))
        await bench.done(put())
        position = bench.hub.state.position
        for _ in range(20):
            await pass_time(bench, 500)
            assert bench.hub.check_heartbeat("n", "c")
        assert bench.hub.state.position == position
        assert check(bench).status is PASSING
        assert not bench.hub.check_heartbeat("n", "other")
        await bench.done(put(CheckDefinition()))
        assert not bench.hub.check_heartbeat("n", "c"), "it is no TTL check any more"
        await pass_time(bench, 3_000)
        assert check(bench).status is PASSING

    running(body)


def test_a_heartbeat_that_races_with_the_expiry_wins():
    async def body(bench: Running) -> None:
        await bench.done(register("a", node="n", persistent=True))
        await bench.done(put(output="well"))
        for _ in range(13):
            bench.clock.advance(100)
            bench.hub.check_deadlines.tick()
        assert bench.hub.check_deadlines.expiries == 1, "the expiry waits for the writer"
        assert bench.hub.check_heartbeat("n", "c")
        await until(lambda: check(bench).revision > 3)
        assert (check(bench).status, check(bench).output) == (PASSING, "well")

    running(body)


def test_a_deleted_check_does_not_expire_and_a_shorter_ttl_counts_at_once():
    async def body(bench: Running) -> None:
        await bench.done(register("a", node="n", persistent=True))
        await bench.done(put(CheckDefinition(kind=Kind.TTL, ttl_ms=60_000)))
        for ttl_ms in (900, 50_000, 900, 50_000, 900):
            await bench.done(put(CheckDefinition(kind=Kind.TTL, ttl_ms=ttl_ms)))
        await pass_time(bench, 1_200)
        await until(lambda: check(bench).status is CRITICAL)
        await bench.done(put(CheckDefinition(kind=Kind.TTL, ttl_ms=900), status=PASSING, output="again"))
        await bench.done(DeleteCheck(node="n", id="c"))
        expiries = bench.hub.check_deadlines.expiries
        await pass_time(bench, 3_000)
        assert bench.hub.check_deadlines.expiries == expiries
        assert len(bench.hub.check_deadlines) == 0

    running(body)


def test_a_restart_gives_every_check_a_full_ttl():
    engine = MemoryEngine()

    async def before(bench: Running) -> None:
        await bench.done(register("a", node="n", persistent=True))
        await bench.done(put())

    async def after(bench: Running) -> None:
        await pass_time(bench, 900)
        assert check(bench).status is PASSING
        await pass_time(bench, 400)
        await until(lambda: check(bench).status is CRITICAL)

    running(before, engine)
    running(after, engine)


def test_critical_for_too_long_takes_the_instance_out():
    options = HubOptions(node="here", deregister_critical_min_ms=2_000, reap_interval_ms=500)

    async def body(bench: Running) -> None:
        await bench.done(register("a", node="n", persistent=True))
        await bench.done(register("b", node="n", persistent=True))
        await bench.done(put(CheckDefinition(deregister_after_ms=1), status=CRITICAL))
        await pass_time(bench, 1_500)
        assert bench.hub.state.instance_count == 2, "the registry's minimum is longer than what was asked for"
        await bench.done(SetCheck(node="n", id="c", status=PASSING))
        await bench.done(SetCheck(node="n", id="c", status=CRITICAL))
        await pass_time(bench, 1_500)
        assert bench.hub.state.instance_count == 2, "it was well in between"
        await pass_time(bench, 1_500)
        await until(lambda: bench.hub.state.instance_count == 1)
        await until(lambda: bench.hub.check_deadlines.reaped == 1)
        assert not bench.hub.state.checks

    running(body, options=options)


def test_the_defaults_are_those_of_the_field():
    assert limits.DEREGISTER_CRITICAL_MIN_MS > limits.DEREGISTER_CRITICAL_DEV_MIN_MS
    assert HubOptions().deregister_critical_min_ms == limits.DEREGISTER_CRITICAL_MIN_MS
    assert HubOptions().reap_interval_ms == limits.REAP_INTERVAL_MS
    assert limits.REAPS_PER_TURN_MAX > 1
