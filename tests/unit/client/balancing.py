"""Instances and counts for the tests of balancers, and the published experiment in virtual time."""

from __future__ import annotations

import heapq
from collections import Counter
from random import Random

from townhall.client.balancers import Balancer
from townhall.client.balancers_by_load import LoadAware
from townhall.client.records import Instance


def instances(*weights: float, first: int = 0, **fields: str) -> list[Instance]:
    return [
        Instance(id=f"i{first + n}", service="s", address="127.0.0.1", port=1 + n, weight=weight, **fields)
        for n, weight in enumerate(weights)
    ]


def shares(balancer: Balancer, count: int, seed: int = 1) -> Counter[str]:
    rng = Random(seed)
    return Counter(one.id for _ in range(count) if (one := balancer.pick(rng)) is not None)


def within_a_second(balancer: Balancer, *, seed: int = 1, seconds: int = 60, rate: int = 1000) -> float:
    """Linkerd's experiment of 2016: eleven backends that take 167 ms, one of them 2 s for half of the time.

    The share of calls answered within a second.
    """
    rng = Random(seed)
    fleet = instances(*[1.0] * 11)
    balancer.rebuild(fleet)
    running: list[tuple[float, int, float, Instance]] = []
    good = 0
    for number in range(seconds * rate):
        now = number / rate
        while running and running[0][0] <= now:
            end, _, took, instance = heapq.heappop(running)
            if isinstance(balancer, LoadAware):
                balancer.ended(instance, now_ms=end * 1000, duration_ms=took * 1000, failed=False)
        chosen = balancer.pick(rng)
        assert chosen is not None
        slow = chosen.id == "i0" and seconds / 4 <= now < seconds * 3 / 4
        took = 2.0 if slow else max(0.001, rng.gauss(0.167, 0.005))
        if isinstance(balancer, LoadAware):
            balancer.begun(chosen, now_ms=now * 1000)
        heapq.heappush(running, (now + took, number, took, chosen))
        good += took < 1.0
    return good / (seconds * rate)
