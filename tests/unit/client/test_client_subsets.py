"""Subsets: even over many consumers, and stable under changes."""

from __future__ import annotations

from collections import Counter

from balancing import instances

from townhall.client.subsets import Subset

FLEET = instances(*[1.0] * 60)


def test_a_small_service_is_called_as_a_whole() -> None:
    assert Subset(0, "me").of(FLEET) is FLEET
    assert Subset(60, "me").of(FLEET) is FLEET


def test_one_that_goes_is_replaced_and_the_rest_stays() -> None:
    subset = Subset(10, "me")
    before = {one.id for one in subset.of(FLEET)}
    assert len(before) == 10
    gone = next(iter(before))
    after = {one.id for one in subset.of([one for one in FLEET if one.id != gone])}
    assert len(after) == 10
    assert before - after == {gone}
    assert {one.id for one in subset.of(FLEET)} == before
    assert {one.id for one in Subset(10, "me").of(FLEET[::-1])} == before


def test_instances_are_in_about_as_many_subsets_as_others() -> None:
    counts = Counter(one.id for number in range(600) for one in Subset(10, f"consumer {number}").of(FLEET))
    assert len(counts) == 60
    assert 60 < min(counts.values()) <= max(counts.values()) < 150
