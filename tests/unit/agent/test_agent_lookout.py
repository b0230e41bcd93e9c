from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from townhall.agent.lookout import Lookout, reason_of
from townhall.client.records import Health
from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.look import PROBERS
from townhall.probe.ranges import Ranges

PASSING, WARNING, CRITICAL = CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL


class Told:
    """What a lookout tells, and what its checks find meanwhile; ends it when enough has been told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: list[Health] = []
        self.found: dict[str, list[Finding]] = {}
        self.looks = 0
        monkeypatch.setitem(PROBERS, CheckKind.TCP, self.probe)  # type: ignore[arg-type]

    async def probe(self, definition: CheckDefinition, ground: Ground) -> Finding:
        self.looks += 1
        rest = self.found[definition.target]
        return rest.pop(0) if len(rest) > 1 else rest[0]

    def run(self, checks: dict[str, CheckDefinition], enough: Callable[[], bool], *, eager: bool = True) -> Lookout:
        async def main() -> Lookout:
            lookout = Lookout(checks, address="127.0.0.1", ranges=Ranges(), tell=self.heard.append)
            task = asyncio.create_task(lookout.run(eager=eager))
            async with asyncio.timeout(120):
                while not enough():  # noqa: ASYNC110 - another task is waited for
                    await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return lookout

        return asyncio.run(main())


def test_what_is_not_well_for_long_is_looked_at_less_often(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("townhall.agent.lookout.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": noted}))
    monkeypatch.setattr("townhall.agent.lookout._EAGER_FOR_S", 0.0)
    told.found["a"] = [Finding(CRITICAL, "404")]
    told.run({"it": check(interval_ms=60_000)}, lambda: told.looks > 3)
    assert set(slept) == {1.0}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def check(target: str = "a", **fields: int) -> CheckDefinition:
    return CheckDefinition(**{"kind": CheckKind.TCP, "target": target, "interval_ms": 1, "timeout_ms": 1_000} | fields)  # type: ignore[arg-type]


def test_each_change_is_told_once(told: Told) -> None:
    told.found["a"] = [
        Finding(PASSING, ""), Finding(PASSING, ""), Finding(CRITICAL, "one\nmore"), Finding(CRITICAL, "two"), Finding(PASSING, ""),
    ]  # fmt: skip
    told.run({"it": check()}, lambda: len(told.heard) == 3)
    assert told.heard == [Health(PASSING), Health(CRITICAL, "one"), Health(PASSING)]


def test_nothing_is_told_before_all_have_been_looked_at_and_the_worst_decides(told: Told) -> None:
    told.found["a"] = [Finding(PASSING, "")]
    told.found["b"] = [Finding(WARNING, "slow")]
    told.run({"one": check(), "two": check("b")}, lambda: bool(told.heard))
    assert told.heard == [Health(WARNING, "slow")]


def test_thresholds_hold_it_back(told: Told) -> None:
    bad, good = Finding(CRITICAL, "no"), Finding(PASSING, "")
    told.found["a"] = [good, bad, good, bad, bad, good, good]
    told.run({"it": check(failures_before_critical=2, success_before_passing=2)}, lambda: told.looks > 10, eager=False)
    # The first good one is not enough to be passing, nor is the lone bad one to be critical.
    assert told.heard == [Health(CRITICAL, "no"), Health(PASSING)]


def test_without_checks_it_is_well(told: Told) -> None:
    told.run({}, lambda: bool(told.heard))
    assert told.heard == [Health(PASSING)]


def test_a_prober_that_breaks_is_a_failed_check(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(definition: CheckDefinition, ground: Ground) -> Finding:
        raise ZeroDivisionError("what?")

    monkeypatch.setitem(PROBERS, CheckKind.TCP, broken)  # type: ignore[arg-type]
    lookout = told.run({"it": check()}, lambda: bool(told.heard))
    assert told.heard == [Health(CRITICAL, "the probe broke: what?")]
    assert lookout.latest == "the probe broke: what?"


def test_a_reason_is_one_line() -> None:
    assert reason_of("\n  HTTP 500: <html>\n<p>") == "HTTP 500: <html>"
    assert reason_of("") == "the check failed"
    long = reason_of("x" * 1_000)
    assert (len(long), long[-1]) == (limits.AGENT_REASON_SIZE_MAX, "…")
