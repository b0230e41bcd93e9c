"""Reports are counted together, limited, and never waited for."""

from __future__ import annotations

import asyncio

import pytest
from fake_registry import FakeRegistry, until

from townhall.client.api import Registry
from townhall.client.records import Instance
from townhall.client.reports import Reports
from townhall.model import limits


def instance(name: str) -> Instance:
    return Instance(id=name, service="user", address="127.0.0.1")


def test_failures_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_REPORT_INTERVAL_MS", 50)

    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            reports = Reports(registry, "me")
            task = asyncio.get_running_loop().create_task(reports.run())
            reports.add(instance("a"), "connect")
            await until(lambda: fake.reports)
            for _ in range(3):
                reports.add(instance("a"), "timeout")
            reports.add(instance("b"), "5xx")
            await until(lambda: len(fake.reports) == 2)
            assert fake.reports[0]["reporter"] == "me"
            assert [(one["id"], one["kind"], one["count"]) for one in fake.reports[1]["failures"]] == [
                ("a", "timeout", 3),
                ("b", "5xx", 1),
            ]
            await until(lambda: reports.sent == 5)
            await fake.stop()
            reports.add(instance("a"), "connect")
            await until(lambda: reports.dropped == 1)
            await fake.start()
            reports.add(instance("a"), "reset")
            await until(lambda: reports.sent == 6)
            task.cancel()
            await asyncio.wait({task})

    asyncio.run(main())


def test_there_is_a_limit_on_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_REPORTS_COUNT_MAX", 2)

    async def main() -> None:
        async with Registry() as registry:
            reports = Reports(registry, "me")
            for name in "abca":
                reports.add(instance(name), "connect")
            assert reports.dropped == 1

    asyncio.run(main())
