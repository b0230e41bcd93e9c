"""The application's own health: a gate before the start, and in and out of service afterwards."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fake_registry import FakeRegistry, until

from townhall.client import self_check as self_check_module
from townhall.client.provider import Provider
from townhall.client.self_check import SelfCheck
from townhall.model import limits
from townhall.model.errors import Unavailable

KEY = ("default", "default", "user")
ID = "user-127.0.0.1-8080"


def test_nothing_is_registered_before_it_is_healthy() -> None:
    async def main() -> None:
        answers = [False, False, True]

        async def health() -> bool:
            if not answers:
                return True
            assert not fake.instances.get(KEY), "nothing is registered before it is healthy"
            return answers.pop(0)

        async with FakeRegistry() as fake:
            provider = Provider(fake.url, service="user", port=8080, health=health, health_interval=0.01)
            await provider.start()
            assert fake.instances[KEY][ID].get("ready", True) is True
            assert not answers
            await until(lambda: provider.connected)
            await provider.stop()

    asyncio.run(main())


def test_a_service_that_is_never_ready_does_not_start() -> None:
    async def main() -> None:
        def health() -> None:
            raise RuntimeError("no database")

        async with FakeRegistry() as fake:
            with pytest.raises(Unavailable, match="no database"):
                await Provider(fake.url, service="user", port=1, health=health, ready_timeout=0.5).start()
            assert not fake.asked

    asyncio.run(main())


def test_while_it_is_ill_it_is_out_of_service_and_its_heartbeats_go_on() -> None:
    async def main() -> None:
        state = {"healthy": True}
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            Provider(
                fake.url, service="user", port=8080, ttl=0.6, health=lambda: state["healthy"], health_interval=0.01
            ),
        ):
            state["healthy"] = False
            await until(lambda: fake.instances[KEY][ID]["verdict"] == "down")
            assert fake.instances[KEY][ID]["reason"] == "health() says no"
            fake.faults.silent_session = True
            fake.end_lease(next(iter(fake.leases)))
            fake.instances[KEY].clear()
            await until(lambda: fake.instances[KEY])
            assert fake.instances[KEY][ID]["health"] == {"status": "critical", "output": "health() says no"}
            state["healthy"] = True
            await until(lambda: fake.instances[KEY][ID]["verdict"] == "up")

    asyncio.run(main())


def test_a_change_that_could_not_be_told_is_told_later() -> None:
    async def main() -> None:
        told: list[str] = []

        async def tell(reason: str) -> None:
            told.append(reason)
            if len(told) < 3:
                raise Unavailable("the registry is away")

        check = SelfCheck(lambda: False, tell, interval_s=0.001)
        check.healthy = True
        task = asyncio.create_task(check.run())
        await until(lambda: len(told) == 3)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task})
        assert told == ["health() says no"] * 3, "told until it was heard, and then no more"

    asyncio.run(main())


def test_a_health_that_hangs_counts_as_ill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check_module.limits, "CLIENT_HEALTH_TIMEOUT_MS", 10)
    assert limits.CLIENT_HEALTH_INTERVAL_MS > 0
    assert limits.CLIENT_READY_TIMEOUT_MS > limits.CLIENT_HEALTH_INTERVAL_MS

    async def main() -> None:
        async def health() -> None:
            await asyncio.Event().wait()

        async def tell(reason: str) -> None:
            raise AssertionError

        with pytest.raises(Unavailable, match="does not answer"):
            await SelfCheck(health, tell, interval_s=0.001).gate(budget_s=0.2)

    asyncio.run(main())


def test_a_plain_function_that_hangs_holds_up_nothing_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check_module.limits, "CLIENT_HEALTH_TIMEOUT_MS", 10)

    async def main() -> None:
        hangs = threading.Event()
        asked: list[int] = []
        told: list[str] = []

        def health() -> None:
            asked.append(1)
            hangs.wait(60)

        async def tell(reason: str) -> None:
            told.append(reason)

        check = SelfCheck(health, tell, interval_s=0.001)
        check.healthy = True
        task = asyncio.create_task(check.run())
        await until(lambda: told == ["health() does not answer"])
        await asyncio.sleep(0.05)
        assert len(asked) == 1
        hangs.set()
        await until(lambda: told == ["health() does not answer", ""])
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(main())


def test_a_reason_that_changes_is_told_on_one_short_line() -> None:
    async def main() -> None:
        reasons = ["no\ndatabase", "x" * 1000]
        told: list[str] = []

        async def health() -> None:
            raise LookupError(reasons[0])

        async def tell(reason: str) -> None:
            told.append(reason)
            if len(told) == 1:
                reasons.pop(0)

        check = SelfCheck(health, tell, interval_s=0.001)
        check.healthy = True
        task = asyncio.create_task(check.run())
        await until(lambda: len(told) == 2)
        task.cancel()
        await asyncio.wait({task})
        assert told[0] == "LookupError: no database"
        assert len(told[1]) == limits.AGENT_REASON_SIZE_MAX
        assert told[1].endswith("x…")

    asyncio.run(main())
