"""Counts of durations and the quantiles read from them."""

from __future__ import annotations

from townhall.hub.histogram import BOUNDS_US, Histogram


def test_empty() -> None:
    assert Histogram().quantile_us(0.99) == 0


def test_bounds_rise() -> None:
    assert list(BOUNDS_US) == sorted(set(BOUNDS_US))


def test_each_duration_is_counted_once_under_its_bound() -> None:
    histogram = Histogram()
    for duration in (0, 50, 51, BOUNDS_US[-1], BOUNDS_US[-1] + 1):
        histogram.add(duration)
    assert sum(histogram.counts) == histogram.count == 5
    assert histogram.counts[0] == 2
    assert histogram.counts[1] == 1
    assert histogram.counts[-1] == 1
    assert histogram.max_us == BOUNDS_US[-1] + 1
    assert histogram.sum_us == 101 + 2 * BOUNDS_US[-1] + 1


def test_quantiles_are_upper_bounds_within_half() -> None:
    histogram = Histogram()
    for duration in range(1, 10_001):
        histogram.add(duration)
    for share in (0.5, 0.9, 0.99, 1.0):
        true = share * 10_000
        assert true <= histogram.quantile_us(share) <= true * 1.5 + 1


def test_a_quantile_is_never_above_the_longest() -> None:
    histogram = Histogram()
    histogram.add(60)
    assert histogram.quantile_us(0.5) == 60
    histogram.add(10**9)
    assert histogram.quantile_us(1.0) == 10**9
