from __future__ import annotations

import msgspec
import pytest

from townhall.model import limits
from townhall.ops.settings import TOP_LEVEL, Floor, Settings


def test_defaults_are_those_of_the_limits():
    settings = Settings()
    assert settings.lease.ttl_default_ms == limits.LEASE_TTL_DEFAULT_MS
    assert settings.floor.registry == limits.FLOOR_RATIO_DEFAULT
    assert settings.http.connections_max == limits.CONNECTIONS_MAX
    assert settings.journal.snapshot_every_commits == limits.SNAPSHOT_EVERY_COMMITS


def test_rooms_are_frozen_and_top_level_names_are_unique():
    with pytest.raises(AttributeError):
        Settings().log.level = "debug"  # type: ignore[misc]
    names = [name for room in TOP_LEVEL for name in getattr(Settings(), room).__struct_fields__]
    names += [room for room in Settings.__struct_fields__ if room not in TOP_LEVEL]
    assert len(set(names)) == len(names)


def test_bounds_are_enforced():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"registry": -0.1}, Floor)
