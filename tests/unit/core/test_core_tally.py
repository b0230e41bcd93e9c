"""Counting instances by how they bear on the floor."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from townhall.core.health import judge
from townhall.core.tally import Tally, settled
from townhall.model import limits
from townhall.model.instance import Evidence, Instance, ServiceKey, Verdict

BLANK = Instance(key=ServiceKey("d", "d", "s"), id="a", address="127.0.0.1")


def instance(enabled: bool = True, ready: bool = True, **evidence) -> Instance:
    found = Evidence(**evidence)
    verdict, reason = judge(enabled=enabled, ready=ready, evidence=found)
    return replace(BLANK, enabled=enabled, ready=ready, evidence=found, verdict=verdict, reason=reason)


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (BLANK, (1, 1, 0, 0)),
        (instance(lapsed_at=5), (0, 1, 1, 0)),
        (instance(disconnected_at=5, held=True), (1, 1, 1, 1)),
        (instance(maintenance="x"), (0, 0, 0, 0)),
        (instance(maintenance="x", lapsed_at=5), (0, 0, 1, 0)),
        (instance(draining_at=5), (0, 0, 0, 0)),
        (instance(enabled=False), (0, 0, 0, 0)),
        (instance(ready=False), (0, 0, 0, 0)),
        (instance(ready=False, lapsed_at=5), (0, 0, 1, 0)),
        (instance(override=Verdict.DOWN), (0, 0, 0, 0)),
        (instance(override=Verdict.UP, draining_at=5, lapsed_at=5), (1, 1, 1, 0)),
        (instance(reported_at=5, report="x"), (0, 1, 0, 0)),
        (instance(probe=Verdict.DOWN), (0, 1, 0, 0)),
    ],
)
def test_what_counts_as_what(value, counts):
    tally = Tally()
    tally.replace(None, value)
    assert (tally.callable, tally.expected, tally.silent, tally.held) == counts
    assert settled(value) is (counts[1] == 0)
    tally.replace(value, BLANK)
    assert (tally.callable, tally.expected, tally.silent, tally.held) == (1, 1, 0, 0)
    tally.replace(BLANK, None)
    assert (tally.callable, tally.expected) == (0, 0)


def test_the_gone_are_forgotten_after_the_longest_window():
    tally = Tally()
    tally.note_gone("a", 0)
    tally.note_gone("b", 10)
    tally.note_gone("a", 20)
    assert list(tally.gone or ()) == ["b", "a"], "the oldest first"
    assert tally.gone_since(10) == 1
    assert tally.gone_since(9) == 2
    tally.note_gone("c", limits.FLOOR_WINDOW_MS + 10)
    assert list(tally.gone or ()) == ["a", "c"]
    tally.note_back("x")
    tally.note_back("a")
    tally.note_back("c")
    assert tally.gone is None
    tally.note_back("c")
    tally.forget_gone(5)
    assert tally.gone_since(0) == 0


def test_all_of_them_may_be_forgotten():
    tally = Tally()
    tally.note_gone("a", 5)
    tally.forget_gone(5)
    assert tally.gone is None


def test_a_copy_is_its_own():
    tally = Tally(1, 2, 3, 4)
    tally.note_gone("a", 5)
    copy = tally.copy()
    copy.note_back("a")
    copy.callable = 0
    assert (tally.callable, tally.gone) == (1, {"a": 5})
    assert Tally().copy().gone is None
