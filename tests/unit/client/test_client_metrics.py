"""What consumers and providers count, as rows with few labels and as Prometheus' text."""

from __future__ import annotations

import asyncio

from fake_registry import FakeRegistry
from test_client_handle import backends

from free_ports import free_port
from townhall.client.consumer import Consumer
from townhall.client.metrics import Family, Sample, prometheus
from townhall.client.provider import Provider
from townhall.model import limits


def value(families: tuple[Family, ...], name: str, **labels: str) -> float:
    (family,) = [one for one in families if one.name == name]
    return next(sample.value for sample in family.samples if labels.items() <= sample.labels.items())


def test_a_consumer_counts_by_service_and_kind() -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            backends(fake, "a"),
            Consumer(fake.url, snapshot_directory=None, balancer="round_robin") as consumer,
        ):
            assert value(consumer.metrics(), "townhall_client_connected") == 0
            await fake.put("user", "dead", port=free_port())
            await consumer["user"].wait_callable(2)
            for _ in range(3):
                await consumer["user"].get("/")
            found = consumer.metrics()
            service = str(consumer["user"].key)
            assert value(found, "townhall_client_attempts_total", service=service) == 4
            assert value(found, "townhall_client_retries_total", service=service) == 1
            assert value(found, "townhall_client_failures_total", kind="connect") == 1
            assert value(found, "townhall_client_instances", state="callable") == 2
            assert value(found, "townhall_client_attempts_running") == 0
            text = prometheus(found)
            assert f'townhall_client_attempts_total{{service="{service}"}} 4\n' in text
            assert "# TYPE townhall_client_attempts_total counter\n" in text

    asyncio.run(main())


def test_many_services_are_added_up(monkeypatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_METRICS_SERVICES_MAX", 2)

    async def main() -> None:
        async with Consumer("http://127.0.0.1:1", snapshot_directory=None) as consumer:
            for number in range(5):
                consumer[f"s{number}"].chooser.tally.attempts = 1
            (family,) = [one for one in consumer.metrics() if one.name == "townhall_client_attempts_total"]
            assert [sample.value for sample in family.samples] == [1, 1, 3]
            assert family.samples[-1].labels == {"service": "other"}

    asyncio.run(main())


def test_a_provider_counts_too_and_texts_are_merged() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Provider(fake.url, service="user", port=8080) as provider:
            with provider.track():
                found = provider.metrics()
            assert value(found, "townhall_provider_running", service="user") == 1
            assert value(found, "townhall_provider_registered", service="user") == 1

    asyncio.run(main())
    one = Family("n", "gauge", "h", (Sample({"a": 'x"\\\n'}, 0.5),))
    two = Family("n", "gauge", "h", (Sample({}, 2.0),))
    assert prometheus([one], [two]) == '# HELP n h\n# TYPE n gauge\nn{a="x\\"\\\\\\n"} 0.5\nn 2\n'
