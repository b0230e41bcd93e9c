"""Durations as Go writes and reads them: ``10s``, ``1m30s``, ``300ms``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["go_duration", "parse_duration"]

_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_UNIT_MS: Final = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}
_SIZE_MAX: Final = 64
_NANOSECONDS_MAX: Final = 9_223_372_036_854_775_807


@lru_cache(1_024)
def parse_duration(text: str) -> int:
    """Milliseconds, cut towards zero but never from a little to nothing. Raises ValueError as Go's parser would."""
    if text in ("0", "+0", "-0"):
        return 0
    if len(text) > _SIZE_MAX or _WHOLE.fullmatch(text) is None:
        raise ValueError(f'time: invalid duration "{text[:_SIZE_MAX]}"')
    value = sum(float(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text))
    if value * 1e6 > _NANOSECONDS_MAX:
        raise ValueError(f'time: invalid duration "{text}"')
    whole = max(int(value), 1) if value > 0 else 0
    return -whole if text.startswith("-") else whole


def go_duration(duration_ms: int) -> str:
    """As ``time.Duration.String`` writes it."""
    if duration_ms == 0:
        return "0s"
    if duration_ms < 0:
        return "-" + go_duration(-duration_ms)
    if duration_ms < 1_000:
        return f"{duration_ms}ms"
    minutes, rest_ms = divmod(duration_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, thousandths = divmod(rest_ms, 1_000)
    tail = f"{seconds}.{thousandths:03d}".rstrip("0") if thousandths else str(seconds)
    if hours:
        return f"{hours}h{minutes}m{tail}s"
    return f"{minutes}m{tail}s" if minutes else f"{tail}s"
