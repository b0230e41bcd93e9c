"""What clients of the KV service ask for: checked in etcd's order, and put into the words of the core.

etcd refuses little of a compare: a member of the union that is missing or of another kind counts as zero or empty, and
an unknown result or target as something to be true or false by itself (server/etcdserver/txn, ``applyCompare``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from townhall.face.etcd.errors import (
    BAD_SORT,
    EMPTY_KEY,
    KEY_NOT_FOUND,
    LEASE_GIVEN,
    TOO_LARGE,
    TOO_MANY_OPERATIONS,
    VALUE_GIVEN,
    Said,
)
from townhall.model import limits
from townhall.model.keys import Compare, CompareTarget, Delete, Get, Operation, Put, Relation, Transaction
from townhall.wire.etcd import kv

__all__ = ["MESSAGE_SIZE_MAX", "delete_of", "put_of", "range_checked", "sifted", "transaction_of"]

MESSAGE_SIZE_MAX: Final = 2_097_152
"""One request of an etcd client; etcd takes 1.5 MiB and allows half a MiB of framing."""
_RELATIONS: Final = {int(relation): relation for relation in Relation}
_NUMBERS: Final = {
    CompareTarget.VERSION: "version",
    CompareTarget.CREATE: "create_revision",
    CompareTarget.MOD: "mod_revision",
    CompareTarget.LEASE: "lease",
}
_TARGETS: Final = {int(target): target for target in (*_NUMBERS, CompareTarget.VALUE)}


def range_checked(request: kv.RangeRequest) -> kv.RangeRequest:
    """The request itself. Raises ``Said``."""
    if not request.key:
        raise Said(EMPTY_KEY)
    if not (0 <= request.sort_order <= 2 and 0 <= request.sort_target <= 4):
        raise Said(BAD_SORT)
    return request


def sifted(request: kv.RangeRequest) -> bool:
    """Whether all keys of the range must be looked at before it is known which are answered with."""
    return (
        request.sort_order == kv.SortOrder.DESCEND
        or request.sort_target != kv.SortTarget.KEY
        or request.min_mod_revision != 0
        or request.max_mod_revision != 0
        or request.min_create_revision != 0
        or request.max_create_revision != 0
    )


def put_of(request: kv.PutRequest) -> Put:
    """Raises ``Said``."""
    key, value, lease = request.key, request.value, request.lease
    if not key:
        raise Said(EMPTY_KEY)
    if request.ignore_value and value:
        raise Said(VALUE_GIVEN)
    if request.ignore_lease and lease:
        raise Said(LEASE_GIVEN)
    if len(key) + len(value) > limits.VALUE_SIZE_MAX:
        raise Said(TOO_LARGE)
    return Put(key, value, lease, ignore_value=request.ignore_value, ignore_lease=request.ignore_lease)


def delete_of(request: kv.DeleteRangeRequest) -> Delete:
    """Raises ``Said``."""
    if not request.key:
        raise Said(EMPTY_KEY)
    return Delete(request.key, request.range_end)


def transaction_of(request: kv.TxnRequest) -> Transaction:
    """Raises ``Said``. That no key has two fates is left to the core."""
    return _level(request, limits.TXN_OPERATIONS_MAX)


def _level(request: kv.TxnRequest, count_max: int) -> Transaction:
    count = max(len(request.compare), len(request.success), len(request.failure))
    if count > count_max:
        raise Said(TOO_MANY_OPERATIONS)
    compares = tuple([_compare(compare) for compare in request.compare])
    below = count_max - count
    return Transaction(compares, _operations(request.success, below), _operations(request.failure, below))


def _operations(operations: Sequence[kv.RequestOp], count_max: int) -> tuple[Operation, ...]:
    return tuple([_operation(operation, count_max) for operation in operations])


def _operation(operation: kv.RequestOp, count_max: int) -> Operation:
    if operation.request_put is not None:
        return put_of(operation.request_put)
    if operation.request_range is not None:
        request = range_checked(operation.request_range)
        limit = 0 if sifted(request) else max(request.limit, 0)
        revision = max(request.revision, 0)
        return Get(request.key, request.range_end, limit, count_only=request.count_only, revision=revision)
    if operation.request_delete_range is not None:
        return delete_of(operation.request_delete_range)
    if operation.request_txn is not None:
        return _level(operation.request_txn, count_max)
    raise Said(KEY_NOT_FOUND)


def _compare(compare: kv.Compare) -> Compare:
    key, end = compare.key, compare.range_end
    if not key:
        raise Said(EMPTY_KEY)
    target = _TARGETS.get(compare.target)
    relation = _RELATIONS.get(compare.result)
    if target is CompareTarget.VALUE:
        if relation is None:  # True of every value; of an absent key no compare of values is.
            return Compare(key, CompareTarget.VERSION, Relation.GREATER, 0, end)
        return Compare(key, target, relation, compare.value or b"", end)
    if target is None or relation is None:
        # Nothing is compared, so both sides are equal.
        holds = relation is None or relation is Relation.EQUAL
        return Compare(key, CompareTarget.VERSION, Relation.GREATER if holds else Relation.LESS, -1, end)
    number: int = getattr(compare, _NUMBERS[target]) or 0
    return Compare(key, target, relation, number, end)
