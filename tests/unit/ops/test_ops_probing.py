from __future__ import annotations

import pytest

from townhall.model import limits
from townhall.model.errors import InvalidField
from townhall.ops.config import load
from townhall.ops.probing import probe_options
from townhall.ops.settings import Probe


def test_networks_are_read():
    options = probe_options(
        Probe(allow="127.0.0.0/8, ::1", deny="127.0.0.9", dialback_ranges="127.0.0.4", scripts=True)
    )
    assert options.ranges.permits("127.0.0.1")
    assert options.ranges.permits("::1")
    assert not options.ranges.permits("127.0.0.9")
    assert options.dialback_ranges is not None
    assert options.dialback_ranges.permits("127.0.0.4")
    assert options.scripts


def test_nothing_named_means_nobody_else():
    assert probe_options(Probe()).dialback_ranges is None
    assert not probe_options(Probe()).scripts


def test_what_is_no_network_is_named():
    with pytest.raises(InvalidField):
        probe_options(Probe(allow="here"))


def test_a_trial_need_not_wait():
    assert load({"dev": True}, {}).settings.probe.deregister_min_ms == limits.DEREGISTER_CRITICAL_DEV_MIN_MS
    assert load({}, {}).settings.probe.deregister_min_ms == limits.DEREGISTER_CRITICAL_MIN_MS
