from __future__ import annotations

import gc
import weakref

from hypothesis import given
from hypothesis import strategies as st

from townhall.model.limits import STALL_MIN_MS, TIMER_TICK_MS
from townhall.serve.wheel import Timed, TimerWheel

TICK = TIMER_TICK_MS


class Alarm(Timed):
    __slots__ = ("__weakref__", "fired", "then", "wheel")

    def __init__(self, wheel: TimerWheel, then: object = None) -> None:
        super().__init__()
        self.wheel = wheel
        self.fired: list[int] = []
        self.then = then

    def expired(self) -> None:
        self.fired.append(self.wheel.tick)
        if callable(self.then):
            self.then()


def wheel_and_alarm() -> tuple[TimerWheel, Alarm]:
    wheel = TimerWheel(tick_ms=TICK)
    return wheel, Alarm(wheel)


def pass_ticks(wheel: TimerWheel, count: int) -> None:
    for _ in range(count):
        wheel.advance(TICK)


def test_it_fires_once_after_the_delay_and_never_before() -> None:
    wheel, alarm = wheel_and_alarm()
    pass_ticks(wheel, 3)
    wheel.advance(TICK - 1)
    wheel.arm(alarm, 4 * TICK)
    wheel.advance(1)
    pass_ticks(wheel, 3)
    assert not alarm.fired
    pass_ticks(wheel, 1)
    assert len(alarm.fired) == 1
    pass_ticks(wheel, 100)
    assert len(alarm.fired) == 1


def test_pushing_the_deadline_is_an_assignment() -> None:
    wheel, alarm = wheel_and_alarm()
    wheel.arm(alarm, 10 * TICK)
    for _ in range(50):
        pass_ticks(wheel, 5)
        alarm.due = wheel.tick + wheel.ticks(10 * TICK)
    assert not alarm.fired
    pass_ticks(wheel, 11)
    assert len(alarm.fired) == 1


def test_an_earlier_deadline_moves_it_at_once() -> None:
    wheel, alarm = wheel_and_alarm()
    wheel.arm(alarm, 1_000 * TICK)
    wheel.arm(alarm, 2 * TICK)
    pass_ticks(wheel, 3)
    assert len(alarm.fired) == 1
    pass_ticks(wheel, 1_000)
    assert len(alarm.fired) == 1


def test_what_is_disarmed_does_not_fire_and_what_is_forgotten_is_let_go() -> None:
    wheel, alarm = wheel_and_alarm()
    wheel.arm(alarm, TICK)
    alarm.due = 0
    pass_ticks(wheel, 5)
    assert not alarm.fired
    wheel.arm(alarm, 1_000_000)
    wheel.forget(alarm)
    wheel.forget(alarm)
    gone = weakref.ref(alarm)
    del alarm
    gc.collect()
    assert gone() is None


def test_an_expiry_may_forget_and_arm_others_and_itself() -> None:
    wheel = TimerWheel(tick_ms=TICK)
    later = Alarm(wheel)
    forgotten = Alarm(wheel)

    def then() -> None:
        wheel.forget(forgotten)
        wheel.arm(later, TICK)
        if len(first.fired) == 1:
            wheel.arm(first, TICK)

    first = Alarm(wheel, then)
    for alarm in (first, forgotten, later):
        wheel.arm(alarm, 2 * TICK)
    pass_ticks(wheel, 20)
    assert len(first.fired) == 2
    assert not forgotten.fired
    assert len(later.fired) == 1


def test_our_own_stall_times_nobody_out() -> None:
    wheel, alarm = wheel_and_alarm()
    wheel.arm(alarm, STALL_MIN_MS + 2 * TICK)
    wheel.advance(1_000_000)
    assert not alarm.fired
    wheel.advance(1_000_000)
    assert len(alarm.fired) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.booleans()), max_size=60))
def test_against_a_list_of_deadlines(steps: list[tuple[int, int, bool]]) -> None:
    wheel = TimerWheel(tick_ms=TICK)
    alarms = [Alarm(wheel) for _ in range(5)]
    due: dict[int, int] = {}
    expected: list[list[int]] = [[] for _ in alarms]
    for index, ticks, disarm in steps:
        if disarm:
            wheel.forget(alarms[index])
            due.pop(index, None)
        else:
            wheel.arm(alarms[index], ticks * TICK)
            due[index] = wheel.tick + ticks + 1
        pass_ticks(wheel, ticks % 3)
        for which, tick in list(due.items()):
            if tick <= wheel.tick:
                expected[which].append(tick)
                del due[which]
    assert [alarm.fired for alarm in alarms] == expected
