"""Durations in buckets that grow by half: cheap to count, exact enough for quantiles, and mergeable by addition."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["BOUNDS_US", "Histogram"]

BOUNDS_US: Final = tuple(int(50 * 1.5**step) for step in range(32))
"""Upper bounds in microseconds: from 50 µs to 14 s."""


class Histogram:
    """Counts of durations in microseconds."""

    __slots__ = ("count", "counts", "max_us", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        """One per bound, and one for all that is longer."""
        self.count = 0
        self.sum_us = 0
        self.max_us = 0

    def add(self, duration_us: int) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_US, duration_us)] += 1
        self.count += 1
        self.sum_us += duration_us
        self.max_us = max(self.max_us, duration_us)

    def quantile_us(self, share: float) -> int:
        """The bound below which at least ``share`` of all durations lie; 0 when there are none."""
        wanted = share * self.count
        seen = 0
        for bound_us, count in zip(BOUNDS_US, self.counts, strict=False):
            seen += count
            if seen and seen >= wanted:
                return min(bound_us, self.max_us)
        return self.max_us
