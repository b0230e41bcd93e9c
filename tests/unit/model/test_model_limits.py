"""Limits are positive, carry their unit, and those that bound each other agree."""

from __future__ import annotations

from townhall.model import limits
from townhall.ops.settings import Settings

VALUES = {name: value for name, value in vars(limits).items() if name.isupper()}


def test_every_limit_is_a_positive_number() -> None:
    assert len(VALUES) > 50
    assert all(isinstance(value, int | float) and value > 0 for value in VALUES.values())


def test_limits_that_bound_each_other_agree() -> None:
    assert (
        limits.LEASE_TTL_DEV_MIN_MS <= limits.LEASE_TTL_MIN_MS <= limits.LEASE_TTL_DEFAULT_MS <= limits.LEASE_TTL_MAX_MS
    )
    assert limits.WAIT_DEFAULT_MS <= limits.WAIT_MAX_MS
    assert limits.TARGET_SIZE_MAX <= limits.HEADER_SIZE_MAX
    assert limits.VALUE_SIZE_MAX <= limits.BODY_SIZE_MAX <= limits.COMMIT_SIZE_MAX
    assert limits.METADATA_VALUE_SIZE_MAX <= limits.METADATA_SIZE_MAX
    assert limits.FLOOR_WINDOW_MS <= limits.FLOOR_HOLD_MAX_MS
    assert limits.CLIENT_BACKOFF_MIN_MS < limits.CLIENT_BACKOFF_MAX_MS
    assert limits.CLIENT_EJECTION_MS < limits.CLIENT_EJECTION_MAX_MS
    assert 0 < limits.FLOOR_RATIO_DEFAULT <= 1


def test_what_the_settings_take_as_their_defaults() -> None:
    assert Settings().capacity.space_size_max == limits.SPACE_SIZE_DEFAULT_MAX
    assert Settings().journal.snapshot_every_size == limits.SNAPSHOT_EVERY_SIZE
