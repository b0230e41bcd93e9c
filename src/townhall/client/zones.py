"""Calls stay in the zone, then in the region, as long as enough is healthy there; the rest spills over.

``ZoneAware`` divides the candidates into levels (own zone, own region, all others) and balances each with a balancer of
its own. A level takes, of what the levels before it left, the share of its instances that may be called times
``CLIENT_ZONE_OVERPROVISION`` (Envoy's priority levels, envoyproxy.io «Priority levels»): with 1.4, calls begin to leave
the zone when less than 72 % of it is healthy, so the survivors are not run over. When all levels together do not make
up a whole, calls are divided in proportion to what they have.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Protocol, runtime_checkable

from townhall.client.balancers import Balancer
from townhall.client.balancers_by_key import KeyAware
from townhall.client.balancers_by_load import LoadAware
from townhall.client.records import Instance
from townhall.model import limits

__all__ = ["Census", "ZoneAware"]


@runtime_checkable
class Census(Protocol):
    """A balancer that wants to know all instances of the service, also those that may not be called now."""

    def count(self, known: Sequence[Instance]) -> None:
        """All that are known; ``rebuild`` with the candidates among them follows."""
        ...


class ZoneAware:
    """``make`` gives a balancer for each level. Instances without a zone or region belong to the last one."""

    def __init__(self, make: Callable[[], Balancer], *, zone: str, region: str = "") -> None:
        self._zone = zone
        self._region = region
        self._levels = (make(), make(), make())
        # Asked once: at each call it would cost more than the call.
        self._loads = tuple(level if isinstance(level, LoadAware) else None for level in self._levels)
        self._keyed = {id(level): level for level in self._levels if isinstance(level, KeyAware)}
        self._edges: list[float] = []
        self._used: list[Balancer] = []
        self._known = [0, 0, 0]

    def count(self, known: Sequence[Instance]) -> None:
        """See ``Census``."""
        self._known = [0, 0, 0]
        for one in known:
            self._known[self._level(one)] += 1

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Divide the candidates and work out the shares."""
        there: tuple[list[Instance], ...] = ([], [], [])
        for one in instances:
            there[self._level(one)].append(one)
        left, taken, health = 1.0, [], []
        for level, candidates, known in zip(self._levels, there, self._known, strict=True):
            level.rebuild(candidates)
            healthy = len(candidates) / max(known, len(candidates), 1)
            share = min(left, healthy * limits.CLIENT_ZONE_OVERPROVISION)
            left -= share
            taken.append(share)
            health.append(healthy)
        # 1 % missing is rounding; more means that not even all levels together have enough.
        shares = taken if left < 0.01 else health
        rows = [(share, level) for share, level in zip(shares, self._levels, strict=True) if share > 0]
        total = sum(share for share, _ in rows)
        self._edges = list(accumulate(share / total for share, _ in rows)) if rows else []
        self._used = [level for _, level in rows]

    def pick(self, rng: Random) -> Instance | None:
        """A level by its share, then what its balancer says."""
        level = self._drawn(rng)
        return level.pick(rng) if level is not None else None

    def pick_for(self, key: bytes, rng: Random) -> Instance | None:
        """The same for a key, where the levels' balancers take one."""
        level = self._drawn(rng)
        if level is None:
            return None
        keyed = self._keyed.get(id(level))
        return keyed.pick_for(key, rng) if keyed is not None else level.pick(rng)

    def begun(self, instance: Instance, *, now_ms: float) -> None:
        """See ``LoadAware``."""
        level = self._loads[self._level(instance)]
        if level is not None:
            level.begun(instance, now_ms=now_ms)

    def ended(self, instance: Instance, *, now_ms: float, duration_ms: float, failed: bool) -> None:
        """See ``LoadAware``."""
        level = self._loads[self._level(instance)]
        if level is not None:
            level.ended(instance, now_ms=now_ms, duration_ms=duration_ms, failed=failed)

    def _drawn(self, rng: Random) -> Balancer | None:
        used = self._used
        if len(used) < 2:
            return used[0] if used else None
        return used[min(bisect(self._edges, rng.random()), len(used) - 1)]

    def _level(self, instance: Instance) -> int:
        if self._zone and instance.zone == self._zone and (not self._region or instance.region == self._region):
            return 0
        return 1 if self._region and instance.region == self._region else 2
