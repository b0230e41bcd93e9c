"""Alarms are words that programs may compare."""

from __future__ import annotations

from townhall.client.alarms import Alarm, AlarmKind, Counters


def test_a_kind_is_its_word() -> None:
    alarm = Alarm(AlarmKind.AWAY, "the registry is away")
    assert alarm.kind == "away"
    assert alarm.error is None
    assert len(set(AlarmKind)) == 6


def test_counters_begin_at_nothing() -> None:
    assert Counters() == Counters(renewals=0, renewals_failed=0, registrations=0, sessions=0, alarms=0)
