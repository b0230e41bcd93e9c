"""What a transaction may look like, whatever the state: sizes, counts, depth, and no two fates for one key."""

from __future__ import annotations

from collections.abc import Sequence

from townhall.core.keyspace import within
from townhall.model import limits
from townhall.model.errors import InvalidField, TooLarge
from townhall.model.keys import Compare, CompareTarget, Delete, Get, Operation, Put, Relation, Transaction

__all__ = ["Span", "check", "only_key", "only_put", "puts", "spans"]

_FLAGS_MAX = (1 << 64) - 1
_TEXTUAL = (CompareTarget.VALUE, CompareTarget.SESSION)


Span = tuple[bytes, bytes, bool]
"""Keys that a transaction may touch: the first, the one behind the last (b"": only the first), whether it may write."""


def spans(transaction: Transaction) -> list[Span]:
    """All that the transaction compares, reads and writes, in whichever branch."""
    found = [(compare.key, compare.end, False) for compare in transaction.compares]
    for operations in (transaction.success, transaction.failure):
        for op in operations:
            if isinstance(op, Put):
                found.append((op.key, b"", True))
            elif isinstance(op, Transaction):
                found += spans(op)
            else:
                found.append((op.key, op.end, type(op) is Delete))
    return found


def only_put(transaction: Transaction) -> Put | None:
    """The put that is all of the transaction: nearly every write is one, and it takes the short way everywhere."""
    if len(transaction.success) == 1 and not transaction.compares and not transaction.failure:
        op = transaction.success[0]
        if type(op) is Put:
            return op
    return None


def only_key(transaction: Transaction) -> bytes:
    """The one key that a transaction compares and puts, whichever branch it takes, on no lease and for no session: a
    compare and swap, as nearly all are that are more than a put. Empty for any other.
    """
    keys = [compare.key for compare in transaction.compares if not compare.end]
    if len(keys) < len(transaction.compares):
        return b""
    written = len(keys)
    for operations in (transaction.success, transaction.failure):
        for op in operations:
            if type(op) is not Put or op.lease or op.session:
                return b""
            keys.append(op.key)
    return keys[0] if len(keys) > written and keys.count(keys[0]) == len(keys) else b""


def puts(transaction: Transaction) -> bool:
    """Whether any branch, however deep, puts a key."""
    for operations in (transaction.success, transaction.failure):
        if any(isinstance(op, Put) or (isinstance(op, Transaction) and puts(op)) for op in operations):
            return True
    return False


def check(transaction: Transaction | Put) -> None:
    """Raise Misuse (InvalidField, TooLarge) unless the transaction, or the put that is all of it, is well formed.

    Compares, success and failure may each have ``TXN_OPERATIONS_MAX`` members; what one level uses of that is not
    left for the levels below it (as in etcd).
    """
    if isinstance(transaction, Put):
        if not _is_plain(transaction):
            _check_put(transaction)
        return
    _check_level(transaction, limits.TXN_OPERATIONS_MAX, 1)
    for operations in (transaction.success, transaction.failure):
        if len(operations) > 1 or (operations and type(operations[0]) is Transaction):
            _fates(operations)


def _check_level(transaction: Transaction, count_max: int, depth: int) -> None:
    count = max(len(transaction.compares), len(transaction.success), len(transaction.failure))
    if count > count_max:
        raise TooLarge(
            f"too many compares or operations in one transaction, at most {limits.TXN_OPERATIONS_MAX}",
            limit=limits.TXN_OPERATIONS_MAX,
        )
    if depth > limits.TXN_DEPTH_MAX:
        raise TooLarge(f"transactions nest more than {limits.TXN_DEPTH_MAX} deep", limit=limits.TXN_DEPTH_MAX)
    for compare in transaction.compares:
        _check_compare(compare)
    for operations in (transaction.success, transaction.failure):
        for op in operations:
            if isinstance(op, Put):
                if not _is_plain(op):
                    _check_put(op)
            elif isinstance(op, Transaction):
                _check_level(op, count_max - count, depth + 1)
            else:
                _check_keys(op)


def _check_key(key: bytes, field: str = "key") -> None:
    if not key:
        raise InvalidField(field, "must not be empty")
    if len(key) > limits.KEY_SIZE_MAX:
        raise TooLarge(f"{field}: longer than {limits.KEY_SIZE_MAX} bytes", field=field, limit=limits.KEY_SIZE_MAX)


def _check_keys(op: Compare | Get | Delete) -> None:
    if not 0 < len(op.key) <= limits.KEY_SIZE_MAX:
        _check_key(op.key)
    if op.end:
        _check_key(op.end, "end")


def _check_compare(compare: Compare) -> None:
    _check_keys(compare)
    if not isinstance(compare.relation, Relation):
        raise InvalidField("relation", f"{compare.relation!r} is not a relation")
    if not isinstance(compare.target, CompareTarget):
        raise InvalidField("target", f"{compare.target!r} is nothing to compare")
    if isinstance(compare.value, bytes) != (compare.target in _TEXTUAL):
        raise InvalidField("value", f"does not fit a compare of {compare.target.name}")


def _is_plain(put: Put) -> bool:
    """Whether a look is enough: a key and a value within their limits, and nothing else."""
    return (
        0 < len(put.key) <= limits.KEY_SIZE_MAX
        and len(put.value) <= limits.VALUE_SIZE_MAX
        and not (put.flags or put.ignore_value or put.ignore_lease)
        and put.extra is None
    )


def _check_put(put: Put) -> None:
    _check_key(put.key)
    size = len(put.value) + (len(put.extra) if put.extra is not None else 0)
    if size > limits.VALUE_SIZE_MAX:
        raise TooLarge(
            f"value: {size} bytes, at most {limits.VALUE_SIZE_MAX}", field="value", limit=limits.VALUE_SIZE_MAX
        )
    if put.ignore_value and put.value:
        raise InvalidField("value", "is given, although the present one is to be kept")
    if put.ignore_lease and put.lease:
        raise InvalidField("lease", "is given, although the present one is to be kept")
    if not 0 <= put.flags <= _FLAGS_MAX:
        raise InvalidField("flags", f"{put.flags} does not fit 64 bits without sign")


def _fates(operations: Sequence[Operation]) -> tuple[set[bytes], list[tuple[bytes, bytes]]]:
    """Keys put and ranges deleted by these operations. Raises InvalidField when a key is put twice or put and deleted.

    This is etcd's rule, with its order: a nested transaction's puts are held against the deletes of its own level and
    of the nested ones before it, and its two branches never against each other.
    """
    deleted = [(op.key, op.end) for op in operations if isinstance(op, Delete)]
    put: set[bytes] = set()
    for op in operations:
        if not isinstance(op, Transaction):
            continue
        success_put, success_deleted = _fates(op.success)
        failure_put, failure_deleted = _fates(op.failure)
        for key in success_put | failure_put:
            _claim(key, put, deleted)
        put |= success_put | failure_put
        deleted += success_deleted + failure_deleted
    for op in operations:
        if isinstance(op, Put):
            _claim(op.key, put, deleted)
            put.add(op.key)
    return put, deleted


def _claim(key: bytes, put: set[bytes], deleted: list[tuple[bytes, bytes]]) -> None:
    if key in put or any(within(key, start, end) for start, end in deleted):
        raise InvalidField(
            "operations",
            f"key {key.decode(errors='backslashreplace')!r} is written more than once",
            advice="use one write per key and transaction",
        )
