"""Reads of the keyspaces. Rights are checked by ``queries.Reader``, which asks these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from townhall.core.access import key_name
from townhall.core.commands import RangeResult
from townhall.core.keyspace import Keyspace
from townhall.core.state import Lease, State
from townhall.core.transaction import guard_revision
from townhall.model.access import Level, Resource
from townhall.model.errors import Compacted
from townhall.model.keys import KeyEvent, KeyValue
from townhall.model.lease import LeaseKind

if TYPE_CHECKING:
    from townhall.core.queries import Reader

__all__ = [
    "get",
    "key_events",
    "key_leases",
    "lease_keys",
    "lock_delay_until",
    "range_keys",
    "space_compacted",
    "space_size",
]

_EMPTY = Keyspace("")
"""What a space looks like before its first write."""


def space_compacted(state: State, space: str) -> int:
    """The oldest revision that can be read; 0 while nothing was compacted."""
    return state.spaces.get(space, _EMPTY).compacted


def space_size(state: State, space: str) -> int:
    """Approximate bytes that the space's keys and history take in memory."""
    return state.spaces.get(space, _EMPTY).size


def get(state: State, space: str, key: bytes, *, revision: int = 0) -> KeyValue | None:
    """One key, now (``revision`` 0) or as it was. Raises Compacted, InvalidField (a future revision)."""
    found = state.spaces.get(space, _EMPTY)
    if revision <= 0:
        return found.get(key)
    guard_revision(found, revision)
    return found.get_at(key, revision)


def range_keys(state: State, space: str, start: bytes, end: bytes, *, limit: int = 0, revision: int = 0) -> RangeResult:
    """The keys of ``[start, end)`` in order (an empty ``end``: just ``start``; a zero byte: to the last key).

    At most ``limit`` of them (0: all), now or at ``revision``. Raises Compacted, InvalidField (a future revision).
    """
    found = state.spaces.get(space, _EMPTY)
    if revision <= 0:
        kvs, count = found.range(start, end, limit=limit)
    else:
        guard_revision(found, revision)
        kvs, count = found.range_at(start, end, revision, limit=limit)
    return RangeResult(kvs, count, count > len(kvs), found.revision)


def key_events(state: State, space: str, start: bytes, end: bytes, after: int, *, limit: int = 0) -> Sequence[KeyEvent]:
    """Events of ``[start, end)`` above revision ``after``, oldest first, in whole revisions.

    When ``limit`` (0: none) is reached, no further revision is begun: ask again after the last event's. Fewer events
    than ``limit`` mean that everything up to ``space_revision`` has been told. An ``after`` in the future has no
    events yet. Raises Compacted when some of the events asked for are forgotten.
    """
    found = state.spaces.get(space, _EMPTY)
    if after + 1 < found.compacted:
        raise Compacted(
            f"events of {space!r} before revision {found.compacted} are compacted",
            advice="list again and watch from there",
            oldest=found.compacted,
        )
    return found.events(start, end, after, limit=limit)


def lock_delay_until(state: State, space: str, key: bytes) -> int:
    """Until when (Unix milliseconds) nobody may lock the key; 0 when there is no delay."""
    return state.spaces.get(space, _EMPTY).lock_delays.get(key, 0)


def key_leases(reader: Reader) -> list[Lease]:
    """See ``Reader.key_leases``."""
    leases = reader.state.leases.values()
    return [lease for lease in leases if lease.kind is LeaseKind.KEYS and not lease.sessions and _sees(reader, lease)]


def lease_keys(lease: Lease, space: str) -> list[bytes]:
    """The keys of a space that hang on a lease, in order."""
    return sorted(key for name, key in lease.keys or () if name == space)


def _sees(reader: Reader, lease: Lease) -> bool:
    return all(reader.may(Resource.KEY, Level.READ, key_name(space, key)) for space, key in lease.keys or ())
