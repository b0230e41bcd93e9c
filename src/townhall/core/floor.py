"""The removal floor: when silence takes too many at once, it is more likely ours or the network's than theirs.

A service's *known* instances are those somebody expects to be callable, and those removed for silence within the
window. If losing one more to silence would leave fewer than ``floor(known × ratio)`` callable, it is held: SUSPECT, but
still given to callers. The same counts over all instances with a lease are the registry's own floor. What somebody
asked for (deregistration, override, maintenance, drain) is not silence and passes, and what is so kept from being
called is not expected either (docs/health.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from townhall.core import Rules
from townhall.core.state import DEFAULT_SETTINGS, Lease, State
from townhall.core.tally import Tally
from townhall.model.instance import Instance, ServiceKey

__all__ = ["Budget", "falls", "instances_on", "known_count", "needed_count"]


def known_count(tally: Tally, *, now_ms: int, window_ms: int) -> int:
    """Instances that count: expected ones, and silent removals within the window."""
    return tally.expected + tally.gone_since(now_ms - window_ms)


def needed_count(known: int, *, ratio: float, instances_min: int) -> int:
    """How many must stay callable; 0 where there is no floor."""
    return math.floor(known * ratio) if known >= instances_min else 0


def falls(instance: Instance) -> bool:
    """Whether silence without a hold would take it from the callers: the operator's word is above silence."""
    return instance.callable and instance.evidence.override is None


def instances_on(state: State, lease: Lease) -> list[Instance]:
    """The instances on a lease."""
    found = []
    for key, id_ in lease.attached():
        service = state.services.get(key)
        instance = service.instances.get(id_) if service is not None else None
        if instance is not None:
            found.append(instance)
    return found


class Budget:
    """How many instances silence may still take, while one command decides on many leases.

    ``take`` asks for all instances of a lease at once: they stand and fall together.
    """

    __slots__ = ("_left", "_now_ms", "_registry", "_rules", "_state")

    def __init__(self, state: State, rules: Rules, now_ms: int) -> None:
        self._state = state
        self._rules = rules
        self._now_ms = now_ms
        self._left: dict[ServiceKey, int] = {}
        self._registry = self._margin(
            state.ephemeral, rules.registry_floor, instances_min=rules.registry_floor_instances_min
        )

    def _margin(self, tally: Tally, ratio: float, *, instances_min: int) -> int:
        known = known_count(tally, now_ms=self._now_ms, window_ms=self._rules.floor_window_ms)
        return tally.callable - needed_count(known, ratio=ratio, instances_min=instances_min)

    def _service_margin(self, key: ServiceKey) -> int:
        left = self._left.get(key)
        if left is None:
            service = self._state.services.get(key)
            tally, settings = (service.tally, service.settings) if service is not None else (Tally(), DEFAULT_SETTINGS)
            left = self._left[key] = self._margin(tally, settings.floor, instances_min=self._rules.floor_instances_min)
        return left

    def take(self, instances: Iterable[Instance], *, anyway: bool = False) -> bool:
        """Whether silence may take these from the callers; if so (or ``anyway``) they count as taken."""
        lost: dict[ServiceKey, int] = {}
        total = 0
        for instance in instances:
            if falls(instance):
                lost[instance.key] = lost.get(instance.key, 0) + 1
                total += instance.lease != 0
        if not lost:
            return True
        # A margin may be below zero already, when deliberate acts left fewer than the floor: then nothing may fall.
        passes = all(self._service_margin(key) >= count for key, count in lost.items())
        passes = passes and (total == 0 or self._registry >= total)
        if passes or anyway:
            self._registry -= total
            for key, count in lost.items():
                self._left[key] = self._service_margin(key) - count
        return passes
