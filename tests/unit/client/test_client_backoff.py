"""Waits grow, stay below the ceiling, and spread over the whole range."""

from __future__ import annotations

import random

from townhall.client.backoff import Backoff
from townhall.model import limits


def test_the_ceiling_doubles_and_resets() -> None:
    random.seed(7)
    most = [max(_series(n)[n] for _ in range(400)) for n in range(4)]
    for step, longest in enumerate(most):
        ceiling_s = limits.CLIENT_BACKOFF_MIN_MS * 2**step / 1000
        assert 0.9 * ceiling_s <= longest <= ceiling_s
    backoff = Backoff(first_ms=100, ceiling_ms=400)
    for _ in range(20):
        assert 0.001 <= backoff.next_s() <= 0.4
    backoff.reset()
    assert backoff.next_s() <= 0.1


def _series(count: int) -> list[float]:
    backoff = Backoff()
    return [backoff.next_s() for _ in range(count + 1)]


def test_jitter_is_full() -> None:
    random.seed(8)
    waits = [Backoff(first_ms=1_000).next_s() for _ in range(500)]
    assert min(waits) < 0.05
    assert max(waits) > 0.95


def test_it_never_passes_the_maximum() -> None:
    backoff = Backoff()
    assert all(backoff.next_s() <= limits.CLIENT_BACKOFF_MAX_MS / 1000 for _ in range(100))
