"""OpenTelemetry for the SDK: a span for each attempt of a call, and what is counted as instruments. Needs its API alone.

Names are those of the semantic conventions where they have one (server.address, http.request.resend_count, service.peer.name);
townhall.service and townhall.instance say the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from opentelemetry import metrics, propagate, trace

from townhall.client.metrics import Family
from townhall.client.records import Instance
from townhall.model.instance import ServiceKey

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.trace import Tracer

__all__ = ["Measured", "Tracing", "instrument"]

T = TypeVar("T")


class Tracing:
    """``Consumer(…, tracing=Tracing())``: a client span for each attempt, retries and hedges alike.

    It is the current span while the attempt runs, so that a client's own instrumentation hangs below it; the SDK's own
    HTTP client sends its context along.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("townhall")

    def traced(
        self, key: ServiceKey, function: Callable[[Instance], Awaitable[T]]
    ) -> Callable[[Instance], Awaitable[T]]:
        """The function with a span around each of its calls, which are the attempts of one call."""
        count = itertools.count()

        async def attempt(instance: Instance) -> T:
            with self._span(key, instance, next(count)):
                return await function(instance)

        return attempt

    def traced_blocking(self, key: ServiceKey, function: Callable[[Instance], T]) -> Callable[[Instance], T]:
        """The same for functions that wait."""
        count = itertools.count()

        def attempt(instance: Instance) -> T:
            with self._span(key, instance, next(count)):
                return function(instance)

        return attempt

    def carried(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The header fields with those of the current span's context."""
        carrier = dict(headers)
        propagate.inject(carrier)
        return carrier

    @contextmanager
    def _span(self, key: ServiceKey, instance: Instance, before: int) -> Iterator[None]:
        attributes: dict[str, str | int] = {
            "server.address": instance.address,
            "server.port": instance.port,
            "service.peer.name": key.name,
            "townhall.service": str(key),
            "townhall.instance": instance.id,
        }
        if before:
            attributes["http.request.resend_count"] = before
        kind = trace.SpanKind.CLIENT
        with self._tracer.start_as_current_span(f"call {key.name}", kind=kind, attributes=attributes) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise


class Measured(Protocol):
    """A consumer or a provider, of either kind."""

    def metrics(self) -> tuple[Family, ...]:
        """What was counted so far."""
        ...


def instrument(measured: Measured, meter: Meter | None = None) -> None:
    """Observable counters and gauges for everything that a consumer or provider counts; call it once for each.

    ``townhall_client_retries_total`` is ``townhall.client.retries`` here.
    """
    meter = meter or metrics.get_meter("townhall")
    for family in measured.metrics():
        name = family.name.removesuffix("_total").replace("_", ".", 2)
        make = meter.create_observable_counter if family.kind == "counter" else meter.create_observable_gauge
        make(name, callbacks=[_observing(measured, family.name)], description=family.help)


def _observing(measured: Measured, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        for family in measured.metrics():
            if family.name == name:
                for labels, value in family.samples:
                    yield metrics.Observation(value, dict(labels))

    return observe
