"""Durations as people and Go write them: ``10s``, ``1m30s``, ``300ms``; on command lines and in files."""

from __future__ import annotations

import re
from typing import Final

from townhall.model import limits

__all__ = ["duration_ms"]

_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNIT_MS: Final = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}


def duration_ms(text: str) -> int:
    """Milliseconds, never cut from a little to nothing. Raises ValueError."""
    if text == "0":
        return 0
    parts = _PART.findall(text) if len(text) <= limits.LABEL_SIZE_MAX else []
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text[: limits.LABEL_SIZE_MAX]!r} is not a duration; write for example 500ms, 10s or 1m30s")
    value = sum(float(number) * _UNIT_MS[unit] for number, unit in parts)
    if value > limits.LEASE_TTL_MAX_MS:
        raise ValueError(f"{text!r} is longer than {limits.LEASE_TTL_MAX_MS} ms")
    return max(int(value), 1) if value > 0 else 0
