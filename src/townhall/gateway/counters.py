"""What a gateway has counted, in a form that metrics can read."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from townhall.gateway.trace import Trace

__all__ = ["BUCKETS_S", "Counters", "RouteCounts"]

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RouteCounts:
    """Of one route."""

    __slots__ = ("buckets", "classes", "duration_s", "received_bytes", "sent_bytes")

    def __init__(self) -> None:
        self.classes = [0] * 6
        """Answers by the first digit of their status."""
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.duration_s = 0.0
        self.received_bytes = 0
        self.sent_bytes = 0


class Counters:
    """Since the gateway started."""

    def __init__(self) -> None:
        self.accepted = 0
        """Connections of clients."""
        self.turned_away = 0
        """Connections over the limit."""
        self.malformed = 0
        """Requests that could not be read, or could be read in two ways."""
        self.retries = 0
        """Attempts after the first."""
        self.failures: Counter[tuple[str, str]] = Counter()
        """Attempts that failed, by service and kind."""
        self.problems: Counter[str] = Counter()
        """Answers of the gateway's own, by code."""
        self.routes: dict[str, RouteCounts] = {}

    def noted(self, trace: Trace, duration_s: float) -> None:
        """A request is over."""
        counts = self.routes.get(trace.route)
        if counts is None:
            counts = self.routes[trace.route] = RouteCounts()
        counts.classes[trace.status // 100] += 1
        counts.buckets[bisect_left(BUCKETS_S, duration_s)] += 1
        counts.duration_s += duration_s
        counts.received_bytes += trace.received
        counts.sent_bytes += trace.sent
        if trace.attempts > 1:
            self.retries += trace.attempts - 1
        if trace.failures:
            self.failures.update((trace.service, kind) for kind in trace.failures)
        if trace.code:
            self.problems[trace.code] += 1
