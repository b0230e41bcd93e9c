"""Balancers that send what has the same key to the same instance: a ring with bounded loads, and Maglev.

The key is hashed with BLAKE2b, so that every process, whatever its seed, maps it alike.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil
from random import Random
from typing import Protocol, runtime_checkable

from townhall.client.balancers import weighty
from townhall.client.records import Instance
from townhall.model import limits

__all__ = ["KeyAware", "Maglev", "RingHash"]

_PLACE_BITS = 24
"""Below a point's hash lies the place of its instance: one integer sorts and tells both."""
_PLACE_MASK = (1 << _PLACE_BITS) - 1
_POINTS_PER_HASH = 8
"""Eight points of 64 bits from one digest of 64 bytes."""
_SIZES = (251, 2_039, 16_381, 65_537, 131_071)
"""Primes, as Maglev's tables must be, with a hundred slots for each instance. §5.3 of the paper measures 65,537 and
655,373."""
_SIZE_LARGEST = 655_373
_SLOTS_MIN = 10
"""For each instance, before the largest table is used, which takes five times as long to fill."""


@runtime_checkable
class KeyAware(Protocol):
    """A balancer that can be asked with a key."""

    def pick_for(self, key: bytes, rng: Random) -> Instance | None:
        """The instance for this key; None when there are none."""
        ...


def hashed(key: bytes) -> int:
    """64 bits of the key."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


class RingHash:
    """Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016).

    Every instance has points on a ring, in proportion to its weight; a key belongs to the first point at or after its
    hash. When an instance comes or goes, only the keys next to its points move. While calls are told (``LoadAware``),
    no instance gets more than ``CLIENT_RING_LOAD_FACTOR`` times its fair share of those that run: the next one on the
    ring takes what is too much for it.
    """

    def __init__(self) -> None:
        self._chosen: list[Instance] = []
        self._places: list[Instance | None] = []
        """The instances; None where one has left, until another one comes."""
        self._owners: dict[str, tuple[int, int]] = {}
        """(place, number of points on the ring) by id."""
        self._points: list[int] = []
        self._hashes: dict[str, list[int]] = {}
        self._running: dict[str, int] = {}
        self._total = 0
        self._weight = 0.0

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Only the points of what has changed are taken off the ring and put onto it; hashes are kept."""
        chosen = weighty(instances)
        if chosen == self._chosen:
            return
        self._chosen = chosen
        self._weight = sum([one.weight or 1.0 for one in chosen])
        counts = self._counts(chosen)
        before = self._owners
        owners: dict[str, tuple[int, int]] = {}
        entering = []
        for one, count in zip(chosen, counts, strict=True):
            known = before.get(one.id)
            if known is not None and known[1] == count:
                owners[one.id] = known
                self._places[known[0]] = one
            else:
                entering.append((one, count))
        leaving = {place for name, (place, _) in before.items() if name not in owners}
        if leaving:
            self._points = [point for point in self._points if point & _PLACE_MASK not in leaving]
            for place in leaving:
                self._places[place] = None
        free = [place for place, one in enumerate(self._places) if one is None] if entering or leaving else []
        for one, count in entering:
            place = free.pop() if free else len(self._places)
            self._places[place : place + 1] = [one]
            known_hashes = self._hashes.get(one.id, [])
            found = known_hashes if len(known_hashes) >= count else _points(one.id, count)
            self._hashes[one.id] = found
            self._points += [(point << _PLACE_BITS) | place for point in found[:count]]
            owners[one.id] = (place, count)
        if entering:
            self._points.sort()
        self._owners = owners
        for gone in self._hashes.keys() - owners.keys():
            del self._hashes[gone]

    def _counts(self, chosen: Sequence[Instance]) -> list[int]:
        """Points for each: in proportion to the weights, but ten times the mean at most, so that one odd weight does not
        crowd the ring. They depend on who is there alone, not on who was, so all consumers have the same ring.
        """
        each = limits.CLIENT_RING_POINTS
        if each * len(chosen) > limits.CLIENT_RING_POINTS_MAX:
            each = max(1, limits.CLIENT_RING_POINTS_MAX // len(chosen))
        factor = each * len(chosen) / self._weight if chosen else 0.0
        most = each * 10
        return [max(1, min(round(factor * (one.weight or 1.0)), most)) for one in chosen]

    def pick(self, rng: Random) -> Instance | None:
        """One at a random point, for calls without a key."""
        return self._at(rng.getrandbits(64))

    def pick_for(self, key: bytes, rng: Random) -> Instance | None:
        """The instance of this key, or the next that is not too busy."""
        return self._at(hashed(key))

    def begun(self, instance: Instance, *, now_ms: float) -> None:
        """See ``LoadAware``."""
        self._running[instance.id] = self._running.get(instance.id, 0) + 1
        self._total += 1

    def ended(self, instance: Instance, *, now_ms: float, duration_ms: float, failed: bool) -> None:
        """See ``LoadAware``."""
        left = self._running.get(instance.id, 0) - 1
        if left > 0:
            self._running[instance.id] = left
        else:
            self._running.pop(instance.id, None)
        self._total = max(0, self._total - 1)

    def _at(self, point: int) -> Instance | None:
        points, places = self._points, self._places
        if not points:
            return None
        index = bisect(points, (point << _PLACE_BITS) - 1)
        first = None
        passed: set[int] = set()
        # Loads below the bound always exist among the candidates, unless calls to others were counted as well.
        for step in range(len(points)):
            place = points[(index + step) % len(points)] & _PLACE_MASK
            if place in passed:
                continue
            instance = places[place]
            assert instance is not None, "only the points of present instances are on the ring"
            if self._running.get(instance.id, 0) + 1 <= self._bound(instance):
                return instance
            first = first or instance
            passed.add(place)
            if len(passed) == len(self._owners):
                break
        return first

    def _bound(self, instance: Instance) -> int:
        share = (instance.weight or 1.0) / self._weight
        return ceil(limits.CLIENT_RING_LOAD_FACTOR * (self._total + 1) * share)


def _points(instance_id: str, count: int) -> list[int]:
    points: list[int] = []
    for number in range(ceil(count / _POINTS_PER_HASH)):
        digest = blake2b(b"%d/%b" % (number, instance_id.encode())).digest()
        points += [int.from_bytes(digest[at : at + 8], "big") for at in range(0, 64, 8)]
    return points


class Maglev:
    """Maglev's look-up table (Eisenbud and others, NSDI 2016, §3.4): nearly perfect shares, little disruption.

    Each instance fills its slots in an order of its own; they take turns, the heavier ones more often. The table has a
    hundred slots for each instance up to 1,310 of them, ten up to 13,107, and 655,373 in all beyond. Filling it takes a
    tenth of a second for 1,000 instances and the event loop waits for it, so for thousands that change often ``ring_hash``
    is the better choice. A service that grows into the next table has nearly all its keys moved once.
    """

    def __init__(self) -> None:
        self._instances: list[Instance] = []
        self._table: list[int] = []

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Fill the table. Sorted by id first, so that all consumers fill it alike."""
        chosen = sorted(weighty(instances), key=_id)
        if [(one.id, one.weight) for one in chosen] != [(one.id, one.weight) for one in self._instances]:
            self._table = _filled(chosen, _size(len(chosen))) if chosen else []
        self._instances = chosen

    def pick(self, rng: Random) -> Instance | None:
        """One at a random slot, for calls without a key."""
        return self._instances[self._table[int(rng.random() * len(self._table))]] if self._table else None

    def pick_for(self, key: bytes, rng: Random) -> Instance | None:
        """The instance in this key's slot."""
        return self._instances[self._table[hashed(key) % len(self._table)]] if self._table else None


def _id(instance: Instance) -> str:
    return instance.id


def _size(count: int) -> int:
    found = next((size for size in _SIZES if size >= 100 * count), _SIZES[-1])
    return found if found >= _SLOTS_MIN * count else _SIZE_LARGEST


def _filled(chosen: Sequence[Instance], size: int) -> list[int]:
    """Each in its turn takes the next free slot of its own order; a lighter one sits out as many turns as it is lighter.

    The order of an instance is offset, offset + skip, offset + 2 skip, … modulo the size, which is prime. What is free is
    kept in bytes, which stay in the cache where a list of numbers would not.
    """
    heaviest = max(one.weight or 1.0 for one in chosen)
    nexts, skips = [], []
    for one in chosen:
        digest = blake2b(one.id.encode(), digest_size=16).digest()
        nexts.append(int.from_bytes(digest[:8], "big") % size)
        skips.append(int.from_bytes(digest[8:], "big") % (size - 1) + 1)
    steps = [(one.weight or 1.0) / heaviest for one in chosen]
    credits_ = [0.0] * len(chosen)
    places = list(range(len(chosen)))
    table, taken = [0] * size, bytearray(size)
    left = size
    while True:
        # Whoever has no turn yet in this round is left out before, so that equal weights pay nothing for it.
        turns = places if min(steps) == 1.0 else _turns(places, steps, credits_)
        for place in turns:
            slot, skip = nexts[place], skips[place]
            while taken[slot]:
                slot += skip
                if slot >= size:
                    slot -= size
            taken[slot] = 1
            table[slot] = place
            slot += skip
            nexts[place] = slot if slot < size else slot - size
            left -= 1
            if not left:
                return table


def _turns(places: Sequence[int], steps: Sequence[float], credits_: list[float]) -> list[int]:
    turns = []
    for place in places:
        credit = credits_[place] + steps[place]
        if credit >= 1.0:
            credit -= 1.0
            turns.append(place)
        credits_[place] = credit
    return turns
