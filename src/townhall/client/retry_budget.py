"""How many retries a consumer may still make: what keeps a service that is ill from being called three times as often.

Each call earns ``CLIENT_RETRY_RATIO`` of a retry, time earns ``CLIENT_RETRY_MIN_PER_S``, and each retry or hedge costs
one (Finagle's RetryBudget). Pure: time is passed in.
"""

from __future__ import annotations

from townhall.model import limits

__all__ = ["RetryBudget"]


class RetryBudget:
    """The budget of one service in one consumer. Begins full."""

    __slots__ = ("_at_ms", "_saved", "refused")

    def __init__(self) -> None:
        self._saved = float(limits.CLIENT_RETRY_SAVED_MAX)
        self._at_ms = 0.0
        self.refused = 0
        """Retries that were not made for want of budget."""

    def call(self) -> None:
        """A call begins."""
        if self._saved < limits.CLIENT_RETRY_SAVED_MAX:
            self._saved += limits.CLIENT_RETRY_RATIO

    def spend(self, *, now_ms: float) -> bool:
        """Whether one retry may be made; it is paid for."""
        earned = max(0.0, now_ms - self._at_ms) / 1000 * limits.CLIENT_RETRY_MIN_PER_S
        self._at_ms = now_ms
        self._saved = min(limits.CLIENT_RETRY_SAVED_MAX, self._saved + earned)
        if self._saved < 1.0:
            self.refused += 1
            return False
        self._saved -= 1.0
        return True
