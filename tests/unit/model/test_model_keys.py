"""The values of the keyspaces."""

from __future__ import annotations

import msgspec

from townhall.model.keys import Compare, CompareTarget, Delete, Get, KeyValue, Operation, Put, Relation, Transaction


def test_transactions_nest_and_survive_json() -> None:
    inner = Transaction(success=(Delete(b"a"),))
    outer = Transaction(
        compares=(Compare(b"a", CompareTarget.MOD, Relation.GREATER, 3),),
        success=(Put(b"a", b"1"), Get(b"a"), inner),
        failure=(Get(b"a", b"b", limit=1),),
    )
    operation: Operation = outer
    assert msgspec.json.decode(msgspec.json.encode(operation), type=Transaction) == outer


def test_a_key_value_survives_the_snapshot() -> None:
    kv = KeyValue(b"\x00\xff", b"v", 2, 5, 3, lease=9, flags=1, session="s", lock_index=2, extra=b"acl")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(kv), type=KeyValue) == kv


def test_numbers_are_those_of_etcd() -> None:
    assert [t.name for t in CompareTarget] == ["VERSION", "CREATE", "MOD", "VALUE", "LEASE", "SESSION"]
    assert [r.name for r in Relation] == ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]
