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

    A heap of (load, turn, id); an instance's entry is stale once it has another turn, and is dropped when it comes up. So
    a pick, a beginning and an end cost O(log n), and a change no more than a look at each instance. A newcomer's first
    turn is drawn among those of all, so that many consumers do not begin with the same.
    """

    def __init__(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._running: dict[str, int] = {}
        """Calls by instance id, also to instances that are not candidates now; none for 0."""
        self._heap: list[tuple[float, float, str]] = []
        self._turns: dict[str, float] = {}
        """The turn of each instance's valid entry."""
        self._waiting: list[str] = []
        """Newcomers: the next pick, which has the chance for it, draws their turns."""
        self._turn = 0

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Running calls and turns are remembered."""
        before = self._instances
        now = self._instances = {one.id: one for one in weighty(instances)}
        for gone in before.keys() - now.keys():
            self._turns.pop(gone, None)
        self._waiting = [name for name in self._waiting if name in now and name in before]
        for name, one in now.items():
            known = before.get(name)
            if known is None:
                self._waiting.append(name)
            elif known is not one and known.weight != one.weight and name in self._turns:
                self._enter(name, self._next_turn())

    def pick(self, rng: Random) -> Instance | None:
        """The least busy one."""
        if self._waiting:
            self._welcome(rng)
        heap = self._heap
        while heap:
            load, turn, name = heap[0]
            if turn == self._turns.get(name):
                # Behind its equals: who picks without telling of the calls must not get the same for ever.
                turn = self._turns[name] = self._next_turn()
                heapreplace(heap, (load, turn, name))
                return self._instances[name]
            heappop(heap)
        return None

    def begun(self, instance: Instance, *, now_ms: float) -> None:
        """See ``LoadAware``."""
        self._running[instance.id] = self._running.get(instance.id, 0) + 1
        if instance.id in self._turns:
            self._enter(instance.id, self._next_turn())

    def ended(self, instance: Instance, *, now_ms: float, duration_ms: float, failed: bool) -> None:
        """See ``LoadAware``."""
        left = self._running.get(instance.id, 0) - 1
        if left > 0:
            self._running[instance.id] = left
        else:
            self._running.pop(instance.id, None)
        if instance.id in self._turns:
            self._enter(instance.id, self._next_turn())

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    def _enter(self, name: str, turn: float) -> None:
        """A new entry, which makes the old one stale."""
        self._turns[name] = turn
        heappush(self._heap, (self._load(name), turn, name))
        if len(self._heap) > 64 + 4 * len(self._instances):
            self._heap = [entry for entry in self._heap if entry[1] == self._turns.get(entry[2])]
            heapify(self._heap)

    def _welcome(self, rng: Random) -> None:
        """The turns of the last round lie within as many as there are instances; fractions meet no one else's."""
        count = len(self._instances)
        for name in self._waiting:
            turn = self._turns[name] = self._turn + 1 - count * rng.random()
            self._heap.append((self._load(name), turn, name))
        heapify(self._heap)
        self._waiting = []

    def _load(self, name: str) -> float:
        return self._running.get(name, 0) / (self._instances[name].weight or 1.0)


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
        names = [one.id for one in self._instances]
        self._at = [known.get(name) or _Estimate() for name in names]
        kept = dict(zip(names, self._at, strict=True))
        for gone in known.keys() - kept.keys():
            if known[gone].running:
                kept[gone] = known[gone]
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
