"""When to stop asking a service that fails all the time. Pure: time is passed in.

Closed: everything passes, failures in a row are counted. Open: nothing passes for ``PROXY_OPEN_MS``. Then half open: one
request passes and decides. A failure here is a request that no instance answered, or that ended with 502, 503 or 504.
"""

from __future__ import annotations

from townhall.model.limits import PROXY_OPEN_MS

__all__ = ["Breaker"]


class Breaker:
    """Of one service; ``failures`` of 0 never opens."""

    __slots__ = ("_count", "_probing", "_until_s", "failures", "opened")

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self._count = 0
        self._until_s = 0.0
        self._probing = False
        self.opened = 0
        """How often it has opened."""

    def allows(self, *, now_s: float) -> bool:
        """Whether a request may begin; each that does is followed by ``ended``."""
        if not self.failures or self._count < self.failures:
            return True
        if now_s < self._until_s or self._probing:
            return False
        self._probing = True
        return True

    def left_s(self, *, now_s: float) -> float:
        """Until a request may try."""
        return max(0.0, self._until_s - now_s)

    def ended(self, *, failed: bool, now_s: float) -> None:
        """A request is over."""
        if not self.failures:
            return
        if not failed:
            self._count = 0
            self._probing = False
            return
        self._count += 1
        if self._count == self.failures or self._probing:
            self.opened += 1
            self._until_s = now_s + PROXY_OPEN_MS / 1000
            self._probing = False
