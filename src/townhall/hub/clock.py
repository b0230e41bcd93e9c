"""Time for the hub: the machine's, made safe to decide by, and one that stands still until it is told to go on.

``now_ms`` stamps commits, and decisions compare those stamps ("lapsed for longer than its grace"). So it must not go
backwards when somebody sets the clock back, and it must not leap when the process was stopped for a minute: a leap
would end the grace of everybody who had no chance to be heard meanwhile. Instead it runs faster or slower than
the wall clock until the two meet again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from townhall.model import limits

__all__ = ["MachineClock", "SimulatedClock"]

SLEW_DIVISOR = 2
"""While it differs from the wall clock it runs half as fast again, or half as fast: a grace never shrinks below 2/3."""
STEP_MIN_MS = 86_400_000
"""A wall clock more than a day ahead was set, not missed; catching up would take longer than anybody waits."""


class MachineClock:
    """The machine's clock. Read it at least every ``STALL_MIN_MS``: a longer gap counts as a pause of our own."""

    __slots__ = ("_monotonic", "_now_ms", "_read_ms", "_wall")

    def __init__(
        self, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``wall`` and ``monotonic`` answer seconds; tests pass their own."""
        self._wall = wall
        self._monotonic = monotonic
        self._now_ms = int(wall() * 1000)
        self._read_ms = int(monotonic() * 1000)

    def monotonic_ms(self) -> int:
        """Milliseconds that never step; they do count while the process is stopped."""
        return int(self._monotonic() * 1000)

    def now_ms(self) -> int:
        """Unix milliseconds; see the head of this file."""
        read_ms = int(self._monotonic() * 1000)
        passed_ms = read_ms - self._read_ms
        if passed_ms <= 1:
            return self._now_ms  # The slew needs at least two milliseconds to show in whole numbers.
        self._read_ms = read_ms
        passed_ms = min(passed_ms, limits.STALL_MIN_MS)
        now_ms = self._now_ms + passed_ms
        error_ms = int(self._wall() * 1000) - now_ms
        if error_ms > STEP_MIN_MS:
            now_ms += error_ms
        elif error_ms:
            slew_max_ms = passed_ms // SLEW_DIVISOR
            now_ms += max(-slew_max_ms, min(slew_max_ms, error_ms))
        self._now_ms = now_ms
        return now_ms

    def not_before(self, time_ms: int) -> None:
        """Go on from ``time_ms`` if that is later than now; until the wall clock is there too, time runs slowly."""
        self._now_ms = max(self._now_ms, time_ms)


class SimulatedClock:
    """A clock that moves only when it is told to, or follows a loop's virtual time through ``source``."""

    __slots__ = ("_epoch_ms", "_source", "elapsed_ms")

    def __init__(self, *, epoch_ms: int = 1_700_000_000_000, source: Callable[[], float] | None = None) -> None:
        """``source`` answers virtual seconds since its start; without one, ``advance`` is the only way on."""
        self._epoch_ms = epoch_ms
        self._source = source
        self.elapsed_ms = 0
        """What ``advance`` added so far."""

    def advance(self, by_ms: int) -> None:
        """Let time pass."""
        self.elapsed_ms += by_ms

    def monotonic_ms(self) -> int:
        """Milliseconds since the start of the simulation."""
        return self.elapsed_ms + (round(self._source() * 1000) if self._source is not None else 0)

    def now_ms(self) -> int:
        """The same, as Unix milliseconds."""
        return self._epoch_ms + self.monotonic_ms()

    def not_before(self, time_ms: int) -> None:
        """Go on from ``time_ms`` if that is later than now."""
        self._epoch_ms += max(0, time_ms - self.now_ms())
