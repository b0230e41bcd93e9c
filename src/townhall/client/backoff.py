"""How long to wait before the next attempt: exponential, with full jitter.

Full jitter (a uniform draw between nothing and the current ceiling) spreads a crowd of clients that lost the same
registry at the same moment best, which is what such clients are for.
"""

from __future__ import annotations

import random

from townhall.model import limits

__all__ = ["Backoff"]


class Backoff:
    """Waits between attempts. Not safe for several threads."""

    def __init__(
        self, *, first_ms: int = limits.CLIENT_BACKOFF_MIN_MS, ceiling_ms: int = limits.CLIENT_BACKOFF_MAX_MS
    ) -> None:
        self._first_ms = first_ms
        self._ceiling_ms = max(first_ms, ceiling_ms)
        self._now_ms = first_ms

    def next_s(self) -> float:
        """Seconds to wait now, at least a millisecond; the ceiling doubles with each call up to its maximum."""
        ceiling_ms = self._now_ms
        self._now_ms = min(self._ceiling_ms, ceiling_ms * 2)
        return max(1.0, random.uniform(0, ceiling_ms)) / 1000  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> None:
        """An attempt worked: the next wait is short again."""
        self._now_ms = self._first_ms
