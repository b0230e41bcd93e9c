"""What happens to keys: by writes, and when leases and sessions end."""

from __future__ import annotations

import pytest
from core_keys_world import SPACE, KeysWorld
from core_world import replay

from townhall.core import commands, facts
from townhall.model.keys import Delete, KeyEvent, Put, Transaction
from townhall.model.lease import LeaseKind, SessionBehavior


@pytest.fixture
def world() -> KeysWorld:
    return KeysWorld()


def events(world: KeysWorld, after: int) -> list[KeyEvent]:
    return list(world.reader.key_events(SPACE, b"\0", b"\0", after))


def test_changes_name_every_key_and_the_revision(world: KeysWorld) -> None:
    world.do(Put(b"b", b""), Put(b"a", b""))
    changes = world.changes[-1]
    assert changes.keys == [(SPACE, b"b"), (SPACE, b"a")]
    assert changes.revisions == {SPACE: 2}
    world.do(Delete(b"a", b"\0"))
    assert world.changes[-1].keys == [(SPACE, b"a"), (SPACE, b"b")]


def test_a_lease_knows_its_keys(world: KeysWorld) -> None:
    first, second = world.grant(), world.grant()
    world.do(Put(b"a", b"", first), Put(b"b", b"", first))
    assert world.state.leases[first].keys == {(SPACE, b"a"), (SPACE, b"b")}
    world.put(b"a", lease=second)
    assert world.state.leases[first].keys == {(SPACE, b"b")}
    world.put(b"a")
    assert world.state.leases[second].keys is None
    world.do(Delete(b"b"))
    assert world.state.leases[first].keys is None


def test_a_lease_ends_with_its_keys_in_one_revision_per_space(world: KeysWorld) -> None:
    lease = world.grant()
    world.put(b"stays")
    world.do(Put(b"b", b"", lease), Put(b"a", b"", lease), Put(b"taken-over", b"", lease))
    world.put(b"taken-over", lease=world.grant())
    other = commands.Transact(space="zookeeper", transaction=Transaction(success=(Put(b"/x", b"", lease),)))
    world.run(other)
    world.run(commands.EndLease(id=lease))
    assert [(event.revision, event.key, event.after) for event in events(world, 4)] == [
        (5, b"a", None),
        (5, b"b", None),
    ]
    assert world.changes[-1].keys == [(SPACE, b"a"), (SPACE, b"b"), ("zookeeper", b"/x")]
    assert world.changes[-1].revisions == {SPACE: 5, "zookeeper": 3}
    assert [kv.key for kv in world.reader.range(SPACE, b"\0", b"\0").kvs] == [b"stays", b"taken-over"]


def test_a_lease_of_keys_ends_at_once_when_it_lapses(world: KeysWorld) -> None:
    lease = world.grant()
    world.put(b"k", lease=lease)
    world.run(commands.LapseLeases(leases=((lease, 1),)))
    assert world.get(b"k") is None
    assert lease not in world.state.leases


def test_keys_may_hang_on_a_lease_of_instances(world: KeysWorld) -> None:
    lease = world.grant(kind=LeaseKind.INSTANCE)
    world.register("web-1", lease=lease)
    world.put(b"k", lease=lease)
    world.run(commands.EndLease(id=lease))
    assert world.get(b"k") is None
    assert world.callable_ids() == []


def held(world: KeysWorld, behavior: SessionBehavior, lock_delay_ms: int = 0) -> str:
    session = world.open_session(ttl_ms=10_000, behavior=behavior, lock_delay_ms=lock_delay_ms)
    world.do(Put(b"b", b"1", session=session, flags=3, extra=b"x"), Put(b"a", b"2", session=session), Put(b"free", b""))
    return session


def test_a_closed_session_releases_its_keys(world: KeysWorld) -> None:
    world.close(held(world, SessionBehavior.RELEASE))
    released = events(world, 2)
    assert [(event.revision, event.key) for event in released] == [(3, b"a"), (3, b"b")]
    kv = released[1].after
    assert kv is not None
    assert (kv.value, kv.session, kv.lock_index, kv.flags, kv.extra, kv.version) == (b"1", "", 1, 3, b"x", 2)
    assert world.space.lock_delays == {}


def test_a_closed_session_deletes_its_keys_when_it_was_opened_so(world: KeysWorld) -> None:
    world.close(held(world, SessionBehavior.DELETE, lock_delay_ms=100))
    assert [(event.revision, event.key, event.after) for event in events(world, 2)] == [
        (3, b"a", None),
        (3, b"b", None),
    ]
    assert world.space.lock_delays == {b"a": world.now_ms + 100, b"b": world.now_ms + 100}
    assert world.reader.lock_delay_until(SPACE, b"a") == world.now_ms + 100


def test_a_session_ends_with_its_lease(world: KeysWorld) -> None:
    session = held(world, SessionBehavior.RELEASE)
    world.run(commands.LapseLeases(leases=((world.state.sessions[session].lease, 1),)))
    assert session not in world.state.sessions
    kv = world.get(b"a")
    assert kv is not None
    assert kv.session == ""


def test_what_is_not_there_changes_nothing(world: KeysWorld) -> None:
    world.commit((facts.SessionClosed("nobody"), facts.SpaceCompacted("nowhere", 5)))
    assert world.state.spaces == {}
    world.commit((facts.KeysWritten(SPACE, (facts.KeyPut(b"k", b"", lease=99),)),))
    assert world.changes[-1].revisions == {SPACE: 2}
    world.commit((facts.SessionOpened("s", "", "", 99, SessionBehavior.RELEASE, 0, {}),))
    assert "s" in world.state.sessions


def test_every_node_comes_to_the_same_state(world: KeysWorld) -> None:
    lease = world.grant()
    world.do(*[Put(b"%d" % number, b"", lease) for number in range(50)])
    world.close(held(world, SessionBehavior.RELEASE, lock_delay_ms=10))
    world.run(commands.CompactSpace(space=SPACE, revision=3))
    world.run(commands.EndLease(id=lease))
    other = replay(world.journal)
    other.check()
    assert list(other.spaces[SPACE].dump())[1:] == list(world.space.dump())[1:]
    assert other.spaces[SPACE].revision == world.space.revision
