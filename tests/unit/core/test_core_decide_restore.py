"""Restoring a snapshot: what stood stands again, in one commit of ordinary facts."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from core_world import WEB, World, replay
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core_decide_together import single

from townhall.core import EVERYTHING, commands, decide_restore
from townhall.core.codec import dump_state
from townhall.core.footprint import footprint
from townhall.core.state import State
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.check import CheckStatus
from townhall.model.errors import Denied, InvalidField, TownhallError
from townhall.model.instance import ServiceKey
from townhall.model.keys import Delete, Put, Transaction
from townhall.model.lease import LeaseKind
from townhall.model.tie import Direction, Tie

SPACE = "consul"


def put(world: World, key: bytes, value: bytes, space: str = SPACE, **fields: Any) -> None:
    world.run(commands.Transact(space=space, transaction=Transaction(success=(Put(key, value, **fields),))))


def snapshot(world: World) -> commands.Restore:
    return commands.Restore(chunks=tuple(dump_state(world.state)))


def test_everything_that_does_not_live_by_renewal():
    world = World()
    put(world, b"a", b"1", flags=7)
    put(world, b"gone", b"1")
    world.run(commands.PutNode(name="n", address="127.0.0.2"))
    world.register("p", persistent=True, node="n")
    world.register("alive")
    world.run(commands.PutCheck(node="n", id="c", key=WEB, instance="p", status=CheckStatus.WARNING))
    world.run(commands.SetMaintenance(key=WEB, id="p", reason="disk"))
    world.run(commands.PutPolicy(name="pol", rules=(Rule(Resource.NODE, Level.READ),)))
    world.run(commands.PutRole(name="r"))
    world.run(commands.PutToken(new_id="t", policies=("pol",)))
    taken = snapshot(world)

    put(world, b"a", b"2")
    put(world, b"new", b"1")
    world.run(commands.Transact(space=SPACE, transaction=Transaction(success=(Delete(b"gone"),))))
    world.run(commands.DeleteNode(name="n"))
    world.run(commands.PutNode(name="m", address="127.0.0.3"))
    world.register("q", persistent=True, node="m")
    world.run(commands.PutCheck(node="m", id="d"))
    world.run(commands.OpenSession(id="s", ttl_ms=10_000))
    put(world, b"lock", b"", session="s")
    world.run(commands.DeletePolicy(name="pol"))
    world.run(commands.DeleteRole(name="r"))
    world.run(commands.PutToken(new_id="u"))
    before = world.state.position
    assert world.run(taken) == 10
    state = world.state
    assert state.position == before + 1
    assert {kv.key: (kv.value, kv.flags) for kv in state.spaces[SPACE].range(b"\0", b"\0")[0]} == {
        b"a": (b"1", 7), b"gone": (b"1", 0)
    }  # fmt: skip
    assert list(state.nodes) == ["n"]
    assert [one.id for one in world.reader.instances(WEB)] == ["alive", "p"]
    assert world.instance("p").evidence.maintenance == "disk"
    assert {name: check.status for name, check in state.checks.items()} == {("n", "c"): CheckStatus.WARNING}
    assert (state.sessions, list(state.policies), list(state.roles), list(state.tokens)) == ({}, ["pol"], ["r"], ["t"])
    assert list(dump_state(replay(world.journal))) == list(dump_state(state))


def test_what_lives_by_a_lease_is_left_to_who_renews_it():
    world = World()
    world.run(commands.GrantLease(id=7, kind=commands.LeaseKind.KEYS))
    put(world, b"leased", b"old", lease=7)
    world.register("a", node="n")
    world.run(commands.PutNode(name="n"))
    world.run(commands.PutCheck(node="n", id="c", key=WEB, instance="a"))
    empty = snapshot(World())
    world.run(empty)
    assert world.reader.get(SPACE, b"leased") is not None
    assert [one.id for one in world.reader.instances(WEB)] == ["a"]
    assert list(world.state.nodes) == ["n"]
    assert list(world.state.checks) == [("n", "c")]


IMPORT = Tie("etcd", b"service/", "naming", Direction.IMPORT)
EXPORT = Tie("etcd", b"all/", "naming", Direction.EXPORT)


def naming(port: int) -> bytes:
    return b'{"Op":0,"Addr":"127.0.0.1:%d"}' % port


def tied_world() -> World:
    """Instances that are keys, with and without a lease, one that is shown as a key, and a key that is nothing else."""
    world = World()
    world.run(commands.PutLayouts((IMPORT, EXPORT)))
    world.run(commands.GrantLease(id=7, kind=LeaseKind.KEYS))
    put(world, b"service/db/1", naming(1), "etcd")
    put(world, b"service/db/2", naming(2), "etcd", lease=7)
    put(world, b"plain", b"v", "etcd")
    world.register("p", persistent=True)
    return world


def etcd_keys(world: World) -> dict[bytes, bytes]:
    return {kv.key: kv.value for kv in world.state.spaces["etcd"].range(b"\0", b"\0")[0]}


def ports(world: World) -> dict[str, int]:
    return {one.id: one.port for service in world.state.services.values() for one in service.instances.values()}


def test_tied_keys_and_instances_stand_again():
    world = tied_world()
    taken, keys, instances = snapshot(world), etcd_keys(world), ports(world)
    put(world, b"service/db/1", naming(3), "etcd")
    put(world, b"service/db/4", naming(4), "etcd")
    put(world, b"plain", b"w", "etcd")
    db = ServiceKey("default", "default", "db")
    world.run(commands.SetMaintenance(key=db, id="etcd:service/db/1", reason="disk"))
    world.run(commands.Deregister(key=WEB, id="p"))
    world.register("q", persistent=True)
    assert b"all/web/q" in etcd_keys(world)
    assert b"all/db/etcd:service%2Fdb%2F1" not in etcd_keys(world), "in maintenance it is not shown"
    world.run(taken)
    assert (etcd_keys(world), ports(world)) == (keys, instances)
    assert list(dump_state(replay(world.journal))) == list(dump_state(world.state))


@pytest.mark.parametrize("ties", [(), (IMPORT,), (EXPORT,), (IMPORT, EXPORT)])
def test_restored_where_other_ties_are_in_force(ties: tuple[Tie, ...]):
    taken, world = snapshot(tied_world()), World()
    world.run(commands.PutLayouts(ties))
    put(world, b"x", b"y", "etcd")
    world.run(taken)
    port, keyed = 80, {"etcd:service/db/1": 1} if IMPORT in ties else {}
    assert ports(world) == {"p": port, **keyed}, "the leased one comes when its owner writes it again"
    shown = {b"all/web/p"} | ({b"all/db/etcd:service%2Fdb%2F1"} if keyed else set()) if EXPORT in ties else set()
    assert set(etcd_keys(world)) == {b"plain", b"service/db/1"} | shown
    assert list(dump_state(replay(world.journal))) == list(dump_state(world.state))
    world.run(commands.PutLayouts((IMPORT, EXPORT)))
    assert ports(world) == {"p": port, "etcd:service/db/1": 1}


def test_a_snapshot_without_ties_gives_way_to_what_is_shown():
    other = World()
    put(other, b"all/web/p", b"somebody's", "etcd")
    put(other, b"b", b"1", "etcd")
    taken, world = snapshot(other), World()
    world.run(commands.PutLayouts((EXPORT,)))
    world.register("alive")
    world.run(taken)
    assert set(etcd_keys(world)) == {b"all/web/alive", b"b"}


def test_access_control_stays_on():
    world = World()
    empty = snapshot(world)
    world.run(commands.BootstrapAccess())
    with pytest.raises(Denied):
        world.run(empty, Actor("t", (Rule(Resource.OPERATOR, Level.WRITE),)))
    world.run(empty, Actor("t", management=True))
    assert world.state.access_enabled
    assert world.state.tokens
    other = World()
    other.run(snapshot(world))
    assert other.state.access_enabled


def test_what_is_no_snapshot():
    world = World()
    for chunks in ((), (b"x",), tuple(dump_state(world.state))[:-1]):
        with pytest.raises(InvalidField):
            world.run(commands.Restore(chunks=chunks))
    assert footprint(commands.Restore(chunks=()), world.state) == EVERYTHING
    assert decide_restore.__all__ == ["restore"]


def picture(state: State) -> tuple[Any, ...]:
    """What does not live by renewal."""
    lasting = {
        (key, id_): (one.address, one.port, one.node)
        for key, service in state.services.items() for id_, one in service.instances.items() if not one.lease
    }  # fmt: skip
    checks = {
        name: (check.status, check.instance)
        for name, check in state.checks.items() if check.key is None or (check.key, check.instance) in lasting
    }  # fmt: skip
    keys = {kv.key: kv.value for space in state.spaces.values() for kv in space.range(b"\0", b"\0")[0]}
    return lasting, checks, keys


@settings(max_examples=150, deadline=None)
@given(st.lists(single, max_size=20), st.lists(single, max_size=20))
def test_whatever_stands_the_snapshot_stands_after_it(first, then):
    source, target = World(), World()
    for world, wanted in ((source, first), (target, then)):
        for command in wanted:
            with suppress(TownhallError):
                world.run(command)
    alive = {(key, id_) for key, service in target.state.services.items()
             for id_, one in service.instances.items() if one.lease}  # fmt: skip
    target.run(snapshot(source))
    target.state.check()
    lasting, checks, keys = picture(target.state)
    wanted_lasting, wanted_checks, wanted_keys = picture(source.state)
    assert lasting == {name: one for name, one in wanted_lasting.items() if name not in alive}
    assert keys == wanted_keys
    if not alive:
        assert checks == wanted_checks
    assert list(dump_state(replay(target.journal))) == list(dump_state(target.state))
