"""Which instance gets the next call. Pure: no clock, no I/O, and chance only from the generator that is passed in.

A ``Balancer`` is rebuilt when the instances change and picked from for every call. Instances of weight 0 get nothing,
unless all have weight 0: then all count the same. What further balancers need beyond this (the outcome of a call, a
key to hash) will be separate protocols of one method each, so that these stay as small as they are.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from itertools import accumulate
from random import Random
from typing import Protocol

from townhall.client.records import Instance

__all__ = ["BALANCERS", "Balancer", "RoundRobin", "SmoothWeighted", "WeightedRandom"]

_GOLDEN = 0.6180339887498949
"""Multiples of it modulo 1 spread evenly however many there are: phases for instances of any weight."""
_REBASE_AT = 2.0**20
"""Virtual time of ``SmoothWeighted`` at which it begins anew: a period of 1/65,535 is exact to some five digits there."""


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
    the same shares with O(n) a pick; this takes O(log n), and a change costs no more than a look at each instance.

    A change keeps how far each instance is into its period, so neither a new weight nor a newcomer causes a burst:
    half of a period stays half of a period, and newcomers start somewhere within theirs. What has a new weight gets a new
    entry in the queue; its old one, like those of instances that left, is dropped when it comes up.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[float, int]] = []
        """(due, number of the entry), a heap. An entry whose number is not in ``_entries`` is dropped when it comes up."""
        self._entries: dict[int, tuple[float, Instance]] = {}
        """The valid entries: (period, instance) by number."""
        self._numbers: dict[str, int] = {}
        """The number of each instance's valid entry, by id."""
        self._now = 0.0
        self._last = 0
        self._newcomers = 0

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Carry over what was."""
        entries, numbers = self._entries, self._numbers
        known: dict[str, int] = {}
        changed: dict[int, tuple[str, float, Instance]] = {}
        for one in weighty(instances):
            number = known[one.id] = numbers.get(one.id, 0)
            if not number or entries[number][1] is not one:
                period = 1.0 / (one.weight or 1.0)
                if number and entries[number][0] == period:
                    entries[number] = (period, one)
                else:
                    changed[number or -len(changed) - 1] = (one.id, period, one)
        for gone in numbers.keys() - known.keys():
            del entries[numbers[gone]]
        self._numbers = known
        self._enter(changed)
        if len(self._queue) > 64 + 2 * len(entries):
            self._compact()

    def _enter(self, changed: dict[int, tuple[str, float, Instance]]) -> None:
        """New entries, by the number of the old one; below 0 for newcomers."""
        dues = {number: due for due, number in self._queue} if any(number > 0 for number in changed) else {}
        for number, (name, period, instance) in changed.items():
            if number > 0:
                left = (dues[number] - self._now) / self._entries.pop(number)[0]
            else:
                self._newcomers += 1
                left = (self._newcomers * _GOLDEN) % 1.0
            self._last += 1
            self._numbers[name] = self._last
            self._entries[self._last] = (period, instance)
            self._queue.append((self._now + left * period, self._last))
        if changed:
            heapify(self._queue)

    def _compact(self) -> None:
        """Only valid entries, and virtual time from 0 again, so that it never loses precision."""
        now, self._now = self._now, 0.0
        self._queue = [(due - now, number) for due, number in self._queue if number in self._entries]
        heapify(self._queue)

    def pick(self, rng: Random) -> Instance | None:
        """The one that is due first."""
        queue = self._queue
        while queue:
            due, number = queue[0]
            found = self._entries.get(number)
            if found is not None:
                self._now = due
                heapreplace(queue, (due + found[0], number))
                if due > _REBASE_AT:
                    self._compact()
                return found[1]
            heappop(queue)
        return None


BALANCERS: dict[str, type[RoundRobin | WeightedRandom | SmoothWeighted]] = {
    "round_robin": RoundRobin,
    "random": WeightedRandom,
    "smooth_weighted": SmoothWeighted,
}
"""The balancers that a consumer knows by name."""
