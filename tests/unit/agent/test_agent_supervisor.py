from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from agent_registry import AWAY, Bench

from townhall.agent.definitions import Definition
from townhall.agent.restarts import RestartPolicy, When
from townhall.agent.supervisor import PASSED_ON, STOP_SIGNALS, SUSPEND_SIGNAL, WITHOUT_TERMINAL, Plan, Supervisor
from townhall.client.definitions import Service
from townhall.client.records import Drain
from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.look import PROBERS

ID = "web-127.0.0.1-80"
CHECK = {"it": CheckDefinition(kind=CheckKind.TCP, target="a", interval_ms=1, timeout_ms=1_000)}


class Stage:
    """A supervisor with a shell script, a fake registry and checks that find what the test says."""

    def __init__(self, script: str, **plan: object) -> None:
        self.bench = Bench()
        self.status = CheckStatus.PASSING
        checks = plan.pop("checks", CHECK)
        self.supervisor = Supervisor(
            Plan(
                command=["sh", "-c", script], environ=os.environ,
                definition=Definition(service=Service(name="web", port=80), checks=checks), **plan,  # type: ignore[arg-type]
            ),
            self.bench.keeper, self.bench.notices.append,
        )  # fmt: skip

    async def probe(self, definition: CheckDefinition, ground: Ground) -> Finding:
        return Finding(self.status, "said so")

    @property
    def here(self) -> bool:
        return ID in self.bench.registry.instances_by_id


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage, Callable[[Stage], Awaitable[None]]], int]:
    monkeypatch.setattr(limits, "AGENT_ALIVE_MS", 1)
    monkeypatch.setattr(limits, "AGENT_LEAVE_MS", 1_000)

    def begin(stage: Stage, script: Callable[[Stage], Awaitable[None]]) -> int:
        monkeypatch.setitem(PROBERS, CheckKind.TCP, stage.probe)  # type: ignore[arg-type]

        async def main() -> int:
            running = asyncio.create_task(stage.supervisor.run())
            await script(stage)
            async with asyncio.timeout(120):
                return await running

        return asyncio.run(main())

    return begin


def test_it_is_registered_when_it_is_well_and_taken_out_before_the_signal(play) -> None:
    stage = Stage("trap 'exit 3' TERM; while :; do sleep 0.01; done")
    stage.status = CheckStatus.CRITICAL

    async def script(stage: Stage) -> None:
        await stage.bench.until(lambda: "started" in stage.bench.events)
        assert not stage.here
        stage.status = CheckStatus.PASSING
        await stage.bench.until(lambda: stage.here)
        stage.status = CheckStatus.CRITICAL
        await stage.bench.until(lambda: stage.bench.registry.healths[ID] == ("critical", "said so"))
        stage.supervisor.receive(signal.SIGTERM)

    assert play(stage, script) == 3
    assert not stage.here
    assert stage.bench.registry.calls[-2:] == ["deregister", "revoke"]


def test_with_a_drain_callers_are_waited_for(play) -> None:
    stage = Stage("trap 'exit 4' TERM; while :; do sleep 0.01; done", drain_s=20.0)
    stage.bench.registry.drains = [Drain(service="web", id=ID, state="complete")]

    async def script(stage: Stage) -> None:
        await stage.bench.until(lambda: stage.here)
        stage.supervisor.receive(signal.SIGTERM)

    assert play(stage, script) == 4
    assert stage.bench.events[-3:] == ["draining", "drained", "deregistered"]


def test_a_drain_that_cannot_be_told_holds_up_nothing(play) -> None:
    stage = Stage("while :; do sleep 0.01; done", drain_s=20.0)

    async def script(stage: Stage) -> None:
        await stage.bench.until(lambda: stage.here)
        stage.bench.registry.failing = AWAY
        stage.supervisor.receive(signal.SIGTERM)

    assert play(stage, script) == 128 + signal.SIGTERM
    assert any("could not drain" in notice.text for notice in stage.bench.notices)


def test_who_ignores_the_signal_is_killed(play) -> None:
    stage = Stage("trap '' TERM; while :; do sleep 0.01; done", stop_s=0.1, checks={})

    async def script(stage: Stage) -> None:
        await stage.bench.until(lambda: stage.here)
        stage.supervisor.receive(signal.SIGTERM)

    assert play(stage, script) == 128 + signal.SIGKILL
    assert "killed" in stage.bench.events


def test_restarts_and_what_is_shown_meanwhile(play, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("sleep 0.3; exit 5", restart=RestartPolicy(When.ON_FAILURE, 1, 100, 100))

    async def script(stage: Stage) -> None:
        await stage.bench.until(lambda: stage.bench.registry.healths.get(ID, ("", ""))[0] == "critical")
        assert "ended with exit code 5" in stage.bench.registry.healths[ID][1]

    assert play(stage, script) == 5
    assert stage.bench.events.count("started") == 2


def test_a_stop_ends_the_pause_before_a_restart(play) -> None:
    stage = Stage("exit 6", restart=RestartPolicy(When.ALWAYS, 0, 60_000, 60_000))

    async def script(stage: Stage) -> None:
        await stage.bench.until(lambda: "ended" in stage.bench.events)
        stage.supervisor.receive(signal.SIGUSR1)
        stage.supervisor.receive(signal.SIGTERM)

    assert play(stage, script) == 6


def test_what_the_program_has_started_may_end_in_peace(play, tmp_path: Path) -> None:
    left = f"trap 'echo bye > {tmp_path}/bye; exit' TERM; touch {tmp_path}/set; while :; do sleep 0.01; done"
    stage = Stage(f"sh -c {shlex.quote(left)} & wait")

    async def script(stage: Stage) -> None:
        await stage.bench.until(lambda: stage.here and (tmp_path / "set").exists())
        stage.supervisor.receive(signal.SIGTERM)

    assert play(stage, script) == 128 + signal.SIGTERM
    assert (tmp_path / "bye").exists()
    assert "killed" not in stage.bench.events


async def nothing(stage: Stage) -> None:
    """A program that needs no help to end."""


@pytest.mark.parametrize(
    ("program", "well", "told"),
    [
        ("exit 3", False, "ended with exit code 3"),
        ("exit 0", False, "stay in the foreground"),
        ("sleep 0.2", True, "code 0"),
    ],
)
def test_an_end_that_nobody_asked_for_is_told(play, program: str, well: bool, told: str) -> None:
    stage = Stage(program)
    stage.status = CheckStatus.PASSING if well else CheckStatus.CRITICAL
    play(stage, nothing)
    (notice,) = [notice for notice in stage.bench.notices if notice.event == "ended"]
    assert told in notice.text
    assert notice.warning is not well


def test_signals_that_stop_are_not_passed_on_at_once() -> None:
    assert not set(STOP_SIGNALS) & {*PASSED_ON, *WITHOUT_TERMINAL, SUSPEND_SIGNAL}
    assert limits.AGENT_CHILD_STOP_MS == 30_000
