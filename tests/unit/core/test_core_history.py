"""The log of a space and the keys' own lists."""

from __future__ import annotations

import pytest

from townhall.core.facts import KeyDeleted, KeyPut
from townhall.core.history import EVENT_OVERHEAD_SIZE, KEY_OVERHEAD_SIZE, History, size_of
from townhall.core.keyspace import Keyspace
from townhall.model.keys import KeyEvent, KeyValue

FIRST = KeyValue(b"k", b"one", 2, 2, 1)
SECOND = KeyValue(b"k", b"second", 2, 3, 2)


def written() -> History:
    history = History(first=2)
    for event in (
        KeyEvent(2, b"k", FIRST, None),
        KeyEvent(3, b"k", SECOND, FIRST),
        KeyEvent(4, b"k", None, SECOND),
    ):
        history.note(event, size_of(event.before) if event.before else 0)
        history.close(event)
    return history


def test_a_key_is_found_as_it_was() -> None:
    history = written()
    history.check(4, {})
    assert [history.at(b"k", revision, None) for revision in (1, 2, 3, 4)] == [None, FIRST, SECOND, None]
    assert [event.revision for event in history.of_key(b"k", 2, None)] == [3, 4]
    assert [entry.revision for entry in history.entries(3) if isinstance(entry, KeyEvent)] == [4]
    assert [entry.revision for entry in history.pick([2, 4]) if isinstance(entry, KeyEvent)] == [2, 4]


def test_a_key_that_was_written_once_has_no_list() -> None:
    history = History(first=2)
    event = KeyEvent(2, b"k", FIRST, None)
    history.note(event, 0)
    history.close(event)
    assert b"k" not in history.lists
    assert history.at(b"k", 1, FIRST) is None
    assert history.at(b"k", 2, FIRST) is FIRST
    assert history.of_key(b"k", 1, FIRST) == (event,)
    assert history.of_key(b"k", 2, FIRST) == ()
    assert history.of_key(b"other", 1, None) == ()


def test_sizes_go_up_and_down_to_nothing() -> None:
    history = written()
    assert size_of(FIRST) == 4 + KEY_OVERHEAD_SIZE
    assert history.size == 3 * EVENT_OVERHEAD_SIZE + size_of(FIRST) + size_of(SECOND)
    assert history.purge(5, 10) == [b"k"]
    assert (history.size, len(history), history.first) == (0, 0, 5)


def test_a_purge_goes_in_steps_and_keeps_what_is_needed() -> None:
    history = written()
    assert history.purge(4, 1) == []
    assert (history.first, len(history)) == (3, 2)
    assert history.at(b"k", 2, None) is FIRST  # the value before the oldest event held
    assert history.purge(4, 10) == []
    assert history.at(b"k", 3, None) is SECOND
    assert history.purge(4, 10) == []
    history.check(4, {})


def test_a_key_made_anew_needs_no_list_once_its_former_life_is_forgotten() -> None:
    space = Keyspace("etcd")
    for write in (KeyPut(b"k", b"1"), KeyDeleted(b"k"), KeyPut(b"k", b"2")):
        space.apply([write])
    assert b"k" in space._history.lists
    space.compact(4)
    assert b"k" not in space._history.lists
    assert [event.revision for event in space.events(b"k", b"", 3)] == [4]
    space.check()


@pytest.mark.parametrize("count", [10, 64, 65, 200, 10_000])
def test_a_hot_key_is_purged_without_losing_track(count: int) -> None:
    space = Keyspace("etcd")
    for number in range(count):
        space.apply([KeyPut(b"hot", b"%d" % number), KeyPut(b"other", b"")])
    for revision in (count // 3, count // 2, count - 1, count, count + 1):
        space.compact(revision)
        space.apply([KeyPut(b"cold", b"")])
        space.check()
        kv = space.get_at(b"hot", max(revision, 2))
        assert kv is not None
        assert kv.value == b"%d" % (max(revision, 2) - 2)
        assert len(space.events(b"hot", b"", revision - 1)) == count + 2 - max(revision, 2)
