"""Who is left out, for how long, and who is called when nobody is well."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from townhall.client.ejection import Ejections, candidates
from townhall.client.records import Instance
from townhall.model import limits


def instance(name: str, verdict: str = "up", *, callable_: bool | None = None) -> Instance:
    may = verdict == "up" if callable_ is None else callable_
    return Instance(id=name, service="s", address="127.0.0.1", verdict=verdict, callable=may)


def ids(chosen: list[Instance]) -> set[str]:
    return {one.id for one in chosen}


FIVE = [instance(name) for name in "abcde"]


def test_a_failure_ejects_and_time_brings_back() -> None:
    ejections = Ejections()
    assert not ejections
    assert ejections.failed("a", now_ms=0)
    assert ejections
    assert ids(candidates(FIVE, ejections, now_ms=1)) == set("bcde")
    assert ejections.next_return_ms(now_ms=1) == limits.CLIENT_EJECTION_MS
    assert ids(candidates(FIVE, ejections, now_ms=limits.CLIENT_EJECTION_MS)) == set("abcde")
    assert ejections.next_return_ms(now_ms=limits.CLIENT_EJECTION_MS) is None


def test_a_call_that_was_begun_before_does_not_count_again() -> None:
    ejections = Ejections()
    assert ejections.failed("a", now_ms=0)
    assert not ejections.failed("a", now_ms=10)
    assert ejections.next_return_ms(now_ms=10) == limits.CLIENT_EJECTION_MS


def test_each_further_failure_doubles_up_to_the_maximum() -> None:
    ejections = Ejections()
    now_ms = 0.0
    durations = []
    for _ in range(8):
        ejections.failed("a", now_ms=now_ms)
        back = ejections.next_return_ms(now_ms=now_ms)
        assert back is not None
        durations.append(back - now_ms)
        now_ms = back
    assert durations[:3] == [limits.CLIENT_EJECTION_MS * n for n in (1, 2, 4)]
    assert durations[-1] == limits.CLIENT_EJECTION_MAX_MS


def test_success_and_time_forgive() -> None:
    ejections = Ejections()
    ejections.failed("a", now_ms=0)
    ejections.succeeded("a", now_ms=1)
    assert ejections, "one that is still out comes back by time"
    ejections.succeeded("a", now_ms=limits.CLIENT_EJECTION_MS)
    assert not ejections
    ejections.failed("a", now_ms=0)
    later = limits.CLIENT_EJECTION_MS + limits.CLIENT_EJECTIONS_REMEMBERED_MS + 1
    ejections.failed("a", now_ms=later)
    assert ejections.next_return_ms(now_ms=later) == later + limits.CLIENT_EJECTION_MS


@given(failed=st.lists(st.sampled_from("abcde"), max_size=10), count=st.integers(1, 5))
def test_no_more_than_the_share_is_ever_out(failed: list[str], count: int) -> None:
    ejections = Ejections()
    known = FIVE[:count]
    for step, name in enumerate(failed):
        ejections.failed(name, now_ms=step)
    chosen = ids(candidates(known, ejections, now_ms=20))
    allowed = max(1, int(count * limits.CLIENT_EJECTED_SHARE_MAX))
    assert chosen
    assert count - len(chosen) <= allowed


def test_the_ones_out_longest_stay_out_when_the_share_binds() -> None:
    ejections = Ejections()
    for step, name in enumerate("abc"):
        ejections.failed(name, now_ms=step)
    assert ejections.ejected("abcd", now_ms=3) == {"b", "c"}


def test_when_nothing_is_callable_suspects_come_before_nobody() -> None:
    none: list[Instance] = []
    off = [
        instance(name, verdict)
        for name, verdict in zip("dmsx", ("down", "maintenance", "starting", "draining"), strict=True)
    ]
    suspect = instance("q", "suspect")
    ejections = Ejections()
    assert candidates([*off, suspect], ejections, now_ms=0) == [suspect]
    assert candidates(off, ejections, now_ms=0) == none
    assert ids(candidates([*off, suspect, instance("u")], ejections, now_ms=0)) == {"u"}
    held = instance("h", "suspect", callable_=True)
    assert candidates([suspect, held], ejections, now_ms=0) == [held]


def test_when_all_are_ejected_they_are_called_all_the_same() -> None:
    ejections = Ejections()
    ejections.failed("u", now_ms=0)
    ejections.failed("q", now_ms=0)
    up, suspect = instance("u"), instance("q", "suspect")
    assert candidates([up], ejections, now_ms=1) == [up]
    assert candidates([up, suspect], ejections, now_ms=1) == [up]
    assert candidates([suspect], ejections, now_ms=1) == [suspect]


def test_a_fresh_suspect_comes_before_an_ejected_one() -> None:
    ejections = Ejections()
    ejections.failed("u", now_ms=0)
    up, suspect = instance("u"), instance("q", "suspect")
    assert candidates([up, suspect], ejections, now_ms=1) == [suspect]


def test_instances_that_are_gone_are_forgotten() -> None:
    ejections = Ejections()
    ejections.failed("a", now_ms=0)
    ejections.retain(["b"])
    assert not ejections
