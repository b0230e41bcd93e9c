"""Which instances a consumer leaves out for a while because calls to them failed. Pure: time is passed in.

An instance is ejected by one failed call, for ``CLIENT_EJECTION_MS``, twice as long for each further failure in a row,
up to ``CLIENT_EJECTION_MAX_MS``. Ejection is local and short; whether an instance is really ill is the registry's to
say, which is told of the failure. However many fail, at most ``CLIENT_EJECTED_SHARE_MAX`` of the callable ones (one at
least) are left out: when everything fails, the fault is more likely on our side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from townhall.client.records import Instance
from townhall.model import limits

__all__ = ["Ejections", "candidates"]


@dataclass(slots=True)
class _Strikes:
    count: int
    until_ms: float
    """When it may be called again."""


class Ejections:
    """The failures of one service's instances, as one consumer has seen them."""

    def __init__(self) -> None:
        self.strikes: dict[str, _Strikes] = {}
        """By id: those to which calls failed and have not worked since."""

    def __bool__(self) -> bool:
        return bool(self.strikes)

    def failed(self, instance_id: str, *, now_ms: float) -> bool:
        """A call failed. True when this ejects the instance, False when it is out already (a call begun before)."""
        strikes = self.strikes.get(instance_id)
        if strikes is not None and now_ms < strikes.until_ms:
            return False
        if strikes is None or now_ms - strikes.until_ms > limits.CLIENT_EJECTIONS_REMEMBERED_MS:
            strikes = self.strikes[instance_id] = _Strikes(0, 0)
        duration_ms = min(limits.CLIENT_EJECTION_MAX_MS, limits.CLIENT_EJECTION_MS * 2 ** min(strikes.count, 30))
        strikes.count += 1
        strikes.until_ms = now_ms + duration_ms
        return True

    def succeeded(self, instance_id: str, *, now_ms: float) -> None:
        """A call worked: the next failure counts as the first again.

        One that is still out (the call was begun before, or nothing else was left) comes back when its time is over.
        """
        strikes = self.strikes.get(instance_id)
        if strikes is not None and now_ms >= strikes.until_ms:
            del self.strikes[instance_id]

    def retain(self, instance_ids: Iterable[str]) -> None:
        """Forget instances that are no more."""
        if self.strikes:
            known = set(instance_ids)
            for gone in [one for one in self.strikes if one not in known]:
                del self.strikes[gone]

    def ejected(self, callable_ids: Sequence[str], *, now_ms: float) -> set[str]:
        """Those to leave out now, the ones longest out, and no more of ``callable_ids`` than the share allows."""
        out = {one: strikes.until_ms for one, strikes in self.strikes.items() if now_ms < strikes.until_ms}
        counted = sorted((one for one in callable_ids if one in out), key=out.__getitem__, reverse=True)
        allowed = max(1, int(len(callable_ids) * limits.CLIENT_EJECTED_SHARE_MAX))
        return set(out) - set(counted[allowed:])

    def next_return_ms(self, *, now_ms: float) -> float | None:
        """When the next one comes back; None when none is out."""
        return min((one.until_ms for one in self.strikes.values() if one.until_ms > now_ms), default=None)


def candidates(instances: Sequence[Instance], ejections: Ejections, *, now_ms: float) -> list[Instance]:
    """The instances to choose from: the best level that is not empty.

    Callable ones; then, rather than failing, SUSPECT ones (never those that are down, draining, starting or in
    maintenance); then the ejected ones of both.
    """
    healthy = [one for one in instances if one.callable]
    if not ejections and healthy:
        return healthy
    suspect = [one for one in instances if one.suspect and not one.callable]
    out = ejections.ejected([one.id for one in healthy], now_ms=now_ms)
    for level in (healthy, suspect):
        inside = [one for one in level if one.id not in out]
        if inside:
            return inside
    return healthy or suspect
