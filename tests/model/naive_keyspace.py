"""A keyspace in obvious code: every revision is a whole dictionary, every question a walk over all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from townhall.core.commands import RangeResult, TransactResult
from townhall.core.facts import KeyDeleted, KeyPut
from townhall.model.keys import (
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyEvent,
    KeyValue,
    Put,
    Relation,
    Transaction,
)  # fmt: skip

Keys = dict[bytes, KeyValue]


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    if end == b"":
        return key == start
    if end == b"\0":
        return key >= start
    return start <= key < end


class NaiveKeyspace:
    def __init__(self, history_count_max: int) -> None:
        self.history_count_max = history_count_max
        self.states: list[Keys] = [{}, {}]  # by revision; the first write is 2
        self.log: list[KeyEvent] = []
        self.compacted = 0

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    @property
    def now(self) -> Keys:
        return self.states[-1]

    # --- reading

    def range(self, start: bytes, end: bytes, revision: int) -> tuple[list[KeyValue], int]:
        keys = self.states[revision]
        kvs = [keys[key] for key in sorted(keys) if inside(key, start, end)]
        return kvs, len(kvs)

    def events(self, start: bytes, end: bytes, after: int) -> list[KeyEvent]:
        return [event for event in self.log if event.revision > after and inside(event.key, start, end)]

    def on_lease(self, lease: int) -> set[bytes]:
        return {key for key, kv in self.now.items() if kv.lease == lease}

    def locked_by(self, session: str) -> list[bytes]:
        return sorted(key for key, kv in self.now.items() if kv.session == session)

    # --- writing

    def commit(self, keys: Keys, events: Sequence[KeyEvent]) -> None:
        if not events:
            return
        self.states.append(keys)
        self.log += events
        oldest = self.revision - self.history_count_max + 1
        if oldest > 2:
            self.compacted = max(self.compacted, oldest)

    def compact(self, revision: int) -> None:
        self.compacted = max(self.compacted, revision)

    def write(self, writes: Iterable[KeyPut | KeyDeleted]) -> None:
        draft = _Draft(self)
        for write in writes:
            if isinstance(write, KeyPut):
                draft.put(write)
            else:
                draft.delete(write.key, write.end)
        self.commit(draft.keys, draft.events)

    def delete_all(self, keys: Iterable[bytes]) -> None:
        self.write([KeyDeleted(key) for key in keys])

    def release_all(self, keys: Iterable[bytes]) -> None:
        found = [self.now[key] for key in keys]
        self.write([KeyPut(kv.key, kv.value, kv.lease, kv.flags, "", kv.lock_index, kv.extra) for kv in found])

    def transact(self, transaction: Transaction) -> TransactResult:
        draft = _Draft(self)
        branch = self._run(transaction, draft)
        self.commit(draft.keys, draft.events)
        return self._stamp(branch)

    def _run(self, transaction: Transaction, draft: _Draft) -> TransactResult:
        succeeded = all(self._holds(compare) for compare in transaction.compares)
        responses: list[object] = []
        for op in transaction.success if succeeded else transaction.failure:
            if isinstance(op, Put):
                responses.append(draft.put(draft.fill_in(op)))
            elif isinstance(op, Delete):
                responses.append(draft.delete(op.key, op.end))
            elif isinstance(op, Get):
                responses.append(self._get(op, draft))
            else:
                responses.append(self._run(op, draft))
        return TransactResult(succeeded, tuple(responses), 0)

    def _stamp(self, result: TransactResult) -> TransactResult:
        responses = [self._stamp(item) if isinstance(item, TransactResult) else item for item in result.responses]
        return TransactResult(result.succeeded, tuple(responses), self.revision)

    def _get(self, get: Get, draft: _Draft) -> RangeResult:
        keys = self.states[get.revision] if get.revision else draft.keys
        kvs = [keys[key] for key in sorted(keys) if inside(key, get.key, get.end)]
        count = len(kvs)
        revision = self.revision + 1 if draft.events else self.revision
        if get.count_only:
            return RangeResult([], count, False, revision)
        if get.limit:
            kvs = kvs[: get.limit]
        more = count > len(kvs)
        if get.keys_only:
            kvs = [_without_value(kv) for kv in kvs]
        return RangeResult(kvs, count, more, revision)

    def _holds(self, compare: Compare) -> bool:
        kvs = [self.now[key] for key in sorted(self.now) if inside(key, compare.key, compare.end)]
        if not kvs:
            return compare.target is not CompareTarget.VALUE and _true(None, compare)
        return all(_true(kv, compare) for kv in kvs)


class _Draft:
    def __init__(self, space: NaiveKeyspace) -> None:
        self.keys: Keys = dict(space.now)
        self.events: list[KeyEvent] = []
        self.revision = space.revision + 1

    def fill_in(self, put: Put) -> KeyPut:
        old = self.keys.get(put.key)
        value = old.value if put.ignore_value and old else put.value
        lease = old.lease if put.ignore_lease and old else put.lease
        session = old.session if old else ""
        lock_index = old.lock_index if old else 0
        if put.session is not None:
            lock_index += bool(put.session) and put.session != session
            session = put.session
        extra = put.extra if put.extra is not None else old.extra if old else b""
        return KeyPut(put.key, value, lease, put.flags, session, lock_index, extra)

    def put(self, write: KeyPut) -> KeyValue | None:
        old = self.keys.get(write.key)
        new = KeyValue(
            key=write.key,
            value=write.value,
            create_revision=old.create_revision if old else self.revision,
            mod_revision=self.revision,
            version=old.version + 1 if old else 1,
            lease=write.lease,
            flags=write.flags,
            session=write.session,
            lock_index=write.lock_index,
            extra=write.extra,
        )
        self.keys[write.key] = new
        self.events.append(KeyEvent(self.revision, write.key, new, old))
        return old

    def delete(self, start: bytes, end: bytes) -> tuple[KeyValue, ...]:
        gone = [self.keys[key] for key in sorted(self.keys) if inside(key, start, end)]
        for kv in gone:
            del self.keys[kv.key]
            self.events.append(KeyEvent(self.revision, kv.key, None, kv))
        return tuple(gone)


def _without_value(kv: KeyValue) -> KeyValue:
    return KeyValue(
        kv.key,
        b"",
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        kv.lease,
        kv.flags,
        kv.session,
        kv.lock_index,
        kv.extra,
    )


_FOUND: dict[CompareTarget, Callable[[KeyValue], Any]] = {
    CompareTarget.VERSION: lambda kv: kv.version,
    CompareTarget.CREATE: lambda kv: kv.create_revision,
    CompareTarget.MOD: lambda kv: kv.mod_revision,
    CompareTarget.VALUE: lambda kv: kv.value,
    CompareTarget.LEASE: lambda kv: kv.lease,
    CompareTarget.SESSION: lambda kv: kv.session.encode(),
}
_ABSENT = KeyValue(b"", b"", 0, 0, 0)


def _true(kv: KeyValue | None, compare: Compare) -> bool:
    found = _FOUND[compare.target](kv or _ABSENT)
    outcome: dict[Relation, bool] = {
        Relation.EQUAL: found == compare.value,
        Relation.NOT_EQUAL: found != compare.value,
        Relation.GREATER: found > compare.value,
        Relation.LESS: found < compare.value,
    }
    return outcome[compare.relation]
