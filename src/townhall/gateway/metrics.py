"""The gateway's metrics in Prometheus' text format (exposition format 0.0.4). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from townhall.gateway.counters import BUCKETS_S, Counters
from townhall.gateway.services import Service

__all__ = ["metrics"]

_CLASSES = ("unknown", "1xx", "2xx", "3xx", "4xx", "5xx")


def metrics(counters: Counters, services: Iterable[Service], *, open_clients: int) -> Iterator[str]:
    """All lines."""
    yield from _requests(counters)
    yield from _durations(counters)
    yield from _totals(counters, open_clients)
    yield from _services(list(services))


def _requests(counters: Counters) -> Iterator[str]:
    yield from _head("townhall_gateway_requests_total", "counter", "Requests by route and status class.")
    for route, counts in counters.routes.items():
        for name, value in zip(_CLASSES, counts.classes, strict=True):
            if value:
                yield f'townhall_gateway_requests_total{{route="{_text(route)}",status="{name}"}} {value}'
    for name, about in (
        ("received_bytes", "Bytes of requests' bodies."),
        ("sent_bytes", "Bytes of answers' bodies."),
    ):
        yield from _head(f"townhall_gateway_{name}_total", "counter", about)
        for route, counts in counters.routes.items():
            yield f'townhall_gateway_{name}_total{{route="{_text(route)}"}} {getattr(counts, name)}'


def _durations(counters: Counters) -> Iterator[str]:
    name = "townhall_gateway_request_seconds"
    yield from _head(name, "histogram", "From a request's head to its answer's last byte.")
    for route, counts in counters.routes.items():
        label = _text(route)
        edges = [f"{edge:g}" for edge in BUCKETS_S] + ["+Inf"]
        sums = list(accumulate(counts.buckets))
        for edge, value in zip(edges, sums, strict=True):
            yield f'{name}_bucket{{route="{label}",le="{edge}"}} {value}'
        yield f'{name}_sum{{route="{label}"}} {counts.duration_s!r}'
        yield f'{name}_count{{route="{label}"}} {sums[-1]}'


def _totals(counters: Counters, open_clients: int) -> Iterator[str]:
    for name, about in (
        ("accepted", "Connections of clients."),
        ("turned_away", "Connections over the limit."),
        ("malformed", "Requests that could not be read, or could be read in two ways."),
        ("retries", "Attempts after a request's first."),
    ):
        yield from _head(f"townhall_gateway_{name}_total", "counter", about)
        yield f"townhall_gateway_{name}_total {getattr(counters, name)}"
    yield from _head("townhall_gateway_open", "gauge", "Connections of clients now.")
    yield f"townhall_gateway_open {open_clients}"
    yield from _head("townhall_gateway_failures_total", "counter", "Attempts that failed, by kind.")
    for (service, kind), value in counters.failures.items():
        yield f'townhall_gateway_failures_total{{service="{_text(service)}",kind="{kind}"}} {value}'
    yield from _head("townhall_gateway_problems_total", "counter", "Answers of the gateway's own, by code.")
    for code, value in counters.problems.items():
        yield f'townhall_gateway_problems_total{{code="{code}"}} {value}'


def _services(services: list[Service]) -> Iterator[str]:
    rows = (
        ("instances", "gauge", "Known instances.", lambda one: len(one.handle.instances())),
        ("candidates", "gauge", "Instances that requests go to.", lambda one: one.handle.chooser.count),
        ("running", "gauge", "Requests now.", lambda one: one.requests),
        ("pending", "gauge", "Requests that wait for a connection.", lambda one: one.pending),
        ("connections", "gauge", "Connections to instances.", lambda one: one.connections),
        ("stale_seconds", "gauge", "Age of what is known while the registry is away.", lambda one: one.handle.age_s),
        ("budget_refused_total", "counter", "Retries not made for want of budget.", lambda one: one.budget_refused),
        ("circuit_opened_total", "counter", "How often the circuit has opened.", lambda one: one.breaker.opened),
    )
    for name, kind, about, value in rows:
        yield from _head(f"townhall_gateway_service_{name}", kind, about)
        # Routes that differ in a balancer or a limit follow a service apart; their numbers are told apart by their order.
        for number, service in enumerate(services):
            yield f'townhall_gateway_service_{name}{{service="{_text(service.name)}",pool="{number}"}} {value(service)!r}'


def _text(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _head(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"
