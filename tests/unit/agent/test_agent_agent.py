from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from agent_registry import Bench

from townhall.agent.agent import Agent
from townhall.agent.definitions import Definition
from townhall.client.definitions import Service
from townhall.client.records import Health
from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.look import PROBERS
from townhall.probe.ranges import Ranges

PASSING, CRITICAL = CheckStatus.PASSING, CheckStatus.CRITICAL


class Stage:
    """An agent on a fake registry; ``found`` is what checks find, by target."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.agent = Agent(self.bench.keeper, ranges=Ranges(), tell=self.bench.notices.append)
        self.found: dict[str, Finding] = {}

    async def probe(self, definition: CheckDefinition, ground: Ground) -> Finding:
        return self.found[definition.target]

    def define(self, target: str = "a", *, port: int = 80, **fields: object) -> Definition:
        after_ms = fields.pop("deregister_after_ms", 0)
        check = CheckDefinition(
            kind=CheckKind.TCP, target=target, interval_ms=1, timeout_ms=1_000, deregister_after_ms=after_ms
        )  # type: ignore[arg-type]
        health = fields.pop("health", None)
        return Definition(service=Service(name="web", port=port, **fields), checks={"it": check}, health=health)  # type: ignore[arg-type]

    async def until_health(self, id_: str, status: str, output: str = "") -> None:
        await self.bench.until(lambda: self.bench.registry.healths.get(id_) == (status, output))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Stage], Awaitable[None]]], Stage]:
    def begin(script: Callable[[Stage], Awaitable[None]]) -> Stage:
        async def main() -> Stage:
            stage = Stage()
            monkeypatch.setitem(PROBERS, CheckKind.TCP, stage.probe)  # type: ignore[arg-type]
            stage.bench.keeper.start()
            try:
                await script(stage)
            finally:
                stage.agent.stop()
                await stage.bench.keeper.leave()
            return stage

        return asyncio.run(main())

    return begin


ID = "web-127.0.0.1-80"


def test_what_a_source_names_is_registered_as_found_and_followed(play) -> None:
    async def script(stage: Stage) -> None:
        stage.found["a"] = Finding(CRITICAL, "refused")
        stage.agent.apply("files", {"web": stage.define()})
        await stage.until_health(ID, "critical", "refused")
        stage.found["a"] = Finding(PASSING, "")
        await stage.until_health(ID, "passing")
        assert list(stage.agent.definitions) == ["web"]
        stage.agent.apply("docker", {})
        assert list(stage.agent.definitions) == ["web"], "another source"
        stage.agent.apply("files", {})
        await stage.bench.until(lambda: not stage.bench.registry.instances_by_id)

    play(script)


def test_a_changed_definition_keeps_what_was_found_unless_the_checks_changed(play) -> None:
    async def script(stage: Stage) -> None:
        stage.found = {"a": Finding(PASSING, ""), "b": Finding(CRITICAL, "other")}
        stage.agent.apply("files", {"web": stage.define()})
        await stage.until_health(ID, "passing")
        stage.agent.apply("files", {"web": stage.define(weight=4.0)})
        await stage.bench.until(lambda: stage.bench.registry.instances_by_id[ID].weight == 4)
        stage.agent.apply("files", {"web": stage.define("b", weight=4.0)})
        await stage.until_health(ID, "critical", "other")
        stage.agent.apply("files", {"web": stage.define("b", port=81)})
        await stage.until_health("web-127.0.0.1-81", "critical", "other")
        await stage.bench.until(lambda: ID not in stage.bench.registry.instances_by_id)

    play(script)


def test_the_word_of_somebody_else_counts_too(play) -> None:
    async def script(stage: Stage) -> None:
        stage.found["a"] = Finding(PASSING, "")
        stage.agent.apply("docker", {"web": stage.define(health=Health(CRITICAL, "unhealthy"))})
        await stage.until_health(ID, "critical", "unhealthy")
        stage.agent.apply("docker", {"web": stage.define(health=Health(PASSING))})
        await stage.until_health(ID, "passing")

    play(script)


def test_who_is_critical_for_too_long_is_taken_out_until_it_is_well(play) -> None:
    async def script(stage: Stage) -> None:
        stage.found["a"] = Finding(CRITICAL, "dead")
        stage.agent.apply("files", {"web": stage.define(deregister_after_ms=20)})
        await stage.bench.until(lambda: any("it is deregistered" in notice.text for notice in stage.bench.notices))
        await stage.bench.until(lambda: not stage.bench.registry.instances_by_id)
        stage.found["a"] = Finding(PASSING, "")
        await stage.bench.until(
            lambda: stage.bench.registry.healths.get(ID) == ("passing", "") and stage.bench.registry.instances_by_id
        )

    play(script)
