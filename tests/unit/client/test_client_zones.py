"""Zones: calls stay near while enough is healthy there, and spill over in proportion when it is not."""

from __future__ import annotations

from collections import Counter

import pytest
from balancing import instances, shares

from townhall.client.balancers import RoundRobin
from townhall.client.balancers_by_key import RingHash
from townhall.client.balancers_by_load import LeastOutstanding, LoadAware
from townhall.client.records import Instance
from townhall.client.zones import Census, ZoneAware
from townhall.model.limits import CLIENT_ZONE_OVERPROVISION

HERE = instances(*[1.0] * 10, zone="a", region="r")
NEAR = instances(*[1.0] * 10, first=10, zone="b", region="r")
FAR = instances(*[1.0] * 10, first=20, zone="a", region="q")
ALL = HERE + NEAR + FAR


def by_place(balancer: ZoneAware, known: list[Instance], healthy: list[Instance]) -> Counter[str]:
    balancer.count(known)
    balancer.rebuild(healthy)
    place = {one.id: f"{one.region}{one.zone}" for one in known}
    found: Counter[str] = Counter()
    for name, count in shares(balancer, 4_000).items():
        found[place[name]] += count
    return found


def test_a_healthy_zone_keeps_all_calls() -> None:
    balancer = ZoneAware(RoundRobin, zone="a", region="r")
    assert isinstance(balancer, Census)
    assert by_place(balancer, ALL, ALL) == {"ra": 4_000}
    assert by_place(balancer, ALL, HERE[:8] + NEAR + FAR) == {"ra": 4_000}


def test_a_sick_zone_spills_into_its_region_first() -> None:
    found = by_place(ZoneAware(RoundRobin, zone="a", region="r"), ALL, HERE[:5] + NEAR + FAR)
    assert found["ra"] == pytest.approx(4_000 * 0.5 * CLIENT_ZONE_OVERPROVISION, rel=0.1)
    assert found["rb"] == 4_000 - found["ra"]
    assert by_place(ZoneAware(RoundRobin, zone="a", region="r"), ALL, NEAR + FAR) == {"rb": 4_000}
    assert by_place(ZoneAware(RoundRobin, zone="a", region="r"), ALL, FAR) == {"qa": 4_000}


def test_when_little_is_left_anywhere_all_of_it_is_used_alike() -> None:
    found = by_place(ZoneAware(RoundRobin, zone="a", region="r"), ALL, HERE[:1] + NEAR[:1] + FAR[:2])
    assert found["qa"] == pytest.approx(2_000, rel=0.1)
    assert found["ra"] == pytest.approx(1_000, rel=0.15)


def test_a_zone_without_instances_and_no_instances_at_all() -> None:
    balancer = ZoneAware(RoundRobin, zone="z")
    assert by_place(balancer, ALL, ALL) == {"ra": pytest.approx(1_333, rel=0.1), "rb": pytest.approx(1_333, rel=0.1), "qa": pytest.approx(1_333, rel=0.1)}  # fmt: skip
    balancer.rebuild([])
    assert not shares(balancer, 3)


def test_levels_are_told_of_their_calls_and_asked_for_keys() -> None:
    loads = ZoneAware(LeastOutstanding, zone="a", region="r")
    assert isinstance(loads, LoadAware)
    loads.count(HERE[:2])
    loads.rebuild(HERE[:2])
    loads.begun(HERE[0], now_ms=0)
    assert shares(loads, 5) == {"i1": 5}
    loads.ended(HERE[0], now_ms=1, duration_ms=1, failed=False)
    assert len(shares(loads, 50)) == 2
    keys = ZoneAware(RingHash, zone="a", region="r")
    keys.rebuild(ALL)
    from random import Random

    assert keys.pick_for(b"k", Random(1)) == keys.pick_for(b"k", Random(2)) in HERE
