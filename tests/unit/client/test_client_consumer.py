"""Consumers: handles by name, one shared mirror, states, and cold starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fake_registry import FakeRegistry, Refusal, until

from townhall.client.balancers import RoundRobin
from townhall.client.consumer import Consumer, MirrorState
from townhall.model import limits
from townhall.model.errors import Denied, InvalidField, NoInstance
from townhall.model.instance import ServiceKey


def test_a_name_is_a_handle() -> None:
    consumer = Consumer("http://127.0.0.1:1", namespace="n")
    assert consumer["user"] is consumer["user"]
    assert consumer["user"] is consumer[ServiceKey("n", "default", "user")]
    assert consumer["a/b/c"].key == ServiceKey("a", "b", "c")
    assert consumer.state is MirrorState.SUSPENDED


def test_balancers_are_chosen_by_name_or_made() -> None:
    made = []

    def maker() -> RoundRobin:
        made.append(RoundRobin())
        return made[-1]

    consumer = Consumer("http://127.0.0.1:1", balancer=maker)
    assert consumer["a"].chooser._balancer is made[0]
    assert consumer["b"].chooser._balancer is made[1]
    with pytest.raises(InvalidField, match="round_robin"):
        Consumer("http://127.0.0.1:1", balancer="fastest")


def test_consumers_share_one_stream() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            await fake.put("user", "a")
            async with (
                Consumer(fake.url, snapshot_directory=None) as one,
                Consumer(fake.url, snapshot_directory=None) as two,
            ):
                await one.start("user", "other")
                await two["user"].start()
                assert two["user"].pick().id == one["user"].pick().id == "a"
                await until(lambda: one.state is MirrorState.CONNECTED)
                assert two.state is MirrorState.CONNECTED
                await one.close()
                await fake.put("user", "b")
                await until(lambda: len(two["user"].instances()) == 2)
                with pytest.raises(NoInstance):
                    one["user"].pick()
            assert sum(asked.path == "/services/user/instances" for asked in fake.asked) == 1

    asyncio.run(main())


def test_states_are_told() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Consumer(fake.url, snapshot_directory=None) as consumer:
            states: list[MirrorState] = []
            end = consumer.on_state(states.append)
            await consumer.start("user")
            await until(lambda: states == [MirrorState.CONNECTED])
            await fake.stop()
            await until(lambda: len(states) == 2)
            assert consumer.state is MirrorState.SUSPENDED
            end()
            await fake.start()
            await until(lambda: consumer.state is MirrorState.CONNECTED)
            assert len(states) == 2

    asyncio.run(main())


def test_a_cold_start_without_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_SNAPSHOT_INTERVAL_MS", 10)

    async def main() -> None:
        async with FakeRegistry() as fake:
            await fake.put("user", "a")
            async with Consumer(fake.url, snapshot_directory=tmp_path) as consumer:
                await consumer.start("user")
                await until(lambda: list(tmp_path.rglob("user.json")))
            await fake.stop()
            async with Consumer(fake.url, snapshot_directory=tmp_path, start_timeout=0.5) as consumer:
                await consumer["user"].start()
                assert consumer["user"].pick().id == "a"
                assert consumer["user"].stale
                assert consumer["user"].age_s > 0
            await fake.start()

    asyncio.run(main())


def test_the_usual_place_is_below_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    async def main() -> None:
        async with FakeRegistry() as fake, Consumer(fake.url) as consumer:
            await fake.put("user", "a")
            await consumer.start("user")
            await until(lambda: list((tmp_path / "townhall").rglob("user.json")))

    asyncio.run(main())


def test_a_refusal_is_raised() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Consumer(fake.url, snapshot_directory=None, token="t") as consumer:
            fake.faults.refuse = lambda asked: Refusal(403, "denied")
            with pytest.raises(Denied):
                await consumer["user"].start()
            assert fake.asked[0].headers["x-townhall-token"] == "t"
            fake.faults.refuse = lambda asked: None
            await fake.put("user", "a")
            await consumer["user"].start()
            assert consumer["user"].pick().id == "a"

    asyncio.run(main())


def test_three_lines_and_nothing_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    async def main() -> None:
        async with FakeRegistry() as fake:
            fake.canned["GET", "/users/1"] = {"name": "one"}
            await fake.put("user", "a", port=fake.port)
            users = Consumer(fake.url)["user"]
            answer = await users.get("/users/1")
            assert answer.json() == {"name": "one"}

    asyncio.run(main())
