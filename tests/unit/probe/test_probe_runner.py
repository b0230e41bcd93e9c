"""Schedules, what findings become, silence that is probed, and that no target can end the probes of others."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import pytest
from probe_world import answering, serving
from probing_hub import WEB, Probing, probing, tcp, until

from free_ports import free_port
from townhall.core.commands import DeleteCheck, LapseLeases, PutCheck, SetCheck
from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.model.instance import Verdict
from townhall.probe import Finding, Ground, ProbeOptions, runner

PASSING, CRITICAL = CheckStatus.PASSING, CheckStatus.CRITICAL


def test_a_check_follows_its_target():
    async def body(bench: Probing) -> None:
        async with serving(answering(b"")) as port:
            await bench.register()
            await bench.put(tcp(port))
            assert bench.instance().verdict is Verdict.DOWN
            await until(lambda: bench.instance().verdict is Verdict.UP)
            position = bench.hub.state.position
            before = bench.runner.probes
            await until(lambda: bench.runner.probes > before + 3)
            assert bench.hub.state.position == position, "what stays the same is not written down"
        await until(lambda: bench.instance().verdict is Verdict.DOWN)
        assert "refused" in bench.check().output
        await bench.done(DeleteCheck(node="n", id="c"))
        assert bench.hub.status()["probes_scheduled"] == 0

    probing(body)


def test_a_check_of_a_kind_nobody_runs_is_left_alone():
    async def body(bench: Probing) -> None:
        await bench.register()
        await bench.put(CheckDefinition(), status=PASSING)
        await bench.put(CheckDefinition(kind=CheckKind.DOCKER, interval_ms=50), "docker", status=PASSING)
        script = CheckDefinition(
            kind=CheckKind.SCRIPT, interval_ms=50, arguments=(sys.executable, "-c", "raise SystemExit(2)")
        )
        await bench.put(script, "script", status=PASSING)
        await asyncio.sleep(0.2)
        assert {check.status for check in bench.hub.state.checks.values()} == {PASSING}
        assert bench.runner.probes == 0

    probing(body)


def test_scripts_run_when_they_may():
    async def body(bench: Probing) -> None:
        await bench.register()
        script = CheckDefinition(
            kind=CheckKind.SCRIPT, interval_ms=50, arguments=(sys.executable, "-c", "print('fine')")
        )
        await bench.put(script)
        await until(lambda: bench.check().status is PASSING)
        assert bench.check().output.strip() == "fine"

    probing(body, ProbeOptions(scripts=True, interval_min_ms=50))


def test_checks_that_stand_at_the_start_are_run():
    async def main() -> None:
        bench = Probing(ProbeOptions(interval_min_ms=20))
        await bench.hub.start()
        await bench.register()
        await bench.put(tcp(free_port()), status=PASSING)
        bench.hub.observer = bench.runner
        bench.runner.start()
        await until(lambda: bench.check().status is CRITICAL)
        await bench.runner.stop()
        await bench.runner.stop()
        await bench.hub.stop()

    asyncio.run(main())


def test_outputs_that_change_are_written_down_seldom(monkeypatch: pytest.MonkeyPatch):
    count = 0

    async def chatty(definition: CheckDefinition, ground: Ground) -> Finding:
        nonlocal count
        count += 1
        return Finding(PASSING, f"look {count}")

    monkeypatch.setitem(runner.PROBERS, CheckKind.TCP, chatty)  # type: ignore[arg-type]

    async def body(bench: Probing) -> None:
        await bench.register()
        await bench.put(tcp(1))
        await until(lambda: count > 5)
        assert bench.check().output == "look 1"
        assert ProbeOptions().output_interval_ms == limits.PROBE_OUTPUT_INTERVAL_MS

    probing(body)


def test_a_prober_that_breaks_or_hangs_harms_nobody_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def broken(definition: CheckDefinition, ground: Ground) -> Finding:
        if definition.target.endswith(":1"):
            raise RuntimeError("unforeseen")
        await asyncio.sleep(600)
        return Finding(PASSING, "")

    monkeypatch.setitem(runner.PROBERS, CheckKind.UDP, broken)  # type: ignore[arg-type]
    monkeypatch.setattr("townhall.probe.look.ABANDON_MS", 50)

    async def body(bench: Probing) -> None:
        await bench.register()
        for id_, target in (("broken", "127.0.0.1:1"), ("hangs", "127.0.0.1:2")):
            definition = CheckDefinition(kind=CheckKind.UDP, interval_ms=50, timeout_ms=50, target=target)
            await bench.put(definition, id_, status=PASSING)
        async with serving(answering(b"")) as port:
            await bench.put(tcp(port))
            await until(lambda: bench.check("broken").status is CRITICAL and bench.check("hangs").status is CRITICAL)
            await until(lambda: bench.check().status is PASSING)
        assert bench.runner.errors > 0
        assert "timed out" in bench.check("hangs").output

    probing(body)


def test_so_many_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch):
    under_way = most = 0

    async def slow(definition: CheckDefinition, ground: Ground) -> Finding:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return Finding(PASSING, "")

    monkeypatch.setitem(runner.PROBERS, CheckKind.TCP, slow)  # type: ignore[arg-type]

    async def body(bench: Probing) -> None:
        await bench.register()
        for n in range(20):
            await bench.put(tcp(n + 1), f"c{n}")
        await until(lambda: all(check.status is PASSING for check in bench.hub.state.checks.values()))
        assert most <= 3

    probing(body, ProbeOptions(at_once_max=3, interval_min_ms=20))
    assert ProbeOptions().at_once_max == limits.PROBES_AT_ONCE_MAX
    assert ProbeOptions().interval_min_ms == limits.CHECK_INTERVAL_MIN_MS


def test_a_missed_heartbeat_is_probed_at_once():
    async def body(bench: Probing) -> None:
        async with serving(answering(b"")) as port:
            await bench.register(persistent=False)
            await bench.put(tcp(port, interval_ms=limits.CHECK_INTERVAL_DEFAULT_MS * 360), status=PASSING)
            await until(lambda: bench.runner.probes == 1)
            lease = bench.instance().lease
        await bench.done(LapseLeases(leases=((lease, 1),)))
        await until(lambda: bench.check().status is CRITICAL)
        assert bench.runner.probes == 2, "long before its next turn"

    probing(body)


def test_an_alias_follows():
    async def body(bench: Probing) -> None:
        await bench.register()
        await bench.register("b")
        await bench.put(CheckDefinition(), "own", status=PASSING)
        await bench.done(
            PutCheck(
                node="n",
                id="alias",
                key=WEB,
                instance="b",
                definition=CheckDefinition(kind=CheckKind.ALIAS, alias_service="a"),
            )
        )
        await until(lambda: bench.check("alias").status is PASSING)
        await bench.done(SetCheck(node="n", id="own", status=CRITICAL, output="gone"))
        await until(lambda: bench.instance("b").verdict is Verdict.DOWN)

    probing(body)


def test_defaults_of_timeouts_are_bounded():
    assert limits.CHECK_TIMEOUT_DEFAULT_MS <= limits.CHECK_TIMEOUT_MAX_MS


async def _fleet(bench: Probing, count: int) -> None:
    """Put so many node-level checks with an interval of ten seconds."""
    definition = tcp(1, interval_ms=10_000)
    await asyncio.gather(*(bench.put(definition, f"c{n}", key=None, instance="") for n in range(count)))


def _crowding(bench: Probing) -> int:
    """Most checks whose next look falls into one second."""
    return max(Counter(entry.due_ms // 1_000 for entry in bench.runner._entries.values()).values())


def test_ten_thousand_checks_spread_over_their_interval_after_a_start():
    async def main() -> None:
        bench = Probing(ProbeOptions())
        await bench.hub.start()
        await _fleet(bench, 10_000)
        bench.runner.start()
        assert len(bench.runner._entries) == 10_000
        assert _crowding(bench) < 1_300
        await bench.runner.stop()
        await bench.hub.stop()

    asyncio.run(main())


def test_ten_thousand_checks_that_were_registered_together_do_not_stay_together(monkeypatch: pytest.MonkeyPatch):
    under_way = most = 0

    async def quick(definition: CheckDefinition, ground: Ground) -> Finding:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return Finding(PASSING, "")

    monkeypatch.setitem(runner.PROBERS, CheckKind.TCP, quick)  # type: ignore[arg-type]

    async def body(bench: Probing) -> None:
        await _fleet(bench, 10_000)
        await until(lambda: bench.hub.status()["probes"] >= 10_000)
        await until(lambda: all(entry.placed for entry in bench.runner._entries.values()))
        assert _crowding(bench) < 2_500
        assert most <= limits.PROBES_AT_ONCE_MAX
        assert bench.hub.status()["probes_scheduled"] == 10_000

    probing(body, ProbeOptions())
