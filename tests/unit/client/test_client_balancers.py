"""Each balancer keeps the promise in its docstring, for any instances and weights."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.client import balancers
from townhall.client.balancers import BALANCERS, Balancer, RoundRobin, SmoothWeighted, WeightedRandom
from townhall.client.records import Instance

WEIGHTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 3.0, 7.0, 100.0]), min_size=1, max_size=12)


def instances(*weights: float, first: int = 0) -> list[Instance]:
    return [
        Instance(id=f"i{first + n}", service="s", address="127.0.0.1", port=1 + n, weight=weight)
        for n, weight in enumerate(weights)
    ]


def picks(balancer: Balancer, count: int, rng: Random | None = None) -> list[str]:
    rng = rng or Random(1)
    chosen = [balancer.pick(rng) for _ in range(count)]
    assert all(chosen)
    return [one.id for one in chosen if one is not None]


@pytest.mark.parametrize("name", BALANCERS)
def test_nothing_gives_none_and_one_gives_itself(name: str) -> None:
    balancer = BALANCERS[name]()
    assert balancer.pick(Random(0)) is None
    balancer.rebuild(instances(1))
    assert picks(balancer, 3) == ["i0"] * 3
    balancer.rebuild([])
    assert balancer.pick(Random(0)) is None


@pytest.mark.parametrize("name", BALANCERS)
@given(weights=WEIGHTS)
@settings(max_examples=60, deadline=None)
def test_weight_zero_gets_nothing_unless_all_have_it(name: str, weights: list[float]) -> None:
    balancer = BALANCERS[name]()
    balancer.rebuild(instances(*weights))
    counts = Counter(picks(balancer, 40))
    if any(weights):
        assert not any(counts[f"i{n}"] for n, weight in enumerate(weights) if weight == 0)
    else:
        assert sum(counts.values()) == 40
        if name != "random":
            assert len(counts) == len(weights)


@given(count=st.integers(1, 20), rounds=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_round_robin_gives_each_its_turn(count: int, rounds: int, seed: int) -> None:
    balancer = RoundRobin()
    balancer.rebuild(instances(*[1.0] * count))
    chosen = picks(balancer, count * rounds, Random(seed))
    assert all(sorted(chosen[n : n + count]) == sorted(set(chosen)) for n in range(0, len(chosen), count))


def test_round_robin_keeps_the_turn_over_a_change() -> None:
    balancer = RoundRobin()
    known = instances(1, 1, 1, 1)
    balancer.rebuild(known)
    before = picks(balancer, 2)
    due = known[(int(before[1][1:]) + 1) % 4]
    balancer.rebuild([*known, *instances(1, first=9)])
    assert picks(balancer, 1) == [due.id]
    after = [one for one in known if one.id != known[(int(due.id[1:]) + 1) % 4].id]
    balancer.rebuild(after)
    assert picks(balancer, 1) == [known[(int(due.id[1:]) + 2) % 4].id]


def test_many_consumers_do_not_begin_with_the_same() -> None:
    first = []
    for seed in range(300):
        balancer = RoundRobin()
        balancer.rebuild(instances(1, 1, 1))
        first += picks(balancer, 1, Random(seed))
    assert all(70 <= count <= 130 for count in Counter(first).values())


def test_random_follows_the_weights() -> None:
    balancer = WeightedRandom()
    balancer.rebuild(instances(1, 2, 0, 7))
    counts = Counter(picks(balancer, 20_000, Random(5)))
    for name, share in (("i0", 0.1), ("i1", 0.2), ("i3", 0.7)):
        assert counts[name] / 20_000 == pytest.approx(share, abs=0.02)
    assert "i2" not in counts


class Edge(Random):
    """Draws the largest number that ``random`` may give."""

    def random(self) -> float:
        return 1.0 - 2**-53


def test_random_does_not_fall_off_the_end_by_rounding() -> None:
    balancer = WeightedRandom()
    balancer.rebuild(instances(0.1, 0.2, 1e-9))
    assert balancer.pick(Edge()) is not None


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_smooth_gives_exact_shares_over_whole_rounds(weights: list[int]) -> None:
    balancer = SmoothWeighted()
    balancer.rebuild(instances(*map(float, weights)))
    total = sum(weights)
    counts = Counter(picks(balancer, total * 10))
    # Every instance is due at its own phase, so a round may begin inside anybody's period: one off at most each way.
    assert all(abs(counts[f"i{n}"] - weight * 10) <= 1 for n, weight in enumerate(weights))


@given(weights=st.lists(st.integers(1, 50), min_size=2, max_size=8), start=st.integers(0, 200))
@settings(max_examples=80, deadline=None)
def test_smooth_spreads_each_share_evenly(weights: list[int], start: int) -> None:
    """In any stretch in which an instance is due k times it comes between k-1 and k+1 times: no bursts."""
    balancer = SmoothWeighted()
    balancer.rebuild(instances(*map(float, weights)))
    chosen = picks(balancer, start + sum(weights))[start:]
    light = min(range(len(weights)), key=weights.__getitem__)
    heavy = max(range(len(weights)), key=weights.__getitem__)
    places = [n for n, one in enumerate(chosen) if one == f"i{heavy}"]
    # Between two turns of the heaviest nobody else gets more than one.
    for left, right in itertools.pairwise(places):
        between = Counter(chosen[left + 1 : right])
        assert all(count <= 1 for count in between.values())
    assert chosen.count(f"i{light}") <= weights[light] + 1


def test_smooth_mixes_light_ones_among_a_heavy_one() -> None:
    balancer = SmoothWeighted()
    balancer.rebuild(instances(100, *[1.0] * 100))
    chosen = picks(balancer, 2_000)
    longest = max(len(run) for run in "".join("H" if one == "i0" else "l" for one in chosen).split("H"))
    assert longest <= 4
    assert 960 <= chosen.count("i0") <= 1_040


@given(
    weights=st.lists(st.integers(1, 20), min_size=2, max_size=6),
    new=st.integers(1, 200),
    before=st.integers(0, 100),
)
@settings(max_examples=80, deadline=None)
def test_a_new_weight_or_newcomer_causes_no_burst(weights: list[int], new: int, before: int) -> None:
    balancer = SmoothWeighted()
    balancer.rebuild(instances(*map(float, weights)))
    if before:
        picks(balancer, before)
    changed = [float(new), *map(float, weights[1:])]
    balancer.rebuild([*instances(*changed), *instances(float(new), first=50)])
    total = sum(changed) + new
    chosen = Counter(picks(balancer, round(total)))
    for name, weight in (("i0", new), ("i50", new)):
        assert weight - 2 <= chosen[name] <= weight + 2


def test_rebuilding_with_the_same_changes_nothing_of_the_order() -> None:
    plain, rebuilt = SmoothWeighted(), SmoothWeighted()
    known = instances(5, 1, 1, 3)
    plain.rebuild(known)
    rebuilt.rebuild(known)
    straight = picks(plain, 40)
    interrupted = []
    for _ in range(40):
        rebuilt.rebuild(known)
        interrupted += picks(rebuilt, 1)
    assert Counter(straight) == Counter(interrupted)


@given(
    history=st.lists(st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(0, 40)), max_size=12),
    last=st.lists(st.integers(1, 9), min_size=1, max_size=7),
)
@settings(max_examples=100, deadline=None)
def test_smooth_gives_exact_shares_after_any_changes(history: list[tuple[list[int], int]], last: list[int]) -> None:
    balancer = SmoothWeighted()
    for weights, count in history:
        balancer.rebuild(instances(*map(float, weights)))
        picks(balancer, count)
    balancer.rebuild(instances(*map(float, last)))
    counts = Counter(picks(balancer, sum(last) * 10))
    # A due time that was carried over may lie on either side of the last whole round.
    assert all(abs(counts[f"i{n}"] - weight * 10) <= 2 for n, weight in enumerate(last))
    assert len(balancer._queue) <= 64 + 2 * 7 + 7
    assert balancer._entries.keys() == set(balancer._numbers.values())


def test_smooth_keeps_its_shares_when_virtual_time_begins_anew(monkeypatch) -> None:
    monkeypatch.setattr(balancers, "_REBASE_AT", 3.0)
    balancer = SmoothWeighted()
    balancer.rebuild(instances(1, 2, 5))
    assert Counter(picks(balancer, 800)) == {"i0": 100, "i1": 200, "i2": 500}
    assert balancer._now <= 4.0


def test_smooth_gives_the_instance_as_it_is_now() -> None:
    balancer = SmoothWeighted()
    balancer.rebuild(instances(1, 1))
    balancer.rebuild([msgspec.structs.replace(one, zone="b") for one in instances(1, 1)])
    assert {one.zone for _ in range(4) if (one := balancer.pick(Random(1)))} == {"b"}
