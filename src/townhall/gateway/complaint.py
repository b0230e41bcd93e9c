"""What is wrong and stays so: told when it begins, then ever more rarely, and once when it is over."""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["Complaint", "away_text"]

_log = logging.getLogger("townhall.gateway")
_FIRST_S: Final = 10.0
_LAST_S: Final = 600.0
"""Between two tellings, doubled each time; the last is as often as somebody may want to be reminded."""


def away_text(told: object) -> str:
    """What is told while no registry answers, for all services at once."""
    return f"the registry cannot be reached, services that are not known yet wait for it: {told}"


class Complaint:
    """One thing that may be wrong; ``over`` is said when it is not any more."""

    def __init__(self, over: str) -> None:
        self._over = over
        self._interval_s = 0.0
        """0 while nothing is wrong."""
        self._again_at = 0.0

    def tell(self, text: str, *, now_s: float) -> None:
        """It is wrong, or still is."""
        if self._interval_s and now_s < self._again_at:
            return
        self._interval_s = min(2 * self._interval_s, _LAST_S) or _FIRST_S
        self._again_at = now_s + self._interval_s
        _log.warning("%s", text)

    def end(self) -> None:
        """It is right, or has been all along."""
        if self._interval_s:
            self._interval_s = 0.0
            _log.info("%s", self._over)
