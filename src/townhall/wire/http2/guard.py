"""Tells work from noise.

Frames that ask for nothing (PING, SETTINGS, empty DATA, PRIORITY, resets of what was just asked for) cost the server
work and the peer nothing. Each spends from a purse; time fills it, and so does work: requests, and bytes of their bodies. A
peer whose purse is empty is cut off with ENHANCE_YOUR_CALM. Real clients stay far away: a gRPC client sends a PING or a
WINDOW_UPDATE for some kilobytes that it received.
"""

from __future__ import annotations

from townhall.model.limits import HTTP2_NOISE_PER_TICK
from townhall.wire.http2 import ErrorCode, Fault

__all__ = ["Guard"]


class Guard:
    """One connection's purse. ``tick`` is set by whoever owns the clock, 20 times a second or so."""

    __slots__ = ("_left", "_max", "_seen", "_worked", "tick")

    def __init__(self, noise_max: int) -> None:
        self._max = self._left = noise_max
        self._seen = 0
        self._worked = 0
        self.tick = 0

    def spend(self, cost: int, worked: int) -> None:
        """Pay for a frame; ``worked`` is what the peer has asked for since the beginning. Raises ``Fault``."""
        self._left -= cost
        if self._left < 0:
            earned = (self.tick - self._seen) * HTTP2_NOISE_PER_TICK + worked - self._worked
            self._left = min(self._max, self._left + earned)
            self._seen, self._worked = self.tick, worked
            if self._left < 0:
                raise Fault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
