"""Locks and elections on keys: pure helpers that build transactions and read their results.

The recipe is etcd's: whoever wants the lock NAME writes the key ``locks/NAME/LEASE`` (its lease in hexadecimal) once;
the key with the lowest ``create_revision`` holds, the others are the queue. The holder's fencing number is that
``create_revision``: it grows from holder to holder, so a store that is given it can turn away one that has lost the
lock without knowing. A lease's end deletes its key and so passes the lock on. An election is the same thing; the value
is what the leader proclaims.

Waiting means: watch the keys of the lock (``interest``) and look at the queue again.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import msgspec

from townhall.core import KeyRange
from townhall.core.commands import RangeResult, Transact, TransactResult
from townhall.model import limits, names
from townhall.model.errors import Conflict, InvalidField, OverLimit
from townhall.model.keys import Compare, CompareTarget, Delete, Get, KeyValue, Put, Relation, Transaction

__all__ = [
    "SPACE", "Standing", "acquire", "admit", "interest", "key_of", "lease_of", "proclaim", "queue_of", "release", "span_of", "standing",
    "standing_after",
]  # fmt: skip

SPACE = "native"


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where a lease stands in the queue of a lock."""

    lock: str
    lease: int
    fencing: int
    """Its fencing number; of use once it is ``held``."""
    ahead: int
    """How many come before it; 0 is the holder."""
    holder: KeyValue
    """The holder's key: its value is what the leader proclaimed."""

    @property
    def held(self) -> bool:
        """Whether the lease holds the lock."""
        return self.ahead == 0


def _prefix(lock: str) -> bytes:
    # A slash would put the waiters of the lock "a/b" into the queue of "a".
    if "/" in names.label(lock, "lock"):
        raise InvalidField("lock", "must not hold a slash")
    return b"locks/" + lock.encode() + b"/"


def span_of(lock: str) -> tuple[bytes, bytes]:
    """The range of the keys of a lock's queue. Raises InvalidField for a name that cannot be a lock's."""
    prefix = _prefix(lock)
    return prefix, prefix[:-1] + b"0"  # '0' follows '/'


def interest(lock: str) -> KeyRange:
    """What a waiter watches."""
    return KeyRange(SPACE, *span_of(lock))


def key_of(lock: str, lease: int) -> bytes:
    """The key by which a lease stands in the queue."""
    return _prefix(lock) + b"%x" % lease


def lease_of(kv: KeyValue) -> int:
    """The lease behind a key of the queue; 0 when somebody put a key there that is none."""
    try:
        return int(kv.key.rpartition(b"/")[2], 16)
    except ValueError:
        return 0


def acquire(lock: str, *, lease: int, value: bytes = b"") -> Transact:
    """Stand in the queue, or go on standing there: asking again keeps place and value. See ``standing_after``."""
    key = key_of(lock, lease)
    queue = Get(*span_of(lock))
    absent = Compare(key, CompareTarget.CREATE, Relation.EQUAL, 0)
    return Transact(space=SPACE, transaction=Transaction((absent,), (Put(key, value, lease), queue), (queue,)))


def queue_of(keys: RangeResult) -> Sequence[KeyValue]:
    """Holder first, then those who wait, in their order; keys that hang on no lease of their own are left out."""
    waiting = [kv for kv in keys.kvs if kv.lease and lease_of(kv) == kv.lease]
    return sorted(waiting, key=attrgetter("create_revision"))


def standing(lock: str, *, lease: int, keys: RangeResult) -> Standing | None:
    """Where the lease stands, read from the range ``span_of(lock)``; None when it does not."""
    queue = queue_of(keys)
    for ahead, kv in enumerate(queue):
        if kv.lease == lease:
            return Standing(lock, lease, kv.create_revision, ahead, queue[0])
    return None


def standing_after(lock: str, *, lease: int, result: TransactResult) -> Standing:
    """Where the lease stands after ``acquire``. Raises Conflict when the key is there but not the lease's own."""
    keys = result.responses[-1]
    assert isinstance(keys, RangeResult)
    found = standing(lock, lease=lease, keys=keys)
    if found is None:
        raise Conflict(f"the key of lease {lease} in lock {lock!r} is somebody else's", advice="delete it", lock=lock)
    return found


def admit(lock: str, keys: RangeResult) -> None:
    """Raise OverLimit when no further waiter may join the queue. For asking before ``acquire``."""
    if keys.count >= limits.LOCK_WAITERS_MAX:
        raise OverLimit(f"too many wait for lock {lock!r}", advice="try again later", limit=limits.LOCK_WAITERS_MAX)


def proclaim(lock: str, *, lease: int, fencing: int, value: bytes) -> Transact:
    """Change the value, if the lease still stands under this fencing number. ``succeeded`` says whether it did."""
    key = key_of(lock, lease)
    same = Compare(key, CompareTarget.CREATE, Relation.EQUAL, fencing)
    return Transact(space=SPACE, transaction=Transaction((same,), (Put(key, value, ignore_lease=True),), ()))


def release(lock: str, *, lease: int, fencing: int = 0) -> Transact:
    """Leave the queue, and so pass the lock on. With ``fencing``: only if the lease still stands under that number.

    ``succeeded`` with a previous key in its response says that it stood there.
    """
    key = key_of(lock, lease)
    compares = (Compare(key, CompareTarget.CREATE, Relation.EQUAL, fencing),) if fencing else ()
    return Transact(space=SPACE, transaction=Transaction(compares, (Delete(key),)))
