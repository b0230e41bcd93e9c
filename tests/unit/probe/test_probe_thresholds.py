from __future__ import annotations

from townhall.model.check import CheckDefinition, CheckStatus
from townhall.probe.thresholds import Streak

PASSING, WARNING, CRITICAL = CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL


def test_without_thresholds_every_finding_counts():
    streak = Streak()
    for found in (PASSING, CRITICAL, WARNING, CRITICAL, PASSING):
        assert streak.count(CheckDefinition(), found) is found


def test_it_takes_so_many_in_a_row():
    definition = CheckDefinition(success_before_passing=2, failures_before_warning=2, failures_before_critical=3)
    streak = Streak()
    found = [PASSING, PASSING, CRITICAL, CRITICAL, CRITICAL, PASSING, CRITICAL, PASSING, WARNING]
    expected = [None, PASSING, None, WARNING, CRITICAL, None, None, None, WARNING]
    assert [streak.count(definition, each) for each in found] == expected


def test_without_a_threshold_of_its_own_nothing_warns():
    streak = Streak()
    definition = CheckDefinition(failures_before_critical=2)
    assert [streak.count(definition, CRITICAL) for _ in range(3)] == [None, CRITICAL, CRITICAL]
