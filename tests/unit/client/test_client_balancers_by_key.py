"""Balancers that know keys: shares, disruption and the bound on loads are as promised."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from random import Random

import pytest
from balancing import instances, shares
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.client.balancers import Balancer
from townhall.client.balancers_by_key import KeyAware, Maglev, RingHash, _filled, _size, hashed
from townhall.model.limits import CLIENT_RING_LOAD_FACTOR, CLIENT_RING_POINTS, CLIENT_RING_POINTS_MAX

KEYS = [f"key-{number}".encode() for number in range(4_000)]


def owners(balancer: RingHash | Maglev) -> dict[bytes, str]:
    rng = Random(0)
    found = {}
    for key in KEYS:
        one = balancer.pick_for(key, rng)
        assert one is not None
        found[key] = one.id
    return found


@pytest.mark.parametrize("kind", [RingHash, Maglev])
def test_nothing_gives_none_and_one_gives_itself(kind: type[RingHash | Maglev]) -> None:
    balancer: Balancer = kind()
    assert isinstance(balancer, KeyAware)
    assert balancer.pick(Random(0)) is None
    assert balancer.pick_for(b"x", Random(0)) is None
    balancer.rebuild(instances(1))
    assert shares(balancer, 5) == {"i0": 5}
    balancer.rebuild([])
    assert balancer.pick_for(b"x", Random(0)) is None


def test_keys_are_hashed_alike_everywhere() -> None:
    assert hashed(b"townhall") == 0x2DBEC4FCB7AD0771


@pytest.mark.parametrize(("kind", "tolerance"), [(RingHash, 0.35), (Maglev, 0.12)])
def test_shares_follow_the_weights(kind: type[RingHash | Maglev], tolerance: float) -> None:
    balancer = kind()
    balancer.rebuild(instances(1, 1, 2, 4, 0))
    counts = Counter(owners(balancer).values())
    for name, weight in (("i0", 1), ("i1", 1), ("i2", 2), ("i3", 4)):
        assert counts[name] == pytest.approx(len(KEYS) * weight / 8, rel=tolerance)
    assert counts["i4"] == 0


@pytest.mark.parametrize(("kind", "extra"), [(RingHash, 0.0), (Maglev, 0.06)])
@given(gone=st.integers(0, 9))
@settings(max_examples=6, deadline=None)
def test_one_that_goes_moves_little_but_its_own_keys(kind: type[RingHash | Maglev], extra: float, gone: int) -> None:
    fleet = instances(*[1.0] * 10)
    balancer = kind()
    balancer.rebuild(fleet)
    before = owners(balancer)
    balancer.rebuild([one for one in fleet if one.id != f"i{gone}"])
    after = owners(balancer)
    moved = sum(before[key] != after[key] for key in KEYS if before[key] != f"i{gone}")
    assert moved <= extra * len(KEYS)
    balancer.rebuild(fleet)
    assert owners(balancer) == before


def test_maglev_does_not_care_for_the_order() -> None:
    fleet = instances(1, 2, 3)
    one, other = Maglev(), Maglev()
    one.rebuild(fleet)
    other.rebuild(fleet[::-1])
    assert owners(one) == owners(other)


@given(count=st.integers(1, 12), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_no_instance_runs_more_than_its_bound(count: int, seed: int) -> None:
    rng, balancer = Random(seed), RingHash()
    fleet = instances(*[1.0] * count)
    balancer.rebuild(fleet)
    running: Counter[str] = Counter()
    # Everybody asks for three keys alone: without the bound three instances would take it all.
    for total in range(1, 200):
        one = balancer.pick_for(rng.choice(KEYS[:3]), rng)
        assert one is not None
        balancer.begun(one, now_ms=0)
        running[one.id] += 1
        assert max(running.values()) <= CLIENT_RING_LOAD_FACTOR * total / count + 1
    for one in fleet:
        for _ in range(running[one.id]):
            balancer.ended(one, now_ms=0, duration_ms=1, failed=False)
    assert balancer._total == 0
    assert not balancer._running


def test_a_large_ring_has_fewer_points_each() -> None:
    balancer = RingHash()
    balancer.rebuild(instances(*[1.0] * 2))
    assert len(balancer._points) == 2 * CLIENT_RING_POINTS
    balancer.rebuild(instances(*[1.0] * 3_000))
    assert len(balancer._points) <= CLIENT_RING_POINTS_MAX
    assert len(shares(balancer, 100)) > 50


@given(
    history=st.lists(st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.0]), min_size=1, max_size=6), min_size=1, max_size=5)
)
@settings(max_examples=30, deadline=None)
def test_a_ring_depends_on_who_is_there_and_not_on_who_was(history: list[list[float]]) -> None:
    grown, fresh = RingHash(), RingHash()
    for weights in history:
        grown.rebuild(instances(*weights))
    fresh.rebuild(instances(*history[-1])[::-1])
    assert [owner.id for owner in map(grown._at, range(0, 2**64, 2**58)) if owner] == [
        owner.id for owner in map(fresh._at, range(0, 2**64, 2**58)) if owner
    ]
    assert len(grown._points) == len(fresh._points)
    assert grown._hashes.keys() == fresh._hashes.keys()
    assert len(grown._places) <= 2 * max(map(len, history))


def plainly_filled(ids: list[str], size: int) -> list[int]:
    """The table as §3.4 of the paper fills it, for equal weights."""
    orders = []
    for one in ids:
        digest = blake2b(one.encode(), digest_size=16).digest()
        offset, skip = int.from_bytes(digest[:8], "big") % size, int.from_bytes(digest[8:], "big") % (size - 1) + 1
        orders.append(iter([(offset + step * skip) % size for step in range(size)]))
    table: dict[int, int] = {}
    while len(table) < size:
        for place, order in enumerate(orders):
            if len(table) < size:
                table[next(slot for slot in order if slot not in table)] = place
    return [table[slot] for slot in range(size)]


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_maglev_fills_its_table_as_the_paper_does(count: int) -> None:
    fleet = instances(*[1.0] * count)
    assert _filled(fleet, 2_039) == plainly_filled([one.id for one in fleet], 2_039)


def test_maglev_has_slots_enough_for_each() -> None:
    for count in (1, 2, 20, 21, 655, 656, 1_310, 1_311, 13_107, 13_108, 100_000):
        assert _size(count) >= (100 * count if count <= 1_310 else 10 * count if count <= 13_107 else 6 * count)
    counts = Counter(_filled(instances(*[1.0] * 200), _size(200)))
    assert max(counts.values()) - min(counts.values()) <= 1
