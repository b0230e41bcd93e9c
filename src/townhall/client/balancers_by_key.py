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
_SIZES = (251, 2_039, 65_537, 655_373)
"""Primes, as Maglev's tables must be; §5.3 of the paper measures 65,537 and 655,373."""


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
        self._instances: list[Instance] = []
        self._points: list[int] = []
        self._hashes: dict[str, list[int]] = {}
        self._running: dict[str, int] = {}
        self._total = 0
        self._weight = 0.0

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Some milliseconds for ``CLIENT_RING_POINTS_MAX`` points; hashes of known instances are kept."""
        self._instances = chosen = weighty(instances)
        weights = [one.weight or 1.0 for one in chosen]
        self._weight = sum(weights)
        each = limits.CLIENT_RING_POINTS
        if each * len(chosen) > limits.CLIENT_RING_POINTS_MAX:
            each = max(1, limits.CLIENT_RING_POINTS_MAX // len(chosen))
        hashes, points = {}, []
        for place, (one, weight) in enumerate(zip(chosen, weights, strict=True)):
            # Ten times the mean at most, so that one odd weight does not crowd the ring.
            share = weight * len(chosen) / self._weight
            count = max(1, min(round(each * share), each * 10))
            known = self._hashes.get(one.id, [])
            hashes[one.id] = found = known if len(known) >= count else _points(one.id, count)
            points += [(point << _PLACE_BITS) | place for point in found[:count]]
        points.sort()
        self._points, self._hashes = points, hashes

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
        points, instances = self._points, self._instances
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
            instance = instances[place]
            if self._running.get(instance.id, 0) + 1 <= self._bound(instance):
                return instance
            first = first or instance
            passed.add(place)
            if len(passed) == len(instances):
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

    Each instance fills its slots in an order of its own; they take turns, the heavier ones more often. The table has at
    least a hundred slots for each instance, up to 655,373 in all. Filling a large one takes a noticeable part of a
    second, so for thousands of instances that change often ``ring_hash`` is the better choice.
    """

    def __init__(self) -> None:
        self._instances: list[Instance] = []
        self._table: list[int] = []

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Fill the table. Sorted by id first, so that all consumers fill it alike."""
        chosen = sorted(weighty(instances), key=_id)
        if [(one.id, one.weight) for one in chosen] != [(one.id, one.weight) for one in self._instances]:
            size = next((size for size in _SIZES if size >= 100 * len(chosen)), _SIZES[-1])
            self._table = _filled(chosen, size) if chosen else []
        self._instances = chosen

    def pick(self, rng: Random) -> Instance | None:
        """One at a random slot, for calls without a key."""
        return self._instances[self._table[int(rng.random() * len(self._table))]] if self._table else None

    def pick_for(self, key: bytes, rng: Random) -> Instance | None:
        """The instance in this key's slot."""
        return self._instances[self._table[hashed(key) % len(self._table)]] if self._table else None


def _id(instance: Instance) -> str:
    return instance.id


def _filled(chosen: Sequence[Instance], size: int) -> list[int]:
    heaviest = max(one.weight or 1.0 for one in chosen)
    offsets, skips, credits_, steps = [], [], [], []
    for one in chosen:
        digest = blake2b(one.id.encode(), digest_size=16).digest()
        offsets.append(int.from_bytes(digest[:8], "big") % size)
        skips.append(int.from_bytes(digest[8:], "big") % (size - 1) + 1)
        credits_.append(0.0)
        steps.append((one.weight or 1.0) / heaviest)
    table = [-1] * size
    left = size
    while True:
        for place, step in enumerate(steps):
            credits_[place] += step
            if credits_[place] < 1.0:
                continue
            credits_[place] -= 1.0
            slot, skip = offsets[place], skips[place]
            while table[slot] >= 0:
                slot = (slot + skip) % size
            table[slot] = place
            offsets[place] = (slot + skip) % size
            left -= 1
            if not left:
                return table
