"""Which instance of a service gets the next call: the balancer with all that surrounds it. Pure: time is passed in.

From the picture of a service to a pick: leave out what was ejected (``ejection``), keep this consumer's part
(``subsets``), scale newcomers down (``slow_start``), then the balancer. It is worked out anew after a change, a failure,
the end of an ejection, and while something warms up; a pick only asks the balancer. For a large service that changes all
the time this is put off a little: who must not be called meanwhile is passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from threading import Lock

from townhall.client.balancers import Balancer
from townhall.client.balancers_by_key import KeyAware
from townhall.client.balancers_by_load import LoadAware
from townhall.client.ejection import Ejections, candidates
from townhall.client.records import Instance
from townhall.client.retry_budget import RetryBudget
from townhall.client.slow_start import warmed
from townhall.client.subsets import Subset
from townhall.client.tally import Tally
from townhall.client.zones import Census

__all__ = ["Choice", "Chooser"]

_PICKS_MAX = 8
"""Before one that is not passed over is looked for by hand."""
_PASSED_SHARE_MAX = 1 / 8
"""Of the candidates: so that a pick rarely hits one that is passed over."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a consumer chooses, beside its balancer."""

    panic_threshold: float = 0.0
    """Below this share of instances that may be called among those that are callable or suspect, all of these are
    called (Envoy's panic threshold): better to lose some calls than to run the survivors over. 0 is never."""
    subset: int = 0
    """Call only so many of the instances; 0 is all."""
    consumer: str = ""
    """What subsets differ by."""


class Chooser:
    """The choice of one service in one consumer. Safe for several threads: balancers alone are not (80 ns a pick)."""

    def __init__(self, balancer: Balancer, rng: Random, choice: Choice) -> None:
        self.ejections = Ejections()
        self.budget = RetryBudget()
        self.tally = Tally()
        self.count = 0
        """Candidates that the balancer chooses among."""
        self._balancer = balancer
        self._load = balancer if isinstance(balancer, LoadAware) else None
        self._keyed = balancer if isinstance(balancer, KeyAware) else None
        self._census = balancer if isinstance(balancer, Census) else None
        self._rng = rng
        self._lock = self._counting = Lock()
        self._chosen: Sequence[Instance] = ()
        self._passed: set[str] = set()
        self._family: list[Chooser] = [self]
        """All choosers that count the same calls, under the lock of the first."""
        self._panic_threshold = choice.panic_threshold
        self._subset = Subset(choice.subset, choice.consumer)

    def join(self, other: Chooser) -> None:
        """Share ejections, the budget of retries and the counts of calls with another one, from now on."""
        self.ejections, self.budget, self.tally = other.ejections, other.budget, other.tally
        other._family.append(self)
        self._family, self._counting = other._family, other._counting

    def rebuild(self, instances: Sequence[Instance], *, now_ms: float, unix_ms: float) -> float | None:
        """Choose among these from now on; returns in how many milliseconds to do so again, None for never.

        ``now_ms`` is the clock of ``failed`` and of calls, ``unix_ms`` what the registry's times compare with.
        """
        with self._lock:
            if self._census is not None:
                self._census.count(instances)
            chosen, cold_until_ms = warmed(self._subset.of(self._candidates(instances, now_ms)), now_ms=unix_ms)
            self.count = len(chosen)
            self._chosen = chosen
            self._passed.clear()
            self._balancer.rebuild(chosen)
        back_ms = self.ejections.next_return_ms(now_ms=now_ms)
        waits = [] if back_ms is None else [back_ms - now_ms]
        if cold_until_ms is not None:
            waits.append(cold_until_ms - unix_ms)
        return min(waits, default=None)

    def pick(self, key: bytes | None = None) -> Instance | None:
        """The instance for the next call; balancers that know no keys ignore them."""
        with self._lock:
            if key is not None and self._keyed is not None:
                instance = self._keyed.pick_for(key, self._rng)
            else:
                instance = self._balancer.pick(self._rng)
            if self._passed and instance is not None and instance.id in self._passed:
                return self._other()
            return instance

    def pass_over(self, instance_ids: Collection[str]) -> bool:
        """Give these no calls until the next ``rebuild``; False when they are so many that it should be now."""
        few = True
        for one in self._family:
            with one._lock:
                one._passed.update(instance_ids)
                few = few and (not one.count or len(one._passed) <= one.count * _PASSED_SHARE_MAX)
        return few

    def _other(self) -> Instance | None:
        for _ in range(_PICKS_MAX):
            instance = self._balancer.pick(self._rng)
            if instance is None or instance.id not in self._passed:
                return instance
        left = [one for one in self._chosen if one.id not in self._passed]
        return self._rng.choice(left) if left else None

    def untried(self, tried: Collection[str], instances: Sequence[Instance]) -> Instance | None:
        """One that is not among the tried ids: by the balancer, else any callable one; None when all were tried."""
        for _ in range(min(self.count, 2 * len(tried) + 4)):
            instance = self.pick()
            if instance is not None and instance.id not in tried:
                return instance
        left = [one for one in instances if one.callable and one.id not in tried]
        return self._rng.choice(left) if left else None

    def begun(self, instance: Instance, *, now_ms: float) -> None:
        """A call begins; each is followed by one ``ended``."""
        with self._counting:
            self.tally.begun(instance.id)
        for one in self._family:
            if one._load is not None:
                with one._lock:
                    one._load.begun(instance, now_ms=now_ms)

    def answered(self, instance: Instance) -> None:
        """The answer to a call begins; ``ended`` is told when that was."""
        with self._counting:
            self.tally.answered(instance.id)

    def unanswered(self) -> Collection[str]:
        """The ids of instances at which calls wait for an answer."""
        with self._counting:
            return tuple(self.tally.unanswered)

    def ended(
        self, instance: Instance, *, begun_ms: float, now_ms: float, failed: bool, answered_ms: float | None = None
    ) -> None:
        """It is over. ``failed``: by the instance's fault. Ejection of those that failed is asked for by ``failed``.

        ``answered_ms``: when the answer began, if it was told that it does (``answered``).
        """
        with self._counting:
            if answered_ms is None:
                answered_ms = now_ms
                self.tally.answered(instance.id)
            self.tally.ended(answered_ms - begun_ms)
        for one in self._family:
            if one._load is not None:
                with one._lock:
                    one._load.ended(instance, now_ms=now_ms, duration_ms=answered_ms - begun_ms, failed=failed)
        if not failed and self.ejections.strikes:
            self.ejections.succeeded(instance.id, now_ms=now_ms)

    def _candidates(self, instances: Sequence[Instance], now_ms: float) -> Sequence[Instance]:
        chosen = candidates(instances, self.ejections, now_ms=now_ms)
        if self._panic_threshold:
            reachable = [one for one in instances if one.callable or one.suspect]
            if len(chosen) < self._panic_threshold * len(reachable):
                return reachable
        return chosen
