"""The choice with all that surrounds a balancer, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import pytest
from balancing import instances

from townhall.client.balancers import Balancer, RoundRobin
from townhall.client.balancers_by_key import RingHash
from townhall.client.balancers_by_load import LeastOutstanding
from townhall.client.chooser import Choice, Chooser
from townhall.client.consumer import BY_NAME
from townhall.client.slow_start import WARM_UP_KEY
from townhall.client.zones import ZoneAware
from townhall.model.limits import CLIENT_EJECTION_MS, CLIENT_WARM_UP_STEP_MS

FLEET = instances(1, 1, 1, 1)


def ill(*numbers: int) -> list:
    return [
        msgspec.structs.replace(one, callable=False, verdict="suspect") if number in numbers else one
        for number, one in enumerate(FLEET)
    ]


def names(chooser: Chooser, count: int = 40) -> set[str]:
    return {one.id for _ in range(count) if (one := chooser.pick()) is not None}


def test_an_ejected_one_is_left_out_until_its_time_is_over() -> None:
    chooser = Chooser(RoundRobin(), Random(1), Choice())
    assert chooser.rebuild(FLEET, now_ms=0, unix_ms=0) is None
    chooser.ejections.failed("i0", now_ms=0)
    assert chooser.rebuild(FLEET, now_ms=0, unix_ms=0) == CLIENT_EJECTION_MS
    assert names(chooser) == {"i1", "i2", "i3"}
    chooser.rebuild(FLEET, now_ms=CLIENT_EJECTION_MS, unix_ms=0)
    assert names(chooser) == {"i0", "i1", "i2", "i3"}


def test_a_success_after_the_ejection_forgives() -> None:
    chooser = Chooser(RoundRobin(), Random(1), Choice())
    chooser.rebuild(FLEET, now_ms=0, unix_ms=0)
    chooser.ejections.failed("i0", now_ms=0)
    chooser.begun(FLEET[0], now_ms=CLIENT_EJECTION_MS)
    chooser.ended(FLEET[0], begun_ms=CLIENT_EJECTION_MS, now_ms=CLIENT_EJECTION_MS + 5, failed=False)
    assert not chooser.ejections


def test_while_something_warms_up_it_is_looked_at_again() -> None:
    chooser = Chooser(RoundRobin(), Random(1), Choice())
    cold = msgspec.structs.replace(FLEET[0], metadata={WARM_UP_KEY: "30"}, registered_at=1_000)
    assert chooser.rebuild([cold, FLEET[1]], now_ms=0, unix_ms=2_000) == CLIENT_WARM_UP_STEP_MS
    assert chooser.rebuild([cold, FLEET[1]], now_ms=0, unix_ms=40_000) is None


def test_panic_calls_the_suspect_as_well() -> None:
    calm = Chooser(RoundRobin(), Random(1), Choice())
    calm.rebuild(ill(0, 1, 2), now_ms=0, unix_ms=0)
    assert names(calm) == {"i3"}
    panicking = Chooser(RoundRobin(), Random(1), Choice(panic_threshold=0.5))
    panicking.rebuild(ill(0, 1, 2), now_ms=0, unix_ms=0)
    assert names(panicking) == {"i0", "i1", "i2", "i3"}
    panicking.rebuild(ill(0, 1), now_ms=0, unix_ms=0)
    assert names(panicking) == {"i2", "i3"}


def test_a_subset_stays_whole_when_some_of_it_is_ill() -> None:
    chooser = Chooser(RoundRobin(), Random(1), Choice(subset=2, consumer="me"))
    chooser.rebuild(FLEET, now_ms=0, unix_ms=0)
    first = names(chooser)
    assert len(first) == 2
    chooser.rebuild(ill(*(int(name[1:]) for name in first)), now_ms=0, unix_ms=0)
    assert len(names(chooser)) == 2
    assert not names(chooser) & first


@pytest.mark.parametrize("make", BY_NAME.values(), ids=BY_NAME)
def test_who_is_passed_over_is_not_picked(make: Callable[[], Balancer]) -> None:
    fleet = instances(*[1.0] * 40)
    chooser = Chooser(make(), Random(1), Choice())
    view = Chooser(make(), Random(1), Choice())
    unused = Chooser(make(), Random(1), Choice())
    for other in (view, unused):
        other.join(chooser)
    for one in (chooser, view):
        one.rebuild(fleet, now_ms=0, unix_ms=0)
    # The others are all busy, so whoever goes by load would take these.
    for one in fleet[5:]:
        chooser.begun(one, now_ms=0)
    gone = {one.id for one in fleet[:5]}
    assert chooser.pass_over(gone)
    for one in (chooser, view):
        picked = {found.id for n in range(400) if (found := one.pick(b"%d" % n if n % 2 else None)) is not None}
        assert len(picked) > 20
        assert not picked & gone
    assert not chooser.pass_over(["i7"]), "too many"
    for one in (chooser, view):
        one.rebuild(fleet, now_ms=0, unix_ms=0)
        assert names(one, 400) & gone


def test_when_all_are_passed_over_there_is_nothing() -> None:
    chooser = Chooser(RoundRobin(), Random(1), Choice())
    chooser.rebuild(FLEET, now_ms=0, unix_ms=0)
    assert not chooser.pass_over([one.id for one in FLEET])
    assert chooser.pick() is None


def test_keys_go_to_balancers_that_know_them() -> None:
    keyed = Chooser(RingHash(), Random(1), Choice())
    keyed.rebuild(FLEET, now_ms=0, unix_ms=0)
    assert len({keyed.pick(b"cart-7").id for _ in range(20)}) == 1
    plain = Chooser(RoundRobin(), Random(1), Choice())
    plain.rebuild(FLEET, now_ms=0, unix_ms=0)
    assert len({plain.pick(b"cart-7").id for _ in range(20)}) == 4


def test_untried_gives_what_the_call_has_not_tried() -> None:
    chooser = Chooser(RoundRobin(), Random(1), Choice())
    chooser.rebuild(FLEET, now_ms=0, unix_ms=0)
    assert chooser.untried({"i0", "i1", "i2"}, FLEET).id == "i3"
    assert chooser.untried({"i0", "i1", "i2", "i3"}, FLEET) is None
    chooser.ejections.failed("i3", now_ms=0)
    chooser.rebuild(FLEET, now_ms=0, unix_ms=0)
    assert chooser.untried({"i0", "i1", "i2"}, FLEET).id == "i3", "rather one that is ejected than none"


def test_loads_and_zones_are_told_through_it() -> None:
    chooser = Chooser(ZoneAware(LeastOutstanding, zone="a"), Random(1), Choice())
    chooser.rebuild(FLEET[:2], now_ms=0, unix_ms=0)
    chooser.begun(FLEET[0], now_ms=0)
    assert names(chooser) == {"i1"}
    chooser.ended(FLEET[0], begun_ms=0, now_ms=3, failed=True)
    assert names(chooser) == {"i0", "i1"}
