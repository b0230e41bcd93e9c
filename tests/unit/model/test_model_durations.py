from __future__ import annotations

import pytest

from townhall.model import limits
from townhall.model.durations import duration_ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        (".5s", 500),
        ("300ms", 300),
        ("1us", 1),
        ("0", 0),
        ("0s", 0),
        ("0.1ms", 1),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert duration_ms(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "10", "s", "10 s", "-1s", "1s1", "1d", "1e3s", "١s", "nan", "1s" * 100, f"{limits.LEASE_TTL_MAX_MS + 1}ms"],
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        duration_ms(text)
