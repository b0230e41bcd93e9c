"""The clock never goes backwards, never leaps over a pause, and comes back to the wall clock by itself."""

from __future__ import annotations

from itertools import pairwise

from townhall.hub.clock import STEP_MIN_MS, MachineClock, SimulatedClock
from townhall.model.limits import STALL_MIN_MS


class Machine:
    """A machine whose two clocks the test sets."""

    def __init__(self) -> None:
        self.wall_s = 1_700_000_000.0
        self.monotonic_s = 50.0
        self.clock = MachineClock(wall=lambda: self.wall_s, monotonic=lambda: self.monotonic_s)

    def run(self, seconds: float, *, step_s: float = 0.05) -> list[int]:
        readings = []
        for _ in range(round(seconds / step_s)):
            self.wall_s += step_s
            self.monotonic_s += step_s
            readings.append(self.clock.now_ms())
        return readings


def test_it_follows_the_wall_clock() -> None:
    machine = Machine()
    readings = machine.run(10)
    assert readings == sorted(readings)
    assert abs(readings[-1] - machine.wall_s * 1000) <= 2


def test_a_wall_clock_set_back_slows_it_down_but_never_turns_it_back() -> None:
    machine = Machine()
    machine.run(1)
    machine.wall_s -= 10
    readings = machine.run(5)
    assert readings == sorted(readings)
    assert readings[-1] - readings[0] >= 2_000, "it goes on at half its pace at least"
    readings = machine.run(20)
    assert abs(readings[-1] - machine.wall_s * 1000) <= 2


def test_a_wall_clock_ahead_is_caught_up_with_without_a_leap() -> None:
    machine = Machine()
    machine.run(1)
    machine.wall_s += 10
    readings = machine.run(5)
    steps = [later - earlier for earlier, later in pairwise(readings)]
    assert max(steps) <= 80, "50 ms and half as much"
    readings = machine.run(20)
    assert abs(readings[-1] - machine.wall_s * 1000) <= 2


def test_a_pause_of_the_process_does_not_leap() -> None:
    machine = Machine()
    before = machine.run(1)[-1]
    machine.wall_s += 60
    machine.monotonic_s += 60
    after = machine.clock.now_ms()
    assert 0 < after - before <= 2 * STALL_MIN_MS
    assert abs(machine.run(150)[-1] - machine.wall_s * 1000) <= 2


def test_a_wall_clock_that_was_set_by_days_is_taken_over_at_once() -> None:
    machine = Machine()
    machine.run(1)
    machine.wall_s += 3 * STEP_MIN_MS / 1000
    assert abs(machine.run(0.1)[-1] - machine.wall_s * 1000) <= 2


def test_time_goes_on_from_a_recovered_commit_even_if_that_lies_ahead() -> None:
    machine = Machine()
    ahead = int(machine.wall_s * 1000) + 5_000
    machine.clock.not_before(ahead)
    assert machine.clock.now_ms() == ahead
    machine.clock.not_before(ahead - 1_000)
    readings = machine.run(2)
    assert readings[0] >= ahead
    assert readings[-1] > ahead, "it does not stand still until the wall clock is there"


def test_reading_too_often_to_count_still_moves_on() -> None:
    machine = Machine()
    first = machine.clock.now_ms()
    last = machine.run(1, step_s=0.0005)[-1]
    assert 990 <= last - first <= 1_010


def test_monotonic_counts_milliseconds() -> None:
    machine = Machine()
    before = machine.clock.monotonic_ms()
    machine.run(1)
    assert 990 <= machine.clock.monotonic_ms() - before <= 1_010


def test_the_simulated_clock_moves_when_told() -> None:
    clock = SimulatedClock(epoch_ms=1_000)
    assert (clock.monotonic_ms(), clock.now_ms()) == (0, 1_000)
    clock.advance(250)
    assert (clock.monotonic_ms(), clock.now_ms()) == (250, 1_250)
    clock.not_before(5_000)
    clock.not_before(4_000)
    assert (clock.monotonic_ms(), clock.now_ms()) == (250, 5_000)


def test_the_simulated_clock_follows_a_source() -> None:
    seconds = 0.0
    clock = SimulatedClock(epoch_ms=0, source=lambda: seconds)
    seconds = 1.5
    clock.advance(100)
    assert clock.now_ms() == 1_600
