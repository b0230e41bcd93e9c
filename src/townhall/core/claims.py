"""Claims: which commands may be decided side by side in one group commit.

A group collects what its commands depend on and touch. Two claims *meet* when deciding their commands in parallel
could differ from deciding them in turn:

* equal claims meet, unless both are ``Shared``: two puts that hang keys on one lease both rely on it, the lease's
  end takes it alone;
* ``KeyRange`` claims of one space meet when they overlap, unless both are ``Shared``. So puts of different keys never
  meet, while a transaction that reads or deletes a range meets every put into that range, present key or not;
* ``EVERYTHING`` meets all.

A put costs three set look-ups here. Only a range walks the keys that the group has claimed so far, and only those of
its space.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from townhall.core import EVERYTHING, Footprint, KeyRange, Shared

__all__ = ["Claims"]


class _SpaceClaims:
    """What a group has claimed in one space. Exact keys lie in sets, ranges in (short) lists."""

    __slots__ = ("taken_keys", "taken_ranges", "used_keys", "used_ranges")

    def __init__(self) -> None:
        self.taken_keys: set[bytes] = set()
        self.used_keys: set[bytes] = set()
        self.taken_ranges: list[KeyRange] = []
        self.used_ranges: list[KeyRange] = []

    def meets(self, wanted: KeyRange, *, shared: bool) -> bool:
        if not wanted.end:
            key = wanted.start
            if key in self.taken_keys or (self.taken_ranges and _any_holds(self.taken_ranges, key)):
                return True
            if shared:
                return False
            return key in self.used_keys or (bool(self.used_ranges) and _any_holds(self.used_ranges, key))
        if _any_within(self.taken_keys, wanted) or _any_overlaps(self.taken_ranges, wanted):
            return True
        return not shared and (_any_within(self.used_keys, wanted) or _any_overlaps(self.used_ranges, wanted))

    def add(self, wanted: KeyRange, *, shared: bool) -> None:
        if not wanted.end:
            (self.used_keys if shared else self.taken_keys).add(wanted.start)
        else:
            (self.used_ranges if shared else self.taken_ranges).append(wanted)


def _holds(held: KeyRange, key: bytes) -> bool:
    return held.start <= key and (held.end == b"\0" or key < held.end)


def _any_holds(ranges: Iterable[KeyRange], key: bytes) -> bool:
    return any(_holds(held, key) for held in ranges)


def _any_within(keys: Iterable[bytes], wanted: KeyRange) -> bool:
    return any(_holds(wanted, key) for key in keys)


def _any_overlaps(ranges: Iterable[KeyRange], wanted: KeyRange) -> bool:
    return any(
        (wanted.end == b"\0" or held.start < wanted.end) and (held.end == b"\0" or wanted.start < held.end)
        for held in ranges
    )


class Claims:
    """The claims of one group. Begin every group with a new one."""

    __slots__ = ("_closed", "_count", "_spaces", "_taken", "_used")

    def __init__(self) -> None:
        self._closed = False
        self._count = 0
        self._taken: set[Hashable] = set()
        self._used: set[Hashable] = set()
        self._spaces: dict[str, _SpaceClaims] = {}

    def admit(self, footprint: Footprint) -> bool:
        """Join the group; False (and nothing changes) when the footprint meets one that has joined before.

        The first footprint of a group always joins. An empty one meets none but EVERYTHING.
        """
        if self._closed:
            return False
        if len(footprint) == 1:
            (claim,) = footprint
            if type(claim) is KeyRange and not claim.end:
                # Nearly always: one key is written.
                return self._admit_key(claim)
        if footprint == EVERYTHING:
            if self._count:
                return False
            self._closed = True
            self._count = 1
            return True
        if self._count:
            for claim in footprint:
                if self._meets(claim):
                    return False
        for claim in footprint:
            self._add(claim)
        self._count += 1
        return True

    def _admit_key(self, claim: KeyRange) -> bool:
        space = self._space(claim.space)
        if space.meets(claim, shared=False):
            return False
        space.taken_keys.add(claim.start)
        self._count += 1
        return True

    def block(self, footprint: Footprint) -> None:
        """Claim for a command that must wait for the next group, so that no later one which meets it overtakes it."""
        if footprint == EVERYTHING:
            self._closed = True
        else:
            for claim in footprint:
                self._add(claim)
        self._count += 1

    def _meets(self, claim: Hashable) -> bool:
        shared = type(claim) is Shared
        wanted = claim.claim if type(claim) is Shared else claim
        if type(wanted) is KeyRange:
            space = self._spaces.get(wanted.space)
            return space is not None and space.meets(wanted, shared=shared)
        return wanted in self._taken or (not shared and wanted in self._used)

    def _add(self, claim: Hashable) -> None:
        shared = type(claim) is Shared
        wanted = claim.claim if type(claim) is Shared else claim
        if type(wanted) is KeyRange:
            self._space(wanted.space).add(wanted, shared=shared)
        else:
            (self._used if shared else self._taken).add(wanted)

    def _space(self, name: str) -> _SpaceClaims:
        space = self._spaces.get(name)
        if space is None:
            space = self._spaces[name] = _SpaceClaims()
        return space
