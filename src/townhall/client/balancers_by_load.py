"""Balancers that look at how busy the instances are: least outstanding calls, and peak EWMA of two choices.

They are told when calls begin and end (``LoadAware``), by the same consumer only: what others send is seen in how long
the answers take. Pure: time is what the callers say it is, and chance comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace
from math import exp
from random import Random
from typing import Protocol, runtime_checkable

from townhall.client.balancers import weighty
from townhall.client.records import Instance
from townhall.model import limits

__all__ = ["LeastOutstanding", "LoadAware", "PeakEwma"]


@runtime_checkable
class LoadAware(Protocol):
    """A balancer that wants to know what becomes of the calls. Every ``begun`` is followed by one ``ended``."""

    def begun(self, instance: Instance, *, now_ms: float) -> None:
        """A call to this instance begins."""
        ...

    def ended(self, instance: Instance, *, now_ms: float, duration_ms: float, failed: bool) -> None:
        """It is over. ``failed``: by the instance's fault."""
        ...


class LeastOutstanding:
    """The instance with the fewest running calls in proportion to its weight; equals take turns.

    A heap of (load, turn, place); an instance's entry is stale once it has a later turn, and is dropped when it comes
    up. So a pick, a beginning and an end cost O(log n). The first order is drawn, so that many consumers do not begin
    with the same.
    """

    def __init__(self) -> None:
        self._instances: list[Instance] = []
        self._places: dict[str, int] = {}
        self._running: dict[str, int] = {}
        """Calls by instance id, also to instances that are not candidates now; none for 0."""
        self._heap: list[tuple[float, int, int]] = []
        self._turns: list[int] = []
        """By place, the turn of its valid entry."""
        self._turn = -1
        """The last turn given to give; below 0 until the first pick after a change lays the heap out."""

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Running calls are remembered."""
        self._instances = weighty(instances)
        self._places = {one.id: place for place, one in enumerate(self._instances)}
        self._heap = []
        self._turn = -1

    def pick(self, rng: Random) -> Instance | None:
        """The least busy one."""
        if self._turn < 0:
            self._shuffle(rng)
        heap = self._heap
        while heap:
            load, turn, place = heap[0]
            if turn == self._turns[place]:
                # Behind its equals: who picks without telling of the calls must not get the same for ever.
                self._turn += 1
                self._turns[place] = self._turn
                heapreplace(heap, (load, self._turn, place))
                return self._instances[place]
            heappop(heap)
        return None

    def begun(self, instance: Instance, *, now_ms: float) -> None:
        """See ``LoadAware``."""
        self._running[instance.id] = self._running.get(instance.id, 0) + 1
        self._moved(instance.id)

    def ended(self, instance: Instance, *, now_ms: float, duration_ms: float, failed: bool) -> None:
        """See ``LoadAware``."""
        left = self._running.get(instance.id, 0) - 1
        if left > 0:
            self._running[instance.id] = left
        else:
            self._running.pop(instance.id, None)
        self._moved(instance.id)

    def _moved(self, instance_id: str) -> None:
        place = self._places.get(instance_id)
        if place is None:
            return
        if self._turn < 0:
            return
        self._turn += 1
        self._turns[place] = self._turn
        heappush(self._heap, (self._load(place), self._turn, place))
        if len(self._heap) > 64 + 4 * len(self._instances):
            self.rebuild(self._instances)

    def _shuffle(self, rng: Random) -> None:
        places = list(range(len(self._instances)))
        rng.shuffle(places)
        self._heap = [(self._load(place), turn, place) for turn, place in enumerate(places)]
        heapify(self._heap)
        self._turns = [0] * len(places)
        for turn, place in enumerate(places):
            self._turns[place] = turn
        self._turn = len(places)

    def _load(self, place: int) -> float:
        instance = self._instances[place]
        return self._running.get(instance.id, 0) / (instance.weight or 1.0)


class _Estimate:
    """What is known of one instance's speed."""

    __slots__ = ("at_ms", "ewma_ms", "running")

    def __init__(self) -> None:
        self.at_ms = 0.0
        self.ewma_ms = 0.0
        """0: nothing is known yet."""
        self.running = 0


class PeakEwma:
    """Of two instances drawn by chance, the one that would answer sooner (Finagle's and Linkerd's peak EWMA).

    An instance costs (running calls + 1) times its mean latency, over its weight. The mean follows a slower answer at
    once and faster ones with a time constant of ``CLIENT_EWMA_MS``, so one that becomes slow is left alone after few
    calls and found again when it has recovered. A failure counts as an answer ``CLIENT_EWMA_FAILURE_MS`` late: one that
    refuses quickly must not draw the calls of all. A newcomer costs nothing until its first call has begun, and as much
    as ``CLIENT_EWMA_FAILURE_MS`` while that runs.
    """

    def __init__(self) -> None:
        self._instances: list[Instance] = []
        self._estimates: dict[str, _Estimate] = {}
        self._at: list[_Estimate] = []
        """By place, the same objects."""
        self._now_ms = 0.0

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """What was learnt stays with the instances that stay, or that have calls running."""
        self._instances = weighty(instances)
        known = self._estimates
        self._at = [known.get(one.id) or _Estimate() for one in self._instances]
        kept = {one: estimate for one, estimate in known.items() if estimate.running}
        kept.update((one.id, estimate) for one, estimate in zip(self._instances, self._at, strict=True))
        self._estimates = kept

    def pick(self, rng: Random) -> Instance | None:
        """The better of two different ones."""
        instances = self._instances
        count = len(instances)
        if count < 2:
            return instances[0] if count else None
        first = int(rng.random() * count)
        second = int(rng.random() * (count - 1))
        if second >= first:
            second += 1
        return instances[second] if self._cost(second) < self._cost(first) else instances[first]

    def begun(self, instance: Instance, *, now_ms: float) -> None:
        """See ``LoadAware``."""
        self._now_ms = now_ms
        estimate = self._estimates.get(instance.id)
        if estimate is None:
            estimate = self._estimates[instance.id] = _Estimate()
        estimate.running += 1

    def ended(self, instance: Instance, *, now_ms: float, duration_ms: float, failed: bool) -> None:
        """See ``LoadAware``."""
        self._now_ms = now_ms
        estimate = self._estimates.get(instance.id)
        if estimate is None:
            return
        estimate.running = max(0, estimate.running - 1)
        latency_ms = duration_ms + limits.CLIENT_EWMA_FAILURE_MS if failed else duration_ms
        if latency_ms > estimate.ewma_ms or not estimate.at_ms:
            estimate.ewma_ms = latency_ms
        else:
            share = exp((estimate.at_ms - now_ms) / limits.CLIENT_EWMA_MS)
            estimate.ewma_ms = estimate.ewma_ms * share + latency_ms * (1.0 - share)
        estimate.at_ms = now_ms

    def _cost(self, place: int) -> float:
        estimate = self._at[place]
        running = estimate.running
        if not estimate.at_ms:
            latency_ms = float(limits.CLIENT_EWMA_FAILURE_MS) if running else 0.0
        else:
            # Silence is forgiven at the same pace: one that was slow is tried again even if nobody calls it.
            latency_ms = estimate.ewma_ms * exp((estimate.at_ms - self._now_ms) / limits.CLIENT_EWMA_MS)
        return latency_ms * (running + 1) / (self._instances[place].weight or 1.0)
