"""What stays wrong is told ever more rarely."""

from __future__ import annotations

import logging

import pytest

from townhall.gateway.complaint import Complaint, away_text


def test_it_is_told_at_once_then_ever_more_rarely_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "townhall.gateway")
    complaint = Complaint("it is well again")
    complaint.end()
    told = []
    for second in range(3_000):
        complaint.tell(away_text("nothing listens there"), now_s=1_000.0 + second)
        if caplog.records:
            told.append(second)
            assert "nothing listens there" in caplog.records.pop().getMessage()
            caplog.clear()
    assert told == [0, 10, 30, 70, 150, 310, 630, 1_230, 1_830, 2_430]
    for _ in range(2):
        complaint.end()
    assert [record.getMessage() for record in caplog.records] == ["it is well again"]
    caplog.clear()
    complaint.tell("wrong again", now_s=4_000.0)
    assert [record.levelname for record in caplog.records] == ["WARNING"], "at once, as at first"
