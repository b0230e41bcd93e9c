"""The interest index: whom does a commit concern? Costs O(concerned), whoever else is waiting.

Exact interests (a service, a listing, a lease, one key) lie in one dictionary. Ranges that are prefixes lie under
their prefix, and a written key is cut to each length that some registered prefix of its space has. Other ranges are
compared one by one; clients hardly use them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from townhall.core import Changes, Interest, KeyRange

__all__ = ["InterestIndex", "prefix_of"]

Handle = TypeVar("Handle", bound=Hashable)

_NO_END = b"\0"


def prefix_of(interest: KeyRange) -> bytes | None:
    """The prefix that all keys of the range share and no other key has; None when it is no such range."""
    start, end = interest.start, interest.end
    if end == _NO_END:
        return b"" if start in {b"", b"\0"} else None
    stem = start.rstrip(b"\xff")
    return start if stem and end == stem[:-1] + bytes((stem[-1] + 1,)) else None


class InterestIndex(Generic[Handle]):
    """Handles by what they wait for. A handle may wait for many things, and for one thing more than once over time.

    Order is that of registration, so that a simulation runs the same way twice.
    """

    __slots__ = ("_exact", "_prefix_sizes", "_prefixes", "_ranges")

    def __init__(self) -> None:
        self._exact: dict[Hashable, dict[Handle, None]] = {}
        self._prefixes: dict[tuple[str, bytes], dict[Handle, None]] = {}
        self._prefix_sizes: dict[str, dict[int, int]] = {}
        """Space → length → how many prefixes of that length are registered."""
        self._ranges: dict[str, dict[KeyRange, dict[Handle, None]]] = {}

    def __len__(self) -> int:
        """How many different interests somebody waits for."""
        return len(self._exact) + len(self._prefixes) + sum(map(len, self._ranges.values()))

    def add(self, interests: Iterable[Interest], handle: Handle) -> None:
        """The handle is concerned by changes of any of these; idempotent."""
        for interest in interests:
            if not isinstance(interest, KeyRange) or not interest.end:
                self._exact.setdefault(interest, {})[handle] = None
                continue
            prefix = prefix_of(interest)
            if prefix is None:
                self._ranges.setdefault(interest.space, {}).setdefault(interest, {})[handle] = None
                continue
            name = (interest.space, prefix)
            if name not in self._prefixes:
                self._prefixes[name] = {}
                sizes = self._prefix_sizes.setdefault(interest.space, {})
                sizes[len(prefix)] = sizes.get(len(prefix), 0) + 1
            self._prefixes[name][handle] = None

    def remove(self, interests: Iterable[Interest], handle: Handle) -> None:
        """Take back what ``add`` did with the same interests; idempotent."""
        for interest in interests:
            if not isinstance(interest, KeyRange) or not interest.end:
                _discard(self._exact, interest, handle)
                continue
            prefix = prefix_of(interest)
            if prefix is None:
                ranges = self._ranges.get(interest.space)
                if ranges is not None and _discard(ranges, interest, handle) and not ranges:
                    del self._ranges[interest.space]
            elif _discard(self._prefixes, (interest.space, prefix), handle):
                sizes = self._prefix_sizes[interest.space]
                sizes[len(prefix)] -= 1
                if not sizes[len(prefix)]:
                    del sizes[len(prefix)]
                if not sizes:
                    del self._prefix_sizes[interest.space]

    def waiters(self, interest: Interest) -> list[Handle]:
        """Who waits for exactly this (not a range)."""
        return list(self._exact.get(interest, ()))

    def match(self, changes: Changes) -> list[Handle]:
        """Whom the changes concern, each once. The list is the caller's: the index may change while it is read."""
        buckets = self.crowds(changes)
        if len(buckets) == 1:
            return list(buckets[0])
        merged: dict[Handle, None] = {}
        for bucket in buckets:
            merged.update(bucket)
        return list(merged)

    def crowds(self, changes: Changes) -> list[dict[Handle, None]]:
        """The same, all who wait for one interest together; some may be in several. They are not the caller's."""
        if not (self._exact or self._prefixes or self._ranges):
            return []
        return list(self._crowds(changes))

    def _crowds(self, changes: Changes) -> Iterator[dict[Handle, None]]:
        for name in _names(changes):
            bucket = self._exact.get(name)
            if bucket is not None:
                yield bucket
        for space, key in changes.keys:
            yield from self._key_crowds(space, key)

    def _key_crowds(self, space: str, key: bytes) -> Iterator[dict[Handle, None]]:
        bucket = self._exact.get((space, key, b""))  # Equal to the KeyRange, which is a tuple too.
        if bucket is not None:
            yield bucket
        for size in self._prefix_sizes.get(space, ()):
            bucket = self._prefixes.get((space, key[:size])) if size <= len(key) else None
            if bucket is not None:
                yield bucket
        for interest, handles in self._ranges.get(space, {}).items():
            if interest.start <= key and (interest.end == _NO_END or key < interest.end):
                yield handles


def _names(changes: Changes) -> Iterator[Hashable]:
    """The exact interests that the changes touch; sorted, because the order of a set differs from run to run."""
    yield from changes.services if len(changes.services) == 1 else sorted(changes.services)
    for namespace in sorted(changes.listings):
        yield ("services", namespace)
    if changes.listings:
        yield ("services", "")
    for lease_id in sorted(changes.leases):
        yield ("lease", lease_id)
    if changes.access:
        yield ("access", "")
    if changes.sessions:
        yield ("sessions", "")
    if changes.nodes:
        for node in sorted(changes.nodes):
            yield ("node", node)
    if changes.node_list:
        yield ("nodes", "")
    if changes.checks:
        yield ("checks", "")


Name = TypeVar("Name", bound=Hashable)


def _discard(table: dict[Name, dict[Handle, None]], name: Name, handle: Handle) -> bool:
    """Whether the handle was the last one, so that the entry is gone."""
    bucket = table.get(name)
    if bucket is None or handle not in bucket:
        return False
    del bucket[handle]
    if bucket:
        return False
    del table[name]
    return True
