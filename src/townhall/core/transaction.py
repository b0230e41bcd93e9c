"""Transactions: what one would write and answer, worked out against a keyspace without changing it.

The rules are etcd's, which the other protocols' operations are built from:

* All compares, also those of nested transactions, look at the keys as they were before the transaction; each level
  then takes its branch. An empty range compares as an absent key: its numbers are 0, it has no holder, and comparing
  its VALUE always fails.
* Operations go in order, and reads see the writes before them. All writes share one revision, which only ``evolve``
  can give; until then it is written as ``AFTER``, and ``Unnumbered`` puts the real one in.
* No key is put twice, and none is put inside a range that is deleted (``transaction_rules``), in whatever branch it may be taken.
* A lock (Consul) is the key's ``session``: taking one that another session holds, or during its lock delay, is a
  Conflict.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from townhall.core import Changes, Unsettled
from townhall.core.commands import RangeResult, TransactResult
from townhall.core.facts import KeyDeleted, KeyPut
from townhall.core.history import KEY_OVERHEAD_SIZE
from townhall.core.keyspace import Keyspace, within
from townhall.core.state import Lease, State
from townhall.model import limits
from townhall.model.errors import Compacted, Conflict, InvalidField, LeaseNotFound, NotFound, OverLimit
from townhall.model.keys import Compare, CompareTarget, Delete, Get, KeyValue, Operation, Put, Relation, Transaction

__all__ = ["Evaluated", "Ground", "Unnumbered", "evaluate", "guard_revision"]

AFTER = 0
"""Stands for the revision that the transaction's writes will get; real ones begin at 1."""
BEFORE = -1
"""Stands for the space's revision just before that one."""

_RELATIONS: Mapping[Relation, Callable[[Any, Any], bool]] = {
    Relation.EQUAL: operator.eq,
    Relation.GREATER: operator.gt,
    Relation.LESS: operator.lt,
    Relation.NOT_EQUAL: operator.ne,
}


_FOUND: Mapping[CompareTarget, Callable[[KeyValue], int | bytes]] = {
    CompareTarget.VERSION: attrgetter("version"),
    CompareTarget.CREATE: attrgetter("create_revision"),
    CompareTarget.MOD: attrgetter("mod_revision"),
    CompareTarget.LEASE: attrgetter("lease"),
    CompareTarget.VALUE: attrgetter("value"),
    CompareTarget.SESSION: lambda kv: kv.session.encode(),
}
_ABSENT = KeyValue(b"", b"", 0, 0, 0)
"""How a key compares that is not there."""


class Ground(msgspec.Struct, frozen=True, gc=False):
    """What a transaction is evaluated against."""

    state: State
    space: Keyspace
    now_ms: int


class Evaluated(msgspec.Struct, frozen=True, gc=False):
    """What came out."""

    writes: Sequence[KeyPut | KeyDeleted]
    result: TransactResult | Unnumbered
    growth: int
    """By how many bytes the present keys grow (or shrink)."""


class Unnumbered(Unsettled, frozen=True):
    """The result of a transaction that writes, before its revision is known."""

    space: str
    succeeded: bool
    responses: tuple[object, ...]
    deep: bool
    """Some response holds numbers of this transaction."""

    def settle(self, changes: Changes) -> TransactResult:
        """The result with the revision that ``evolve`` gave."""
        revision = changes.revisions[self.space]
        responses = _numbered(self.responses, revision - 1, revision) if self.deep else self.responses
        return TransactResult(self.succeeded, responses, revision)


def _numbered(responses: Sequence[object], before: int, after: int) -> tuple[object, ...]:
    return tuple([_number(response, before, after) for response in responses])


def _number(response: object, before: int, after: int) -> object:
    match response:
        case KeyValue(mod_revision=mod):
            return _number_kv(response, after) if mod == AFTER else response
        case RangeResult(kvs=kvs, count=count, more=more, revision=revision):
            kvs = [_number_kv(kv, after) if kv.mod_revision == AFTER else kv for kv in kvs]
            return RangeResult(kvs, count, more, before if revision == BEFORE else after)
        case TransactResult(succeeded=succeeded, responses=nested):
            return TransactResult(succeeded, _numbered(nested, before, after), after)
        case tuple():
            return _numbered(response, before, after)
        case _:
            return response


def _number_kv(kv: KeyValue, after: int) -> KeyValue:
    created = after if kv.create_revision == AFTER else kv.create_revision
    return msgspec.structs.replace(kv, create_revision=created, mod_revision=after)


def guard_revision(space: Keyspace, revision: int) -> None:
    """Raise Compacted when the revision is forgotten, InvalidField when it is in the future."""
    if revision > space.revision:
        raise InvalidField("revision", f"{revision} is in the future; {space.name!r} is at {space.revision}")
    if revision < space.compacted:
        raise Compacted(
            f"revision {revision} of {space.name!r} is compacted",
            advice=f"read at {space.compacted} or later",
            oldest=space.compacted,
        )


# --- compares ------------------------------------------------------------------------------------------------------


class _Branch(msgspec.Struct, frozen=True, gc=False):
    """A transaction whose compares have been looked at, and so have those of the transactions in its branch."""

    succeeded: bool
    operations: Sequence[Get | Put | Delete | _Branch]


def _choose(space: Keyspace, transaction: Transaction) -> _Branch:
    succeeded = True
    for compare in transaction.compares:
        if not _holds(space, compare):
            succeeded = False
            break
    taken: Sequence[Operation] = transaction.success if succeeded else transaction.failure
    return _Branch(succeeded, [_choose(space, op) if isinstance(op, Transaction) else op for op in taken])


def _holds(space: Keyspace, compare: Compare) -> bool:
    if not compare.end:
        kv = space.get(compare.key)
        return (kv is not None or compare.target is not CompareTarget.VALUE) and _compares(kv, compare)
    kvs, _ = space.range(compare.key, compare.end)
    if not kvs:
        return compare.target is not CompareTarget.VALUE and _compares(None, compare)
    return all(_compares(kv, compare) for kv in kvs)


def _compares(kv: KeyValue | None, compare: Compare) -> bool:
    return _RELATIONS[compare.relation](_FOUND[compare.target](kv or _ABSENT), compare.value)


# --- operations ----------------------------------------------------------------------------------------------------


def evaluate(ground: Ground, transaction: Transaction | Put) -> Evaluated:
    """Work a transaction out, or the put that is all of it. It has been checked (``transaction_rules.check``).

    Raises Compacted or InvalidField (a read's revision), NotFound (a kept value or lease of an absent key, an
    unknown session), LeaseNotFound, Conflict (a lock that another holds), OverLimit (too much on one lease).
    """
    space = ground.space
    if isinstance(transaction, Put):
        put = transaction
        if put.lease:  # etcd looks at the lease before the key, but at the key first within a transaction.
            _known_lease(ground.state, put.lease)
        before = space.get(put.key)
        write = _resolve(ground, put, before)
        return Evaluated((write,), Unnumbered(space.name, True, (before,), False), _growth(write, before))
    branch = _choose(space, transaction)
    if len(branch.operations) == 1 and type(branch.operations[0]) is Put:
        # Nothing comes after it that could see what it writes.
        put = branch.operations[0]
        before = space.get(put.key)
        write = _resolve(ground, put, before)
        result = Unnumbered(space.name, branch.succeeded, (before,), False)
        return Evaluated((write,), result, _growth(write, before))
    run = _Run(ground)
    responses = run.operate(branch.operations)
    if run.writes:
        result = Unnumbered(space.name, branch.succeeded, responses, run.deep)
        return Evaluated(run.writes, result, run.growth)
    revision = space.revision
    return Evaluated((), TransactResult(branch.succeeded, _numbered(responses, revision, revision), revision), 0)


class _Run:
    """One evaluation: the keys written so far lie over those of the space."""

    __slots__ = ("deep", "ground", "growth", "pending", "space", "writes")

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.space = ground.space
        self.pending: dict[bytes, KeyValue | None] = {}
        self.writes: list[KeyPut | KeyDeleted] = []
        self.growth = 0
        self.deep = False

    def operate(self, operations: Sequence[Get | Put | Delete | _Branch]) -> tuple[object, ...]:
        responses: list[object] = []
        for op in operations:
            if isinstance(op, Put):
                responses.append(self.put(op))
            elif isinstance(op, Delete):
                responses.append(self.delete(op))
            elif isinstance(op, Get):
                responses.append(self.get(op))
            else:
                self.deep = True
                responses.append(TransactResult(op.succeeded, self.operate(op.operations), AFTER))
        return tuple(responses)

    def put(self, put: Put) -> KeyValue | None:
        key = put.key
        before = self.pending[key] if key in self.pending else self.space.get(key)
        write = _resolve(self.ground, put, before)
        self.writes.append(write)
        self.growth += _growth(write, before)
        created, version = (AFTER, 1) if before is None else (before.create_revision, before.version + 1)
        self.pending[key] = KeyValue(
            key,
            write.value,
            created,
            AFTER,
            version,
            write.lease,
            write.flags,
            write.session,
            write.lock_index,
            write.extra,
        )
        return before

    def delete(self, delete: Delete) -> tuple[KeyValue, ...]:
        if not delete.end:
            kv = self.pending[delete.key] if delete.key in self.pending else self.space.get(delete.key)
            gone: tuple[KeyValue, ...] = () if kv is None else (kv,)
        else:
            gone = tuple(self._range(delete.key, delete.end, 0)[0])
        if gone:
            self.writes.append(KeyDeleted(delete.key, delete.end))
        for kv in gone:
            self.pending[kv.key] = None
            self.growth -= len(kv.key) + len(kv.value) + len(kv.extra) + KEY_OVERHEAD_SIZE
            self.deep = self.deep or kv.mod_revision == AFTER
        return gone

    def get(self, get: Get) -> RangeResult:
        self.deep = True
        space, limit = self.space, 0 if get.count_only else get.limit
        if get.revision > 0:
            guard_revision(space, get.revision)
            kvs, count = space.range_at(get.key, get.end, get.revision, limit=limit)
        elif self.pending:
            kvs, count = self._range(get.key, get.end, limit)
        elif get.count_only:
            kvs, count = [], space.count(get.key, get.end)
        else:
            kvs, count = space.range(get.key, get.end, limit=limit)
        if get.count_only:
            kvs = []
        elif get.keys_only:
            kvs = [msgspec.structs.replace(kv, value=b"") for kv in kvs]
        more = not get.count_only and count > len(kvs)
        return RangeResult(kvs, count, more, AFTER if self.writes else BEFORE)

    def _range(self, start: bytes, end: bytes, limit: int) -> tuple[list[KeyValue], int]:
        """The keys of a range with what was written so far, and how many there are."""
        written = {key: kv for key, kv in self.pending.items() if within(key, start, end)}
        standing, count = self.space.range(start, end, limit=limit + len(written) if limit > 0 else 0)
        for key, kv in written.items():
            count += (kv is not None) - (self.space.get(key) is not None)
        kvs = [kv for kv in standing if kv.key not in written]
        kvs += [kv for kv in written.values() if kv is not None]
        kvs.sort(key=_key)
        return kvs[:limit] if limit > 0 else kvs, count


def _key(kv: KeyValue) -> bytes:
    return kv.key


def _growth(write: KeyPut, before: KeyValue | None) -> int:
    size = len(write.value) + len(write.extra)
    if before is None:
        return size + len(write.key) + KEY_OVERHEAD_SIZE
    return size - len(before.value) - len(before.extra)


def _resolve(ground: Ground, put: Put, before: KeyValue | None) -> KeyPut:
    """A put with all that it leaves as it is filled in."""
    value, lease = put.value, put.lease
    if put.ignore_value or put.ignore_lease:
        if before is None:
            raise NotFound("the key whose value or lease is to be kept does not exist", advice="put both", key=put.key)
        value = before.value if put.ignore_value else value
        lease = before.lease if put.ignore_lease else lease
    if lease and (before is None or before.lease != lease):
        _guard_lease(ground.state, lease)
    if before is None:
        session, lock_index, extra = "", 0, b""
    else:
        session, lock_index, extra = before.session, before.lock_index, before.extra
    if put.session is not None and put.session != session:
        if put.session:
            _guard_lock(ground, put.key, wanted=put.session, holder=session)
            lock_index += 1
        session = put.session
    return KeyPut(put.key, value, lease, put.flags, session, lock_index, extra if put.extra is None else put.extra)


def _known_lease(state: State, lease_id: int) -> Lease:
    lease = state.leases.get(lease_id)
    if lease is None:
        raise LeaseNotFound(f"lease {lease_id} has ended or never was", advice="grant a new one", lease=lease_id)
    return lease


def _guard_lease(state: State, lease_id: int) -> None:
    lease = _known_lease(state, lease_id)
    if lease.attachment_count >= limits.LEASE_ATTACHMENTS_MAX:
        raise OverLimit(
            f"lease {lease_id} has too much on it", advice="use another", limit=limits.LEASE_ATTACHMENTS_MAX
        )


def _guard_lock(ground: Ground, key: bytes, *, wanted: str, holder: str) -> None:
    if wanted not in ground.state.sessions:
        raise NotFound(f"no session {wanted!r}", advice="open a new one", session=wanted)
    if holder:
        raise Conflict("another session holds the lock", advice="wait for its release", key=key, session=holder)
    until_ms = ground.space.lock_delays.get(key, 0)
    if until_ms > ground.now_ms:
        raise Conflict(
            "the lock's last holder ended without releasing it",
            advice="wait for the lock delay",
            key=key,
            until_ms=until_ms,
        )
