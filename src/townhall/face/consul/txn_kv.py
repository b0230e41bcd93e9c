"""Consul's transactions on keys: run against what is there, then written as one conditional transaction.

Consul's operations go in order and each sees those before it, so a key may be written and checked several times, and
the first that fails is named with its reason. Therefore they are run here over the present keys; what comes out is
one final write per key, on the condition that nothing they looked at has changed meanwhile. When it has, they are run
again (``Trial.transaction`` failing its compares).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from townhall.core.queries import Reader
from townhall.core.transaction_rules import check
from townhall.face.consul.kv_shapes import SPACE, entry, key_bytes, prefix_span
from townhall.model.errors import NotFound, TooLarge
from townhall.model.keys import Compare, CompareTarget, Delete, KeyValue, Operation, Put, Relation, Transaction

__all__ = ["READING", "VERBS", "KvOperation", "Trial", "perform", "run"]

_VALUE_SIZE_MAX = 524_288
_TREE_COMPARED_MAX = 32
FRESH = -2
"""Stands for the index that the transaction's own writes will get; no index that a client may give equals it."""
_ABSENT = -1
"""Stands for the index of a key that is not there."""


class KvOperation(msgspec.Struct, frozen=True):
    """One operation on keys."""

    verb: str
    key: str
    value: bytes = b""
    flags: int = 0
    index: int = 0
    session: str = ""


class _Refused(Exception):
    """The operation fails, and with it the transaction."""


class Trial:
    """One run of a transaction's operations over the present keys."""

    __slots__ = ("_compares", "_now_ms", "_pending", "_reader", "_revision", "_trees", "errors", "results")

    def __init__(self, reader: Reader, *, now_ms: int) -> None:
        self._reader = reader
        self._now_ms = now_ms
        self._revision = reader.space_revision(SPACE)
        self._pending: dict[bytes, KeyValue | None] = {}
        self._trees: list[tuple[bytes, bytes]] = []
        self._compares: dict[tuple[bytes, bytes], Compare] = {}
        self.results: list[tuple[KeyValue, bool]] = []
        """What is answered: keys, and whether with their value. ``FRESH`` in place of the index they will get."""
        self.errors: list[tuple[int, str]] = []
        """(operation, reason)."""

    def shown(self, revision: int) -> list[dict[str, object]]:
        """The results as Consul shows them; ``revision`` is the index that the writes got."""
        found: list[dict[str, object]] = []
        for kv, with_value in self.results:
            if kv.mod_revision == FRESH:
                created = revision if kv.create_revision == FRESH else kv.create_revision
                kv = msgspec.structs.replace(kv, mod_revision=revision, create_revision=created)  # noqa: PLW2901
            elif kv.mod_revision == _ABSENT:
                kv = msgspec.structs.replace(kv, mod_revision=0, create_revision=0)  # noqa: PLW2901
            found.append({"KV": entry(kv, value=with_value)})
        return found

    def index(self, kv: KeyValue) -> int:
        """The index of a key; that which it will get at the earliest, when this transaction writes it."""
        return self._revision + 1 if kv.mod_revision == FRESH else kv.mod_revision

    @property
    def writes(self) -> bool:
        """Whether anything is to be written."""
        return bool(self._pending or self._trees)

    def transaction(self) -> Transaction:
        """What is to be written, if nothing that was looked at has changed. Raises TooLarge, InvalidField."""
        puts = {key for key, kv in self._pending.items() if kv is not None}
        operations: list[Operation] = []
        for start, end in self._trees:
            if any(start <= key and (end == b"\0" or key < end) for key in puts):
                standing = self._reader.range(SPACE, start, end).kvs
                operations += [Delete(kv.key) for kv in standing if kv.key not in self._pending]
            else:
                operations.append(Delete(start, end))
        for key, kv in self._pending.items():
            if kv is None:
                operations.append(Delete(key))
            else:
                operations.append(Put(key, kv.value, flags=kv.flags, session=kv.session))
        made = Transaction(tuple(self._compares.values()), tuple(operations))
        check(made)
        return made

    # --- looking and writing

    def get(self, key: bytes) -> KeyValue | None:
        """The key as the operations before this one have left it."""
        if key in self._pending:
            return self._pending[key]
        for start, end in self._trees:
            if start <= key and (end == b"\0" or key < end):
                return None
        kv = self._reader.get(SPACE, key)
        revision = 0 if kv is None else kv.mod_revision
        self._compares[key, b""] = Compare(key, CompareTarget.MOD, Relation.EQUAL, revision)
        return kv

    def tree(self, prefix: bytes) -> list[KeyValue]:
        """The keys with a prefix."""
        start, end = prefix_span(prefix)
        found = {kv.key: kv for kv in self._reader.range(SPACE, start, end).kvs}
        # This finds what is written later. Deletes are found by comparing the keys one by one, as far as their number
        # allows; beyond, what was read may be as it was a moment before.
        self._compares[start, end] = Compare(start, CompareTarget.MOD, Relation.LESS, self._revision + 1, end)
        if len(found) <= _TREE_COMPARED_MAX:
            for kv in found.values():
                self._compares[kv.key, b""] = Compare(kv.key, CompareTarget.MOD, Relation.EQUAL, kv.mod_revision)
        for tree_start, tree_end in self._trees:
            found = {
                key: kv
                for key, kv in found.items()
                if not (tree_start <= key and (tree_end == b"\0" or key < tree_end))
            }
        for key, pending in self._pending.items():
            if key.startswith(prefix):
                found.pop(key, None)
                if pending is not None:
                    found[key] = pending
        return [found[key] for key in sorted(found)]

    def put(self, operation: KvOperation, before: KeyValue | None, session: str) -> KeyValue:
        """Write a key."""
        if len(operation.value) > _VALUE_SIZE_MAX:
            raise TooLarge(f"value: more than {_VALUE_SIZE_MAX} bytes", limit=_VALUE_SIZE_MAX)
        locks = before.lock_index if before is not None else 0
        if session and (before is None or before.session != session):
            locks += 1
        key = key_bytes(operation.key)
        kv = KeyValue(
            key, operation.value, before.create_revision if before else FRESH, FRESH,
            before.version + 1 if before else 1, 0, operation.flags, session, locks,
        )  # fmt: skip
        self._pending[key] = kv
        return kv

    def remove(self, key: bytes) -> None:
        """Delete a key."""
        self._pending[key] = None

    def remove_tree(self, prefix: bytes) -> None:
        """Delete the keys with a prefix."""
        self._pending = {key: kv for key, kv in self._pending.items() if not key.startswith(prefix)}
        self._trees.append(prefix_span(prefix))

    def lock_free(self, key: bytes) -> bool:
        """Whether no lock delay stands in the way."""
        return self._reader.lock_delay_until(SPACE, key) <= self._now_ms

    def knows_session(self, session: str) -> bool:
        """Whether there is such a session."""
        try:
            self._reader.session(session)
        except NotFound:
            return False
        return True


def _quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _set(trial: Trial, op: KvOperation) -> None:
    before = trial.get(key_bytes(op.key))
    trial.results.append((trial.put(op, before, before.session if before else ""), False))


def _cas(trial: Trial, op: KvOperation) -> None:
    before = trial.get(key_bytes(op.key))
    if op.index != (before.mod_revision if before else 0):
        raise _Refused(f"failed to set key {_quoted(op.key)}, index is stale")
    trial.results.append((trial.put(op, before, before.session if before else ""), False))


def _lock(trial: Trial, op: KvOperation) -> None:
    key = key_bytes(op.key)
    if not op.session:
        raise _Refused("missing session")
    if not trial.knows_session(op.session):
        raise _Refused(f"invalid session {_quoted(op.session)}")
    before = trial.get(key)
    holder = before.session if before else ""
    if (holder and holder != op.session) or (not holder and not trial.lock_free(key)):
        raise _Refused(f"failed to lock key {_quoted(op.key)}, lock is already held")
    trial.results.append((trial.put(op, before, op.session), False))


def _unlock(trial: Trial, op: KvOperation) -> None:
    if not op.session:
        raise _Refused("missing session")
    before = trial.get(key_bytes(op.key))
    if before is None or before.session != op.session:
        raise _Refused(f"failed to unlock key {_quoted(op.key)}, lock isn't held, or is held by another session")
    trial.results.append((trial.put(op, before, ""), False))


def _get(trial: Trial, op: KvOperation) -> None:
    kv = trial.get(key_bytes(op.key))
    if kv is None:
        raise _Refused(f"key {_quoted(op.key)} doesn't exist")
    trial.results.append((kv, True))


def _get_or_empty(trial: Trial, op: KvOperation) -> None:
    key = key_bytes(op.key)
    kv = trial.get(key)
    trial.results.append((kv or KeyValue(key, b"", _ABSENT, _ABSENT, 0), True))


def _get_tree(trial: Trial, op: KvOperation) -> None:
    trial.results += [(kv, True) for kv in trial.tree(key_bytes(op.key))]


def _check_index(trial: Trial, op: KvOperation) -> None:
    kv = trial.get(key_bytes(op.key))
    if kv is None:
        raise _Refused(f"failed to check index, key {_quoted(op.key)} doesn't exist")
    if kv.mod_revision != op.index:
        raise _Refused(
            f"failed index check for key {_quoted(op.key)}, current modify index {trial.index(kv)} != {op.index}"
        )
    trial.results.append((kv, False))


def _check_session(trial: Trial, op: KvOperation) -> None:
    kv = trial.get(key_bytes(op.key))
    if kv is None:
        raise _Refused(f"failed to check session, key {_quoted(op.key)} doesn't exist")
    if kv.session != op.session:
        raise _Refused(
            f"failed session check for key {_quoted(op.key)}, current session {_quoted(kv.session)} "
            f"!= {_quoted(op.session)}"
        )
    trial.results.append((kv, False))


def _check_not_exists(trial: Trial, op: KvOperation) -> None:
    if trial.get(key_bytes(op.key)) is not None:
        raise _Refused(f"key {_quoted(op.key)} exists")


def _delete(trial: Trial, op: KvOperation) -> None:
    trial.get(key_bytes(op.key))
    trial.remove(key_bytes(op.key))


def _delete_tree(trial: Trial, op: KvOperation) -> None:
    trial.remove_tree(key_bytes(op.key))


def _delete_cas(trial: Trial, op: KvOperation) -> None:
    kv = trial.get(key_bytes(op.key))
    if kv is None:
        return
    if kv.mod_revision != op.index:
        raise _Refused(f"failed to delete key {_quoted(op.key)}, index is stale")
    trial.remove(kv.key)


VERBS: Mapping[str, Callable[[Trial, KvOperation], None]] = {
    "set": _set, "cas": _cas, "lock": _lock, "unlock": _unlock, "get": _get, "get-or-empty": _get_or_empty,
    "get-tree": _get_tree, "check-index": _check_index, "check-session": _check_session,
    "check-not-exists": _check_not_exists, "delete": _delete, "delete-tree": _delete_tree, "delete-cas": _delete_cas,
}  # fmt: skip

READING = frozenset({"get", "get-or-empty", "get-tree", "check-index", "check-session", "check-not-exists"})


def run(reader: Reader, operations: Sequence[KvOperation], *, now_ms: int) -> Trial:
    """Run the operations over the present keys; those that fail are in ``errors``."""
    trial = Trial(reader, now_ms=now_ms)
    for index, operation in enumerate(operations):
        refusal = perform(trial, operation)
        if refusal:
            trial.errors.append((index, refusal))
    return trial


def perform(trial: Trial, operation: KvOperation) -> str:
    """Run one operation; why it fails, "" when it does not."""
    try:
        VERBS[operation.verb](trial, operation)
    except _Refused as refused:
        return str(refused)
    return ""
