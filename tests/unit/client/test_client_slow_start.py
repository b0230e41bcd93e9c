"""Newcomers get a growing share until they are warm."""

from __future__ import annotations

import msgspec
import pytest
from balancing import instances

from townhall.client.records import Instance
from townhall.client.slow_start import WARM_UP_KEY, warmed
from townhall.model.limits import CLIENT_WARM_UP_MAX_MS, CLIENT_WARM_UP_STEP_MS


def newcomer(warm_up: str, registered_at: int = 1_000) -> Instance:
    return msgspec.structs.replace(
        instances(2)[0], metadata={WARM_UP_KEY: warm_up} if warm_up else {}, registered_at=registered_at
    )


@pytest.mark.parametrize(("age_ms", "share"), [(-5, 0.1), (0, 0.1), (500, 0.1), (5_000, 0.5), (9_000, 0.9)])
def test_the_share_grows_with_the_age(age_ms: int, share: float) -> None:
    found, again = warmed([newcomer("10")], now_ms=1_000 + age_ms)
    assert found[0].weight == pytest.approx(2 * share)
    assert again == 1_000 + age_ms + CLIENT_WARM_UP_STEP_MS


@pytest.mark.parametrize("warm_up", ["", "soon", "-3", "0", "nan", str(CLIENT_WARM_UP_MAX_MS)])
def test_no_warm_up_or_a_mistake_is_none(warm_up: str) -> None:
    one = newcomer(warm_up)
    assert warmed([one], now_ms=1_001) == ([one], None)


def test_the_warm_are_left_as_they_are() -> None:
    one = newcomer("10")
    assert warmed([one], now_ms=11_000) == ([one], None)
    unknown = newcomer("10", registered_at=0)
    assert warmed([unknown], now_ms=5) == ([unknown], None)
