"""Indexes of keys and ranges, prefixes, and how a key is shown."""

from __future__ import annotations

import pytest
from consul_kv_world import ConsulWorld
from hypothesis import given
from hypothesis import strategies as st

from townhall.core.commands import CompactSpace, Transact
from townhall.face.consul import kv
from townhall.face.consul.kv_shapes import (
    SPACE,
    changed_since,
    cut_keys,
    entry,
    key_bytes,
    key_text,
    prefix_span,
    range_index,
)
from townhall.model.errors import TownhallError
from townhall.model.keys import Delete, KeyValue, Operation, Put, Transaction


@pytest.fixture
def world() -> ConsulWorld:
    return ConsulWorld(kv.routes)


def do(world: ConsulWorld, *operations: Operation) -> int:
    world.run(Transact(space=SPACE, transaction=Transaction(success=operations)))
    return world.reader().space_revision(SPACE)


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_a_span_holds_what_begins_with_its_prefix(prefix: bytes, rest: bytes) -> None:
    start, end = prefix_span(prefix)
    for key in (prefix + rest, rest):
        held = start <= key and (end == b"\0" or key < end)
        if key and key[:1] != b"\0":
            assert held is key.startswith(prefix)


def test_the_index_of_a_range_follows_its_last_write_or_delete(world: ConsulWorld) -> None:
    start, end = prefix_span(b"d/")

    def index() -> int:
        reader = world.reader()
        return range_index(reader, start, end, reader.range(SPACE, start, end).kvs)

    assert index() == world.reader().space_revision(SPACE)
    do(world, Put(b"d/a", b"1"))
    written = do(world, Put(b"d/b", b"1"))
    do(world, Put(b"e", b"1"))
    assert index() == written
    deleted = do(world, Delete(b"d/b"))
    do(world, Put(b"e", b"2"))
    assert index() == deleted
    last = world.reader().space_revision(SPACE)
    world.run(CompactSpace(space=SPACE, revision=last))
    assert deleted <= index() <= last, "what is forgotten may count as later, never as earlier"
    gone = do(world, Delete(b"d/a"))
    assert index() == gone


def test_changes_of_what_is_not_there(world: ConsulWorld) -> None:
    do(world, Put(b"other", b"1"))
    index = world.reader().space_revision(SPACE)
    assert not changed_since(world.reader(), b"a", b"", index)
    do(world, Put(b"other", b"2"))
    assert not changed_since(world.reader(), b"a", b"", index)
    do(world, Put(b"a", b"1"))
    do(world, Delete(b"a"))
    assert changed_since(world.reader(), b"a", b"", index)
    assert not changed_since(world.reader(), b"a", b"", 10_000)
    world.run(CompactSpace(space=SPACE, revision=world.reader().space_revision(SPACE)))
    assert changed_since(world.reader(), b"a", b"", 1), "not known any more"


def test_how_a_locked_key_is_shown() -> None:
    shown = entry(KeyValue(b"k", b"", 2, 3, 1, flags=5, session="s", lock_index=4))
    assert shown == {
        "LockIndex": 4, "Key": "k", "Flags": 5, "Value": None, "Session": "s", "CreateIndex": 2, "ModifyIndex": 3,
    }  # fmt: skip


def test_keys_as_text_and_bytes() -> None:
    assert key_bytes("é\udcff") == b"\xc3\xa9\xff"
    assert key_text(b"\xc3\xa9\xff") == "é\ufffd"
    with pytest.raises(TownhallError):
        key_bytes("x" * 5_000)
    with pytest.raises(TownhallError):
        key_bytes("\ud800")


def test_cutting_at_a_separator_of_several_characters() -> None:
    keys = [b"p::a::1", b"p::a::2", b"p::b"]
    assert cut_keys(keys, b"p::", b"::") == ["p::a::", "p::b"]
    assert cut_keys(keys, b"", b"") == ["p::a::1", "p::a::2", "p::b"]
