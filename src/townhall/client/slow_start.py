"""Slow start: an instance that has just come gets little at first, so that caches fill and code is compiled.

An instance says how long it wants to warm up in its metadata, ``warmup_s`` (what ``Provider(warm_up=…)`` sets). Until
then its weight is scaled by its age over that time, a tenth at least, as HAProxy's ``slowstart`` does it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from townhall.client.records import Instance
from townhall.model import limits

__all__ = ["WARM_UP_KEY", "warmed"]

WARM_UP_KEY = "warmup_s"


def warmed(instances: Sequence[Instance], *, now_ms: float) -> tuple[Sequence[Instance], float | None]:
    """The instances with the weights they have now, and when to look again; None when all are warm.

    ``now_ms`` is Unix milliseconds, as the registry's ``registered_at`` is; a clock that is behind it counts as no age.
    """
    if not [one for one in instances if WARM_UP_KEY in one.metadata]:
        return instances, None
    cold = False
    found = []
    for one in instances:
        share = _share(one, now_ms)
        if share < 1.0:
            cold = True
            one = msgspec.structs.replace(one, weight=one.weight * share)  # noqa: PLW2901 - the same instance
        found.append(one)
    return found, now_ms + limits.CLIENT_WARM_UP_STEP_MS if cold else None


def _share(instance: Instance, now_ms: float) -> float:
    text = instance.metadata.get(WARM_UP_KEY)
    if not text or not instance.registered_at:
        return 1.0
    try:
        warm_up_ms = float(text) * 1000
    except ValueError:
        return 1.0
    if not 0 < warm_up_ms <= limits.CLIENT_WARM_UP_MAX_MS:
        return 1.0
    age_ms = max(0.0, now_ms - instance.registered_at)
    return 1.0 if age_ms >= warm_up_ms else max(0.1, age_ms / warm_up_ms)
