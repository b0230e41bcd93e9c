"""Retries stay a small part of the calls, and rare calls are retried all the same."""

from __future__ import annotations

from townhall.client.retry_budget import RetryBudget
from townhall.model.limits import CLIENT_RETRY_MIN_PER_S, CLIENT_RETRY_RATIO, CLIENT_RETRY_SAVED_MAX


def test_what_is_saved_is_spent_and_then_calls_pay() -> None:
    budget = RetryBudget()
    assert sum(budget.spend(now_ms=0) for _ in range(200)) == CLIENT_RETRY_SAVED_MAX
    assert budget.refused == 200 - CLIENT_RETRY_SAVED_MAX
    for _ in range(1_000):
        budget.call()
    assert sum(budget.spend(now_ms=0) for _ in range(1_000)) == min(CLIENT_RETRY_SAVED_MAX, 1_000 * CLIENT_RETRY_RATIO)


def test_time_pays_too() -> None:
    budget = RetryBudget()
    while budget.spend(now_ms=0):
        pass
    assert sum(budget.spend(now_ms=1_000) for _ in range(100)) == CLIENT_RETRY_MIN_PER_S
    assert not budget.spend(now_ms=500), "a clock that goes back pays nothing"
