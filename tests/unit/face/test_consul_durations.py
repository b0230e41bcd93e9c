from __future__ import annotations

import pytest

from townhall.face.consul.durations import go_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [("10s", 10_000), ("1m30s", 90_000), ("300ms", 300), ("1.5h", 5_400_000), ("0", 0), ("1us", 1), ("-5s", -5_000)],
)
def test_parse(text, duration_ms):
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize("text", ["", "soon", "10", "s", "1s ", "9" * 70 + "s", "99999999999h"])
def test_refusals(text):
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0s"),
        (250, "250ms"),
        (10_000, "10s"),
        (90_000, "1m30s"),
        (3_600_000, "1h0m0s"),
        (1_500, "1.5s"),
        (-5_000, "-5s"),
    ],
)
def test_go_duration(duration_ms, text):
    assert go_duration(duration_ms) == text
