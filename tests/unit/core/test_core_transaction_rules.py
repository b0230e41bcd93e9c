"""Transactions that are refused whatever the state, and those that just pass."""

from __future__ import annotations

import pytest

from townhall.core.transaction_rules import Span, check, only_key, only_put, spans
from townhall.model import limits
from townhall.model.errors import InvalidField, TooLarge
from townhall.model.keys import Compare, CompareTarget, Delete, Get, Operation, Put, Relation, Transaction

KEY = Compare(b"k", CompareTarget.MOD, Relation.EQUAL, 0)


def do(*operations: Operation) -> Transaction:
    return Transaction(success=operations)


def test_spans_are_all_that_any_branch_touches() -> None:
    inner = Transaction(
        (Compare(b"c", CompareTarget.MOD, Relation.EQUAL, 0, b"d"),), (Get(b"g", b"h"),), (Put(b"p", b""),)
    )
    outer = Transaction((KEY,), (inner,), (Delete(b"x", b"y"),))
    found: list[Span] = spans(outer)
    assert found == [
        (b"k", b"", False), (b"c", b"d", False), (b"g", b"h", False), (b"p", b"", True), (b"x", b"y", True),
    ]  # fmt: skip


def test_only_put() -> None:
    put = Put(b"k", b"")
    assert only_put(do(put)) is put
    for other in (do(), do(put, put), do(Get(b"k")), Transaction((KEY,), (put,)), Transaction((), (put,), (put,))):
        assert only_put(other) is None


def test_only_key() -> None:
    put = Put(b"k", b"")
    for swap in (Transaction((KEY,), (put,), (put,)), Transaction((KEY, KEY), (put,)), Transaction((), (), (put,))):
        assert only_key(swap) == b"k"
    ranged = Compare(b"k", CompareTarget.MOD, Relation.EQUAL, 0, b"l")
    for other in (
        do(), Transaction((KEY,)), Transaction((ranged,), (put,)), Transaction((KEY,), (Put(b"other", b""),)),
        Transaction((KEY,), (put,), (Get(b"k"),)), Transaction((KEY,), (Put(b"k", b"", 7),)),
        Transaction((KEY,), (Put(b"k", b"", session="s"),)), Transaction((KEY,), (do(put),)),
    ):  # fmt: skip
        assert only_key(other) == b""


@pytest.mark.parametrize(
    ("transaction", "field"),
    [
        (do(Put(b"", b"")), "key"),
        (do(Get(b"")), "key"),
        (do(Delete(b"")), "key"),
        (Transaction((Compare(b"", CompareTarget.MOD, Relation.EQUAL, 0),)), "key"),
        (do(Put(b"k", b"v", ignore_value=True)), "value"),
        (do(Put(b"k", b"", 7, ignore_lease=True)), "lease"),
        (do(Put(b"k", b"", flags=-1)), "flags"),
        (do(Put(b"k", b"", flags=1 << 64)), "flags"),
        (do(do(Put(b"k", b"", flags=-1))), "flags"),
        (Transaction((Compare(b"k", CompareTarget.VALUE, Relation.EQUAL, 0),)), "value"),
        (Transaction((Compare(b"k", CompareTarget.SESSION, Relation.EQUAL, 0),)), "value"),
        (Transaction((Compare(b"k", CompareTarget.MOD, Relation.EQUAL, b"0"),)), "value"),
        (Transaction((Compare(b"k", 9, Relation.EQUAL, 0),)), "target"),  # type: ignore[arg-type]
        (Transaction((Compare(b"k", CompareTarget.MOD, 9, 0),)), "relation"),  # type: ignore[arg-type]
    ],
)
def test_malformed_transactions_name_the_field(transaction: Transaction, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check(transaction)
    assert caught.value.fields["field"] == field


LONG = bytes(limits.KEY_SIZE_MAX)
LARGE = bytes(limits.VALUE_SIZE_MAX)
FULL = limits.TXN_OPERATIONS_MAX


def nested(depth: int) -> Transaction:
    transaction = do(Get(b"k"))
    for _ in range(depth - 1):
        transaction = do(transaction)
    return transaction


@pytest.mark.parametrize(
    ("fits", "too_large", "limit"),
    [
        (do(Put(LONG, b"")), do(Put(LONG + b"k", b"")), limits.KEY_SIZE_MAX),
        (do(Get(LONG, LONG)), do(Get(b"k", LONG + b"k")), limits.KEY_SIZE_MAX),
        (do(Put(b"k", LARGE)), do(Put(b"k", LARGE + b"v")), limits.VALUE_SIZE_MAX),
        (do(Put(b"k", LARGE, extra=b"")), do(Put(b"k", LARGE, extra=b"x")), limits.VALUE_SIZE_MAX),
        (do(*[Get(b"k")] * FULL), do(*[Get(b"k")] * (FULL + 1)), FULL),
        (Transaction((KEY,) * FULL), Transaction((KEY,) * (FULL + 1)), FULL),
        (Transaction((), (), (Get(b"k"),) * FULL), Transaction((), (), (Get(b"k"),) * (FULL + 1)), FULL),
        (do(do(*[Get(b"k")] * (FULL - 1))), do(do(*[Get(b"k")] * FULL)), FULL),
        (nested(limits.TXN_DEPTH_MAX), nested(limits.TXN_DEPTH_MAX + 1), limits.TXN_DEPTH_MAX),
    ],
)
def test_limits(fits: Transaction, too_large: Transaction, limit: int) -> None:
    check(fits)
    with pytest.raises(TooLarge) as caught:
        check(too_large)
    assert caught.value.fields["limit"] == limit


PUT = Put(b"k", b"")
DELETED = Delete(b"a", b"z")


@pytest.mark.parametrize(
    "transaction",
    [
        do(PUT, PUT),
        Transaction(failure=(PUT, PUT)),
        do(PUT, DELETED),
        do(DELETED, PUT),
        do(PUT, Delete(b"k")),
        do(PUT, Delete(b"a", b"\0")),
        do(PUT, do(PUT)),
        do(do(PUT), do(PUT)),
        do(do(PUT), DELETED),
        do(do(DELETED), do(PUT)),
        do(do(DELETED), PUT),
        do(Transaction((), (PUT,), (PUT,)), PUT),
    ],
)
def test_a_key_has_one_fate(transaction: Transaction) -> None:
    with pytest.raises(InvalidField, match="written more than once"):
        check(transaction)


@pytest.mark.parametrize(
    "transaction",
    [
        do(Delete(b"k"), Delete(b"k"), DELETED),
        Transaction((), (PUT,), (PUT,)),
        do(Transaction((), (PUT,), (PUT,))),
        do(PUT, Delete(b"l", b"z")),
        do(PUT, Delete(b"l")),
        do(do(PUT), do(DELETED)),  # etcd holds nested puts against earlier deletes only
    ],
)
def test_what_etcd_lets_through(transaction: Transaction) -> None:
    check(transaction)
