"""Reads of the keyspaces."""

from __future__ import annotations

import pytest
from core_keys_world import SPACE, KeysWorld

from townhall.core import query_keys
from townhall.core.commands import CompactSpace
from townhall.model.errors import Compacted, InvalidField
from townhall.model.keys import Delete, Put


@pytest.fixture
def world() -> KeysWorld:
    world = KeysWorld()
    world.put(b"a", b"1")
    world.put(b"b", b"2")
    world.put(b"a", b"3")
    world.do(Delete(b"b"), Put(b"c", b"4"))
    return world  # revision 5


def test_a_space_that_never_was_is_empty_and_at_its_first_revision(world: KeysWorld) -> None:
    state = world.state
    assert query_keys.space_compacted(state, "absent") == 0
    assert query_keys.space_size(state, "absent") == 0
    assert query_keys.get(state, "absent", b"k") is None
    found = query_keys.range_keys(state, "absent", b"\0", b"\0")
    assert (list(found.kvs), found.count, found.more, found.revision) == ([], 0, False, 1)
    assert list(query_keys.key_events(state, "absent", b"\0", b"\0", 0)) == []
    assert query_keys.lock_delay_until(state, "absent", b"k") == 0
    assert "absent" not in state.spaces


def test_get_now_and_then(world: KeysWorld) -> None:
    def value(key: bytes, revision: int) -> bytes | None:
        kv = query_keys.get(world.state, SPACE, key, revision=revision)
        return None if kv is None else kv.value

    assert [value(b"a", revision) for revision in range(6)] == [b"3", None, b"1", b"1", b"3", b"3"]
    assert [value(b"b", revision) for revision in range(6)] == [None, None, None, b"2", b"2", None]
    assert value(b"a", -1) == b"3"


def test_ranges_tell_the_count_and_whether_there_is_more(world: KeysWorld) -> None:
    found = query_keys.range_keys(world.state, SPACE, b"a", b"\0", limit=1)
    assert ([kv.key for kv in found.kvs], found.count, found.more, found.revision) == ([b"a"], 2, True, 5)
    then = query_keys.range_keys(world.state, SPACE, b"a", b"\0", revision=3)
    assert ([(kv.key, kv.value) for kv in then.kvs], then.count, then.more) == ([(b"a", b"1"), (b"b", b"2")], 2, False)
    assert then.revision == 5


def test_revisions_of_the_future_and_of_the_forgotten_past(world: KeysWorld) -> None:
    with pytest.raises(InvalidField, match="revision"):
        query_keys.get(world.state, SPACE, b"a", revision=6)
    with pytest.raises(InvalidField, match="revision"):
        query_keys.range_keys(world.state, SPACE, b"a", b"", revision=6)
    world.run(CompactSpace(space=SPACE, revision=4))
    assert query_keys.space_compacted(world.state, SPACE) == 4
    with pytest.raises(Compacted) as caught:
        query_keys.get(world.state, SPACE, b"a", revision=3)
    assert caught.value.fields["oldest"] == 4
    kv = query_keys.get(world.state, SPACE, b"b", revision=4)
    assert kv is not None
    with pytest.raises(Compacted) as caught:
        query_keys.key_events(world.state, SPACE, b"a", b"", 2)
    assert caught.value.fields["oldest"] == 4
    assert [event.revision for event in query_keys.key_events(world.state, SPACE, b"\0", b"\0", 3)] == [4, 5, 5]


def test_events_come_in_whole_revisions_with_what_was_before(world: KeysWorld) -> None:
    def events(after: int, limit: int = 0) -> list[tuple[int, bytes, bool, bool]]:
        found = query_keys.key_events(world.state, SPACE, b"\0", b"\0", after, limit=limit)
        return [(event.revision, event.key, event.before is None, event.after is None) for event in found]

    whole = [
        (2, b"a", True, False), (3, b"b", True, False), (4, b"a", False, False), (5, b"b", False, True), (5, b"c", True, False),
    ]  # fmt: skip
    assert events(0) == events(1) == whole
    assert events(3) == whole[2:]
    assert events(1, limit=2) == whole[:2]
    assert events(3, limit=2) == whole[2:]
    assert events(5) == events(99) == []


def test_sizes(world: KeysWorld) -> None:
    before = query_keys.space_size(world.state, SPACE)
    world.put(b"a", bytes(10_000))
    assert query_keys.space_size(world.state, SPACE) > before + 10_000
