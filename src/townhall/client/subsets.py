"""A consumer of a large service calls a part of it: fewer connections, health known sooner, the same share for each.

Rendezvous hashing of (consumer, instance): each consumer keeps the instances with the highest hashes. When an instance
comes or goes, a consumer's subset changes by that one at most; over many consumers every instance is in about as many
subsets as any other. (Google's deterministic subsetting is more even, but wants consumers to be numbered.)
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from heapq import nlargest

from townhall.client.records import Instance

__all__ = ["Subset"]


class Subset:
    """The part of a service that one consumer calls; ``size`` 0 is all of it."""

    def __init__(self, size: int, consumer: str) -> None:
        self._size = size
        self._seed = blake2b(consumer.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self._ranks: dict[str, bytes] = {}

    def of(self, instances: Sequence[Instance]) -> Sequence[Instance]:
        """Those of the instances that this consumer calls, in their order.

        Chosen among what may be called now, so a subset stays whole when some of it fails.
        """
        if not self._size or len(instances) <= self._size:
            return instances
        known = self._ranks
        self._ranks = {one.id: known.get(one.id) or self._rank(one.id) for one in instances}
        chosen = {one.id for one in nlargest(self._size, instances, key=self._rank_of)}
        return [one for one in instances if one.id in chosen]

    def _rank_of(self, instance: Instance) -> bytes:
        return self._ranks[instance.id]

    def _rank(self, instance_id: str) -> bytes:
        return blake2b(instance_id.encode("utf-8", "surrogatepass"), key=self._seed, digest_size=8).digest()
