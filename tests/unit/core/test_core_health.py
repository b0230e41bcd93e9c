"""The table of verdicts, row by row and against each other."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from townhall.core.health import judge
from townhall.model.instance import CLEAR, Evidence, Verdict

# In order of precedence: each row's evidence alone gives its verdict, and beats every row below it.
ROWS = (
    ({"override": Verdict.DOWN, "override_reason": "by hand"}, Verdict.DOWN, "by hand"),
    ({"maintenance": "disk"}, Verdict.MAINTENANCE, "disk"),
    ({"draining_at": 5}, Verdict.DRAINING, "draining"),
    ({"lapsed_at": 5}, Verdict.SUSPECT, "lease lapsed"),
    ({"disconnected_at": 5}, Verdict.SUSPECT, "connection lost"),
    ({"probe": Verdict.DOWN, "probe_output": "refused"}, Verdict.DOWN, "refused"),
    ({"reported_at": 5, "report": "5 of 5 calls failed"}, Verdict.SUSPECT, "5 of 5 calls failed"),
    ({"probe": Verdict.SUSPECT, "probe_output": "slow"}, Verdict.SUSPECT, "slow"),
)


@pytest.mark.parametrize(("fields", "verdict", "reason"), ROWS)
def test_each_piece_of_evidence_alone(fields, verdict, reason):
    assert judge(enabled=True, ready=True, evidence=Evidence(**fields)) == (verdict, reason)


@pytest.mark.parametrize(("above", "below"), list(itertools.combinations(ROWS, 2)))
def test_what_stands_above_wins(above, below):
    both = replace(Evidence(**below[0]), **above[0])
    assert judge(enabled=True, ready=True, evidence=both) == (above[1], above[2])
    assert judge(enabled=True, ready=False, evidence=both) == (above[1], above[2])


def test_without_evidence():
    assert judge(enabled=True, ready=True, evidence=CLEAR) == (Verdict.UP, "")
    assert judge(enabled=True, ready=False, evidence=CLEAR) == (Verdict.STARTING, "starting")
    assert judge(enabled=False, ready=True, evidence=CLEAR) == (Verdict.MAINTENANCE, "disabled")
    assert judge(enabled=True, ready=True, evidence=Evidence(probe=Verdict.UP)) == (Verdict.UP, "")


def test_an_override_needs_no_reason_and_may_say_up():
    said_up = Evidence(override=Verdict.UP, lapsed_at=5, maintenance="disk")
    assert judge(enabled=False, ready=False, evidence=said_up) == (Verdict.UP, "operator's override")


def test_disabled_stands_between_maintenance_and_draining():
    assert judge(enabled=False, ready=True, evidence=Evidence(maintenance="disk"))[1] == "disk"
    assert judge(enabled=False, ready=True, evidence=Evidence(draining_at=5))[0] is Verdict.MAINTENANCE


def test_a_hold_is_told_in_the_reason():
    held = Evidence(lapsed_at=5, held=True)
    assert judge(enabled=True, ready=True, evidence=held) == (
        Verdict.SUSPECT,
        "lease lapsed, held by the removal floor",
    )
