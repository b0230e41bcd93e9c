"""Records of keyspaces: read the same whether they hold puts alone or deletes among them."""

from __future__ import annotations

import msgspec
import pytest

from townhall.core.facts import KeyDeleted, KeyPut
from townhall.core.key_records import key_value, read_record
from townhall.core.keyspace import TO_THE_END, Keyspace
from townhall.model.keys import KeyValue

ONE = KeyValue(b"a", b"v", 2, 3, 2)


def test_keys_and_puts_come_as_values() -> None:
    for kind in ("keys", "events"):
        found = read_record(msgspec.msgpack.encode((kind, [ONE, ONE])))
        assert found[0] == kind
        assert [type(one) for one in found[1]] == [KeyValue, KeyValue]
        assert found[1][0] == ONE


def test_a_delete_among_them_leaves_fields() -> None:
    kind, items = read_record(memoryview(msgspec.msgpack.encode(("events", [ONE, (b"a", 4)]))))
    assert kind == "events"
    assert key_value(items[0]) == ONE
    assert items[1] == [b"a", 4]


def test_other_records_are_read_as_they_are() -> None:
    assert read_record(msgspec.msgpack.encode(("end",))) == ["end"]
    with pytest.raises(msgspec.MsgspecError):
        read_record(b"\xc1")


def test_a_space_without_order_makes_it_when_it_is_asked_for() -> None:
    space, usual = Keyspace("etcd"), Keyspace("etcd")
    space.unsort()
    for write in (
        [KeyPut(b"c", b"1"), KeyPut(b"a", b"1")], [KeyPut(b"b", b"1", 7)], [KeyDeleted(b"c")], [KeyPut(b"c", b"2")],
        [KeyDeleted(b"a", b"c")], [KeyPut(b"d", b"1")],
    ):  # fmt: skip
        space.apply(write)
        usual.apply(write)
        usual.check()
    space.sort()
    space.check()
    assert space.range(b"\0", TO_THE_END) == usual.range(b"\0", TO_THE_END)


def test_the_keys_on_leases() -> None:
    space = Keyspace("etcd")
    space.apply([KeyPut(b"a", b"1"), KeyPut(b"b", b"1", 7)])
    assert [kv.key for kv in space.leased()] == [b"b"]
