"""A keyspace by itself: order, revisions, history, limits on it, snapshots."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from townhall.core.facts import KeyDeleted, KeyPut
from townhall.core.history import KEY_OVERHEAD_SIZE
from townhall.core.keyspace import TO_THE_END, Keyspace, within
from townhall.model import limits

EVERYTHING = (b"\0", TO_THE_END)


def filled(*keys: bytes) -> Keyspace:
    space = Keyspace("etcd")
    for key in keys:
        space.apply([KeyPut(key, key)])
    return space


def keys_at(space: Keyspace, revision: int) -> list[bytes]:
    return [kv.key for kv in space.range_at(*EVERYTHING, revision)[0]]


def test_the_first_write_is_revision_two_and_each_write_takes_one() -> None:
    space = Keyspace("etcd")
    assert space.revision == 1
    (event,) = space.apply([KeyPut(b"k", b"v")])
    assert event.after is not None
    assert (event.after.create_revision, event.after.mod_revision, event.after.version) == (2, 2, 1)
    (event,) = space.apply([KeyPut(b"k", b"w")])
    assert event.after is not None
    assert (event.after.create_revision, event.after.mod_revision, event.after.version) == (2, 3, 2)
    assert event.before == space.get_at(b"k", 2)
    space.check()


def test_a_delete_of_nothing_takes_no_revision_and_a_key_made_anew_starts_over() -> None:
    space = filled(b"k")
    assert space.apply([KeyDeleted(b"absent")]) == ()
    assert space.apply([KeyDeleted(b"l", b"z")]) == ()
    assert space.revision == 2
    space.apply([KeyDeleted(b"k")])
    space.apply([KeyPut(b"k", b"again")])
    kv = space.get(b"k")
    assert kv is not None
    assert (kv.create_revision, kv.version) == (4, 1)
    space.check()


def test_the_writes_of_a_transaction_share_a_revision_and_keep_their_order() -> None:
    space = filled(b"a", b"b")
    events = space.apply([KeyPut(b"z", b""), KeyDeleted(b"a", b"c"), KeyPut(b"y", b""), KeyDeleted(b"y")])
    assert [(event.revision, event.key, event.after is None) for event in events] == [
        (4, b"z", False), (4, b"a", True), (4, b"b", True), (4, b"y", False), (4, b"y", True),
    ]  # fmt: skip
    assert space.events(*EVERYTHING, 3) == list(events)
    assert [event.after is None for event in space.events(b"y", b"", 3)] == [False, True]
    assert keys_at(space, 3) == [b"a", b"b"]
    assert keys_at(space, 4) == [b"z"]
    space.check()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (b"b", b"", [b"b"]),
        (b"bb", b"", []),
        (b"b", b"d", [b"b", b"c"]),
        (b"b", b"b", []),
        (b"d", b"a", []),
        (b"c", TO_THE_END, [b"c", b"d", b"\xff"]),
        (b"\0", TO_THE_END, [b"a", b"b", b"c", b"d", b"\xff"]),
    ],
)
def test_ranges(start: bytes, end: bytes, expected: list[bytes]) -> None:
    space = filled(b"c", b"\xff", b"a", b"d", b"b")
    kvs, count = space.range(start, end)
    assert [kv.key for kv in kvs] == expected
    assert count == space.count(start, end) == len(expected)
    assert [key for key in (b"a", b"b", b"c", b"d", b"\xff") if within(key, start, end)] == expected
    kvs, count = space.range(start, end, limit=1)
    assert [kv.key for kv in kvs] == expected[:1]
    assert count == len(expected)
    assert space.events(start, end, 1) == [event for event in space.events(*EVERYTHING, 1) if event.key in expected]


def test_a_page_at_an_old_revision_is_the_same_both_ways() -> None:
    keys = [b"%03d" % number for number in range(300)]
    space = filled(*keys)
    then = space.revision
    for key in keys[::3]:
        space.apply([KeyDeleted(key)])
    space.apply([KeyPut(b"new", b"")])
    space.apply([KeyPut(keys[1], b"changed")])
    near = space.range_at(b"0", b"1", then, limit=20)  # undoes the events since
    assert ([kv.key for kv in near[0]], near[1]) == (keys[:20], 100)
    assert space.range_at(b"00", b"01", then) == space._range_undone(b"00", b"01", then, 0)  # looks at ten keys
    assert space.range_at(b"299", b"", then)[1] == 1


def test_a_watcher_far_behind_on_few_keys_gets_its_events_in_order() -> None:
    space = filled(*[b"%04d" % number for number in range(1_000)])
    space.apply([KeyPut(b"w/2", b"1"), KeyPut(b"other", b""), KeyPut(b"w/1", b"1")])
    for number in range(1_000):
        space.apply([KeyPut(b"%04d" % number, b"")])
    space.apply([KeyDeleted(b"w/1")])
    events = space.events(b"w/", b"w0", 1)
    assert [(event.revision, event.key) for event in events] == [(1002, b"w/2"), (1002, b"w/1"), (2003, b"w/1")]
    assert space.events(b"w/", b"w0", 1, limit=1) == events[:2]  # whole revisions
    assert space.events(b"w/", b"w0", 1002, limit=1) == events[2:]
    assert space.events(b"w/1", b"", 1) == events[1:]
    assert space.events(*EVERYTHING, 2003) == space.events(*EVERYTHING, 9_999) == []


def test_compaction_keeps_what_stands_at_its_revision() -> None:
    space = filled(b"a", b"b")
    space.apply([KeyPut(b"a", b"2")])
    space.apply([KeyDeleted(b"b")])
    space.compact(4)
    assert space.compacted == 4
    assert keys_at(space, 4) == [b"a", b"b"]
    assert [event.revision for event in space.events(*EVERYTHING, 3)] == [4, 5]
    space.compact(3)  # never goes back
    assert space.compacted == 4
    space.compact(99)
    assert space.compacted == space.revision == 5
    assert keys_at(space, 5) == [b"a"]
    space.check()


def test_the_history_is_limited_in_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEY_HISTORY_COUNT_MAX", 10)
    space = Keyspace("etcd")
    for number in range(2, 30):
        space.apply([KeyPut(b"k%d" % (number % 3), b"")])
        space.check()
        assert space.compacted == (0 if number < 12 else number - 9)
        assert len(space.events(*EVERYTHING, max(space.compacted - 1, 0))) == min(number - 1, 10)


def test_the_history_is_limited_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEY_HISTORY_SIZE_MAX", 10_000)
    space = Keyspace("etcd")
    for number in range(100):
        space.apply([KeyPut(b"k", bytes(1_000))])
        assert space.size - space.live_size <= 10_000 + 2_000 or number < 2
    space.check()
    assert space.revision - space.compacted < 10
    assert space.live_size == 1_001 + KEY_OVERHEAD_SIZE


def test_a_large_compaction_is_spread_over_later_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEY_PURGE_COUNT_MAX", 100)
    monkeypatch.setattr(limits, "KEY_PURGE_STEP_COUNT", 10)
    space = filled(*[b"%d" % number for number in range(150)])
    before = space.size
    space.compact(space.revision)
    assert space.compacted == space.revision
    first = space.size
    assert first < before
    for _ in range(5):
        space.apply([KeyDeleted(b"0")])
        space.apply([KeyPut(b"0", b"")])
    assert space.size < first
    space.check()
    assert space._history.first == space.compacted


def test_locks_are_known_by_session() -> None:
    space = Keyspace("consul")
    space.apply([KeyPut(b"b", b"", session="s"), KeyPut(b"a", b"", session="s"), KeyPut(b"c", b"", session="t")])
    assert space.locked_by("s") == [b"a", b"b"]
    space.apply([KeyPut(b"a", b"", session="t"), KeyDeleted(b"b")])
    assert (space.locked_by("s"), space.locked_by("t")) == ([], [b"a", b"c"])
    space.check()


def test_lock_delays_are_dropped_when_they_have_passed() -> None:
    space = Keyspace("consul")
    space.delay_locks([b"a", b"b"], until_ms=100, now_ms=50)
    space.delay_locks([b"b"], until_ms=80, now_ms=50)
    assert space.lock_delays == {b"a": 100, b"b": 100}
    space.delay_locks([b"c"], until_ms=300, now_ms=200)
    assert space.lock_delays == {b"c": 300}


def thawed(space: Keyspace) -> Keyspace:
    records = [msgspec.msgpack.decode(msgspec.msgpack.encode(record)) for record in space.dump()]
    assert records[-1] == ["end"]
    rest = iter([*records, "the next section"])
    loaded = Keyspace.load(rest)
    assert list(rest) == ["the next section"]
    loaded.check()
    return loaded


def test_a_snapshot_holds_keys_and_history() -> None:
    space = filled(b"a", b"b", b"c")
    space.apply([KeyPut(b"a", b"2", 0, 5, "s", 1, b"acl"), KeyDeleted(b"b"), KeyPut(b"d", b"")])
    space.compact(4)
    space.apply([KeyDeleted(b"c")])
    space.delay_locks([b"x"], until_ms=9, now_ms=1)
    loaded = thawed(space)
    for name in ("name", "revision", "compacted", "live_size", "size", "lock_delays", "key_count"):
        assert getattr(loaded, name) == getattr(space, name), name
    for revision in (4, 5, 6):
        assert loaded.range_at(*EVERYTHING, revision) == space.range_at(*EVERYTHING, revision)
    assert loaded.events(*EVERYTHING, 3) == space.events(*EVERYTHING, 3)
    assert loaded.locked_by("s") == [b"a"]
    for one in (space, loaded):
        one.apply([KeyPut(b"c", b"new")])
    assert list(loaded.dump()) == list(space.dump())
    assert thawed(Keyspace("empty")).revision == 1


def test_a_snapshot_is_of_the_moment_it_was_asked_for() -> None:
    space = filled(b"a", b"b")
    expected = list(space.dump())
    records = space.dump()
    space.apply([KeyPut(b"a", b"later"), KeyDeleted(b"b"), KeyPut(b"c", b"")])
    space.compact(space.revision)
    assert list(records) == expected


def test_large_snapshots_come_in_many_records() -> None:
    space = filled(*[b"%05d" % number for number in range(2_000)])
    space.compact(space.revision)
    space.apply([KeyPut(b"large", bytes(900_000)), KeyPut(b"larger", bytes(900_000))])
    space.apply([KeyPut(b"large", bytes(900_000))])
    records: list[Any] = list(space.dump())
    assert all(len(record[1]) <= 512 for record in records[1:-1])
    assert max(len(msgspec.msgpack.encode(record)) for record in records) < 2_900_000
    assert thawed(space).range(*EVERYTHING) == space.range(*EVERYTHING)


@pytest.mark.parametrize("spoil", [lambda r: r[1:], lambda r: r[:-1], lambda r: [r[0], r[-1]], lambda r: []])
def test_a_broken_snapshot_is_refused(spoil: Any) -> None:
    records = list(filled(b"a", b"b").dump())
    with pytest.raises(ValueError, match="records"):
        Keyspace.load(iter(spoil(records)))
