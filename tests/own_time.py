"""Event loops whose time is their own running time, so that a test that was itself stopped times nobody out.

A unit test is both sides of what it tests: client and server, provider and registry are tasks of one loop. On a busy
machine that process stands still for a second or three, and comes back to find its own timers due beside the events that
would have disarmed them: calls of 0.2 s that took "too long", leases that "ran out", connects that "timed out". So the
loops of unit tests leave out the time in which they did not run: between two looks at the clock, and beyond what a wait
was meant to take, no more than ``GAP_S`` passes. Order, and every delay at its least, stay what they are.

What the registry does when it is stopped is tested where it is a process of its own: tests/chaos and tests/crash.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from typing import Any

import pytest

GAP_S = 0.02
"""Long enough for what a turn of a loop has to do, short beside all timeouts that tests must not reach by chance."""
WAIT_S = 0.03


class OwnTime(selectors.DefaultSelector):
    """The selector of a loop, which knows when the loop waits and for how long it meant to."""

    def __init__(self) -> None:
        super().__init__()
        self._looked = time.monotonic()
        self._meant = self._lost = 0.0

    def time(self) -> float:
        """Seconds of running time."""
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        self._lost += max(0.0, passed - self._meant - GAP_S)
        self._meant = max(0.0, self._meant - passed)
        return now - self._lost

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._wait(None)
        end = self.time() + timeout
        while True:
            # A long wait is cut, because a stop within it cannot be told from waiting.
            found = self._wait(min(WAIT_S, max(0.0, end - self.time())))
            if found or self.time() >= end:
                return found

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        self.time()
        # A loop that waits without an end has no timers.
        self._meant = math.inf if timeout is None else timeout
        found = super().select(timeout)
        self.time()
        self._meant = 0.0
        return found


def keep_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all loops that are made from now on."""
    plain = asyncio.BaseEventLoop.time

    def own_time(loop: Any) -> float:
        selector = getattr(loop, "_selector", None)
        return selector.time() if isinstance(selector, OwnTime) else plain(loop)

    monkeypatch.setattr(selectors, "DefaultSelector", OwnTime)
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", own_time)
