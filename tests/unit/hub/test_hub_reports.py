"""Callers' reports: when they become evidence, when that is taken back, and that they stay bounded."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from townhall.core import Command, Outcome
from townhall.core.commands import MarkReported
from townhall.hub import Done
from townhall.hub.clock import SimulatedClock
from townhall.hub.reports import REPORTERS_PER_INSTANCE_MAX, RETRY_MS, Reports
from townhall.model import limits
from townhall.model.errors import EngineFull, OverLimit, TownhallError
from townhall.model.instance import Evidence, Instance, ServiceKey

WEB = ServiceKey("default", "default", "web")


class Bench:
    """A book of reports with a registry of the test's own around it."""

    def __init__(self, *, watchers: int = 5) -> None:
        self.clock = SimulatedClock()
        self.instances = {"a": Instance(key=WEB, id="a", address="127.0.0.1", incarnation=1)}
        self.watchers = watchers
        self.submitted: list[tuple[MarkReported, Done]] = []
        self.reports = Reports(
            clock=self.clock,
            find=lambda key, id_: self.instances.get(id_) if key == WEB else None,
            watchers=lambda key: self.watchers,
            submit=self._submit,
        )

    def _submit(self, command: Command, done: Done) -> None:
        assert isinstance(command, MarkReported)
        self.submitted.append((command, done))

    def report(self, reporter: str, count: int = 1, id_: str = "a") -> bool:
        return self.reports.report(reporter, WEB, id_, kind="timeout", count=count)

    def answer(self, result: Outcome | TownhallError | None = None) -> MarkReported:
        """The command that waits is written, or comes to nothing (``result``)."""
        (entry,) = self.submitted
        self.submitted.clear()
        command, done = entry
        if result is None:
            at_ms = self.clock.now_ms() if command.report else 0
            evidence = Evidence(reported_at=at_ms, report=command.report)
            self.instances[command.id] = replace(self.instances[command.id], evidence=evidence)
        done(result if result is not None else Outcome(1, 1, ()))
        return command

    def mark(self) -> None:
        self.report("x", 2)
        self.report("y", 2)
        self.answer()


def test_an_unknown_instance_is_told() -> None:
    bench = Bench()
    assert not bench.report("x", id_="nobody")
    assert bench.report("x", 0)
    assert len(bench.reports) == 0


def test_enough_failures_by_two_callers_mark_it() -> None:
    bench = Bench()
    assert bench.report("x", limits.REPORT_FAILURES_MIN)
    assert not bench.submitted, "one caller alone proves nothing while five watch"
    bench.report("y")
    command = bench.answer()
    assert (command.key, command.id, command.incarnation) == (WEB, "a", 1)
    assert command.report == "4 failed calls by 2 callers, last: timeout"


@pytest.mark.parametrize("watchers", [0, 1])
def test_one_caller_is_enough_when_nobody_else_watches(watchers: int) -> None:
    bench = Bench(watchers=watchers)
    bench.report("x", limits.REPORT_FAILURES_MIN - 1)
    assert not bench.submitted
    bench.report("x")
    assert bench.answer().report == "3 failed calls by 1 caller, last: timeout"


def test_old_failures_do_not_count() -> None:
    bench = Bench()
    bench.report("x", 2)
    bench.clock.advance(limits.REPORT_WINDOW_MS + 1)
    bench.report("y", 2)
    bench.report("y", 1)
    assert not bench.submitted


def test_a_new_incarnation_begins_without_a_record() -> None:
    bench = Bench()
    bench.report("x", 2)
    bench.instances["a"] = Instance(key=WEB, id="a", address="127.0.0.1", incarnation=9)
    bench.report("y", 2)
    assert not bench.submitted


def test_one_command_at_a_time_and_none_while_marked() -> None:
    bench = Bench()
    bench.report("x", 2)
    bench.report("y", 2)
    bench.report("z", 2)
    assert len(bench.submitted) == 1
    bench.answer()
    bench.report("x", 5)
    assert not bench.submitted


def test_quiet_takes_it_back() -> None:
    bench = Bench()
    bench.mark()
    bench.clock.advance(limits.REPORT_HOLD_MS - 1)
    bench.reports.tick()
    assert not bench.submitted
    bench.report("x")
    bench.clock.advance(limits.REPORT_HOLD_MS - 1)
    bench.reports.tick()
    assert not bench.submitted, "it is not quiet while reports come"
    bench.clock.advance(1)
    bench.reports.tick()
    assert bench.answer().report == ""
    bench.reports.tick()
    assert len(bench.reports) == 0


def test_a_taking_back_that_fails_is_tried_again() -> None:
    bench = Bench()
    bench.mark()
    bench.clock.advance(limits.REPORT_HOLD_MS)
    bench.reports.tick()
    bench.answer(EngineFull("no space"))
    bench.clock.advance(RETRY_MS)
    bench.reports.tick()
    assert bench.answer().report == ""


def test_a_mark_that_came_to_nothing_is_tried_again_but_not_at_once() -> None:
    bench = Bench()
    bench.report("x", 2)
    bench.report("y", 2)
    bench.answer(Outcome(1, 1, ()))
    bench.report("z", 2)
    assert not bench.submitted, "the floor would forbid it again"
    bench.clock.advance(RETRY_MS)
    bench.report("z", 2)
    assert bench.answer().report


def test_a_mark_for_what_is_gone_is_forgotten() -> None:
    bench = Bench()
    bench.report("x", 2)
    bench.report("y", 2)
    del bench.instances["a"]
    bench.answer(Outcome(1, 1, ()))
    assert len(bench.reports) == 0


def test_marks_from_before_a_start_are_taken_back_too() -> None:
    bench = Bench()
    bench.instances["a"] = replace(bench.instances["a"], evidence=Evidence(reported_at=5, report="old"))
    bench.reports.adopt(bench.instances["a"])
    bench.clock.advance(limits.REPORT_HOLD_MS)
    bench.reports.tick()
    assert bench.answer().report == ""


def test_tallies_out_of_the_window_are_forgotten() -> None:
    bench = Bench()
    bench.report("x")
    bench.clock.advance(limits.REPORT_WINDOW_MS)
    bench.reports.tick()
    assert len(bench.reports) == 0


def test_the_book_is_bounded_and_what_makes_room_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPORTERS_TRACKED_MAX", 3)
    bench = Bench()
    for id_ in "bcd":
        bench.instances[id_] = Instance(key=WEB, id=id_, address="127.0.0.1", incarnation=1)
    bench.mark()
    for id_ in "bcd":
        bench.report("x", id_=id_)
    assert len(bench.reports) == 3
    assert bench.reports.dropped == 1
    command = bench.answer(OverLimit("busy"))
    assert (command.id, command.report) == ("a", "")
    assert len(bench.reports) == 4, "a mark that could not be taken back is not lost"


def test_reporters_of_one_instance_are_bounded() -> None:
    bench = Bench(watchers=1_000)
    bench.mark()
    for number in range(3 * REPORTERS_PER_INSTANCE_MAX):
        bench.report(f"caller {number}")
    (tally,) = bench.reports._tallies.values()
    assert len(tally.failures) == REPORTERS_PER_INSTANCE_MAX
