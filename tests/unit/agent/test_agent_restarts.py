from __future__ import annotations

from townhall.agent.restarts import RestartPolicy, Restarts, When
from townhall.model import limits

STEADY = limits.AGENT_RESTART_STEADY_MS


def test_never_is_never() -> None:
    assert Restarts(RestartPolicy()).after(1, lasted_ms=0) is None


def test_pauses_double_up_to_the_longest() -> None:
    restarts = Restarts(RestartPolicy(When.ON_FAILURE))
    pauses = [restarts.after(1, lasted_ms=10) for _ in range(40)]
    assert pauses[:4] == [limits.AGENT_RESTART_MIN_MS * factor for factor in (1, 2, 4, 8)]
    assert pauses[-1] == limits.AGENT_RESTART_MAX_MS
    assert restarts.after(1, lasted_ms=STEADY) == limits.AGENT_RESTART_MIN_MS, "it had run well"
    assert restarts.after(1, lasted_ms=STEADY - 1) == 2 * limits.AGENT_RESTART_MIN_MS


def test_a_good_end_is_no_failure() -> None:
    assert Restarts(RestartPolicy(When.ON_FAILURE)).after(0, lasted_ms=0) is None
    assert Restarts(RestartPolicy(When.ALWAYS)).after(0, lasted_ms=0) is not None


def test_it_is_given_up_after_so_many_in_a_row() -> None:
    restarts = Restarts(RestartPolicy(When.ALWAYS, count_max=2))
    assert [restarts.after(1, lasted_ms=0) is None for _ in range(3)] == [False, False, True]
    assert restarts.after(1, lasted_ms=STEADY) is not None, "a run that lasted begins a new series"
