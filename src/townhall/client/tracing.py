"""Who is told of every attempt of a call, around it: what ``townhall.otel`` implements for OpenTelemetry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from townhall.client.records import Instance
from townhall.model.instance import ServiceKey

__all__ = ["Tracing"]

T = TypeVar("T")


class Tracing(Protocol):
    """Wraps the function of one call, which is called once for each attempt, retries and hedges alike."""

    def traced(
        self, key: ServiceKey, function: Callable[[Instance], Awaitable[T]]
    ) -> Callable[[Instance], Awaitable[T]]:
        """The function with each of its calls traced."""
        ...

    def traced_blocking(self, key: ServiceKey, function: Callable[[Instance], T]) -> Callable[[Instance], T]:
        """The same for functions that wait."""
        ...

    def carried(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The header fields of a request with those that tell its trace to the instance."""
        ...
