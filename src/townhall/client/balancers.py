"""Which instance gets the next call. Pure: no clock, no I/O, and chance only from the generator that is passed in.

A ``Balancer`` is rebuilt when the instances change and picked from for every call. Instances of weight 0 get nothing,
unless all have weight 0: then all count the same. What further balancers need beyond this (the outcome of a call, a
key to hash) will be separate protocols of one method each, so that these stay as small as they are.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from heapq import heapify, heapreplace
from itertools import accumulate
from random import Random
from typing import Protocol

from townhall.client.records import Instance

__all__ = ["BALANCERS", "Balancer", "RoundRobin", "SmoothWeighted", "WeightedRandom"]

_GOLDEN = 0.6180339887498949
"""Multiples of it modulo 1 spread evenly however many there are: phases for instances of any weight."""


class Balancer(Protocol):
    """Chooses among instances; belongs to one service of one consumer. Not safe for several threads."""

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """From now on choose among these, all of which may be called."""
        ...

    def pick(self, rng: Random) -> Instance | None:
        """The next one; None when there are none. Takes less than a microsecond."""
        ...


def weighty(instances: Sequence[Instance]) -> list[Instance]:
    """Those with a weight; all of them when none has one."""
    return [one for one in instances if one.weight > 0] or list(instances)


class RoundRobin:
    """One after the other, whatever their weights (0 excepted). A change keeps the turn where it was."""

    def __init__(self) -> None:
        self._ring: list[Instance] = []
        self._next = -1

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Go on with the instance whose turn it is, if it is still there, or else with the one after it."""
        ring = weighty(instances)
        place = {one.id: index for index, one in enumerate(ring)}
        turn = self._next
        due = self._ring[turn:] + self._ring[:turn] if turn >= 0 else []
        self._next = next((place[one.id] for one in due if one.id in place), -1)
        self._ring = ring

    def pick(self, rng: Random) -> Instance | None:
        """The one whose turn it is; the first turn is drawn, so that many consumers do not begin with the same."""
        ring = self._ring
        if not ring:
            return None
        index = self._next
        if index < 0:
            index = int(rng.random() * len(ring))
        self._next = index + 1 if index + 1 < len(ring) else 0
        return ring[index]


class WeightedRandom:
    """By chance, in proportion to the weights."""

    def __init__(self) -> None:
        self._instances: list[Instance] = []
        self._edges: list[float] = []
        self._total = 0.0

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Lay the weights end to end; a pick is a point on that line."""
        self._instances = weighty(instances)
        self._edges = list(accumulate(one.weight or 1.0 for one in self._instances))
        self._total = self._edges[-1] if self._edges else 0.0

    def pick(self, rng: Random) -> Instance | None:
        """One drawn."""
        instances = self._instances
        if not instances:
            return None
        # The product may round up to the total, which lies behind the last edge.
        return instances[min(bisect(self._edges, rng.random() * self._total), len(instances) - 1)]


class SmoothWeighted:
    """In turn and in proportion to the weights, spread evenly: earliest deadline first.

    An instance of weight w is due every 1/w of virtual time; the one due first is picked. With weights 5, 1, 1 the
    light ones come once in seven picks each, among and not after the heavy one's five. nginx's smooth round robin gives
    the same shares with O(n) a pick; this takes O(log n).

    A change keeps how far each instance is into its period, so neither a new weight nor a newcomer causes a burst:
    half of a period stays half of a period, and newcomers start somewhere within theirs.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, float, Instance]] = []
        """(due, a tie-breaker, period, instance), a heap."""
        self._now = 0.0
        self._newcomers = 0

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Carry over what was, with virtual time set back to 0, so that it never loses precision."""
        before = {entry[3].id: entry for entry in self._queue}
        queue: list[tuple[float, int, float, Instance]] = []
        for index, instance in enumerate(weighty(instances)):
            period = 1.0 / (instance.weight or 1.0)
            entry = before.get(instance.id)
            if entry is not None:
                left = (entry[0] - self._now) / entry[2]
            else:
                self._newcomers += 1
                left = (self._newcomers * _GOLDEN) % 1.0
            queue.append((left * period, index, period, instance))
        heapify(queue)
        self._queue = queue
        self._now = 0.0

    def pick(self, rng: Random) -> Instance | None:
        """The one that is due first."""
        queue = self._queue
        if not queue:
            return None
        due, index, period, instance = queue[0]
        self._now = due
        heapreplace(queue, (due + period, index, period, instance))
        return instance


BALANCERS: dict[str, type[RoundRobin | WeightedRandom | SmoothWeighted]] = {
    "round_robin": RoundRobin,
    "random": WeightedRandom,
    "smooth_weighted": SmoothWeighted,
}
"""The balancers that a consumer knows by name."""
