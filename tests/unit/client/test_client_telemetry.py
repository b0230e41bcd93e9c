"""OpenTelemetry's SDK as the witness: spans of attempts, their context on the wire, instruments that follow the counts."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_registry import FakeRegistry
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from raw_server import ok, serving
from test_client_handle import backends
from threaded import registry_in_a_thread

import townhall
from free_ports import free_port
from townhall import otel
from townhall.client import tracing
from townhall.client.consumer import Consumer
from townhall.client.records import Instance


def witness() -> tuple[InMemorySpanExporter, townhall.otel.Tracing]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, townhall.otel.Tracing(provider.get_tracer("test"))


def test_every_attempt_is_a_span() -> None:
    async def main() -> None:
        exporter, made_of = witness()
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            backends(fake, "a") as made,
            Consumer(fake.url, snapshot_directory=None, balancer="round_robin", tracing=made_of) as consumer,
        ):
            dead = free_port()
            await fake.put("user", "dead", port=dead)
            await consumer["user"].wait_callable(2)
            for _ in range(2):
                await consumer["user"].get("/")
            failed = next(one for one in exporter.get_finished_spans() if not one.status.is_ok)
            spans = exporter.get_finished_spans()
            assert len(spans) == 3
            attributes: Any = failed.attributes
            assert attributes["server.address"] == "127.0.0.1"
            assert attributes["server.port"] == dead
            assert attributes["service.peer.name"] == "user"
            assert attributes["townhall.instance"] == "dead"
            assert attributes["townhall.service"] == str(consumer["user"].key)
            assert attributes["error.type"] == "Unreachable"
            assert (failed.kind, failed.status.status_code) == (SpanKind.CLIENT, StatusCode.ERROR)
            assert [one.attributes.get("http.request.resend_count") for one in spans if one.attributes] in (
                [None, None, 1],
                [None, 1, None],
            )
            assert made["a"].requests

    asyncio.run(main())


def test_the_instance_is_told_of_the_trace() -> None:
    async def main() -> None:
        heads: list[str] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
            writer.write(ok(b""))
            await writer.drain()

        exporter, made_of = witness()
        async with (
            FakeRegistry() as fake,
            serving(answer) as origin,
            Consumer(fake.url, snapshot_directory=None, tracing=made_of) as consumer,
        ):
            await fake.put("user", "a", port=origin.port)
            await consumer["user"].get("/")
        (span,) = exporter.get_finished_spans()
        assert span.context is not None
        assert f"traceparent: 00-{span.context.trace_id:032x}-{span.context.span_id:016x}" in heads[0]

    asyncio.run(main())
    assert tracing.Tracing is not None
    assert otel.Tracing is townhall.otel.Tracing


def test_calls_that_wait_are_spans_too() -> None:
    exporter, made_of = witness()
    with (
        registry_in_a_thread("a") as (url, _),
        townhall.blocking.Consumer(url, snapshot_directory=None, tracing=made_of) as consumer,
    ):

        def call(instance: Instance) -> str:
            return instance.id

        assert consumer["user"].call(call) == "a"
        assert consumer.metrics()
    assert [one.name for one in exporter.get_finished_spans()] == ["call user"]


def test_instruments_follow_the_counts() -> None:
    async def main() -> None:
        reader = InMemoryMetricReader()
        meters = MeterProvider(metric_readers=[reader])
        async with (
            FakeRegistry() as fake,
            backends(fake, "a"),
            Consumer(fake.url, snapshot_directory=None) as consumer,
        ):
            townhall.otel.instrument(consumer, meters.get_meter("test"))
            await consumer["user"].get("/")
            data: Any = reader.get_metrics_data()
            rows = {one.name: one.data for one in data.resource_metrics[0].scope_metrics[0].metrics}
            (point,) = rows["townhall.client.attempts"].data_points
            assert point.value == 1
            assert point.attributes == {"service": str(consumer["user"].key)}
        meters.shutdown()

    asyncio.run(main())
