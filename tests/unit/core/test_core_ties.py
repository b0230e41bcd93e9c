"""Keys that are instances, and instances that are shown as keys."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_keys_world import KeysWorld
from core_world import WEB, replay

from townhall.core import EVERYTHING, Rules, commands
from townhall.core.codec import dump_state, load_state
from townhall.core.decide_ties import check_ties, guard_writes, standing_source
from townhall.core.evolve_imports import keys_changed
from townhall.core.evolve_ties import project
from townhall.core.footprint import footprint
from townhall.core.tied_claims import with_ties
from townhall.core.ties import Ties, overlap
from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.errors import Conflict, InvalidField, OverLimit
from townhall.model.instance import ServiceKey, Verdict
from townhall.model.keys import Delete, Put, Transaction
from townhall.model.lease import LeaseKind
from townhall.model.tie import Direction, Tie

IMPORT = Tie("etcd", b"service/", "naming", Direction.IMPORT)
EXPORT = Tie("etcd", b"all/", "naming", Direction.EXPORT)


def value(port: int = 80, **more: Any) -> bytes:
    return json.dumps({"Op": 0, "Addr": f"127.0.0.1:{port}", "Metadata": None} | more).encode()


@pytest.fixture
def world() -> KeysWorld:
    world = KeysWorld()
    world.run(commands.PutLayouts((IMPORT, EXPORT)))
    return world


def ids(world: KeysWorld) -> list[str]:
    return [instance.id for instance in world.reader.instances(WEB)]


def shown(world: KeysWorld) -> dict[bytes, bytes]:
    return {kv.key: kv.value for kv in world.reader.range("etcd", b"all/", b"all0").kvs}


# --- keys that are instances


def test_a_key_is_an_instance_until_it_is_deleted(world):
    world.put(b"service/web/a", value(8080, Metadata={"zone": "z1", "v": "2"}))
    instance = world.instance("etcd:service/web/a")
    assert (instance.address, instance.port, instance.zone, instance.metadata) == ("127.0.0.1", 8080, "z1", {"v": "2"})
    assert (instance.protocol, instance.verdict, instance.lease) == ("etcd", Verdict.UP, 0)
    world.put(b"service/web/a", value(8081))
    changed = world.instance("etcd:service/web/a")
    assert (changed.port, changed.incarnation) == (8081, instance.incarnation)
    world.do(Delete(b"service/web/", b"service/web0"))
    assert ids(world) == []


def test_writing_the_same_again_changes_no_instance(world):
    world.put(b"service/web/a", value())
    revision = world.instance("etcd:service/web/a").revision
    world.put(b"service/web/a", value())
    assert world.instance("etcd:service/web/a").revision == revision


def test_what_cannot_be_read_is_simply_a_key(world):
    world.put(b"service/web/a", b'{"any": "thing"}')
    world.put(b"service/web", value())
    assert ids(world) == []
    world.put(b"service/web/a", value())
    assert ids(world) == ["etcd:service/web/a"]
    world.put(b"service/web/a", value(Op=1))
    assert ids(world) == []


def test_the_end_of_the_lease_takes_both_exactly_at_its_ttl(world):
    lease = world.grant()
    world.put(b"service/web/a", value(), lease=lease)
    assert world.instance("etcd:service/web/a").lease == lease
    world.run(commands.LapseLeases(leases=((lease, 1),)))
    assert ids(world) == []
    assert world.get(b"service/web/a") is None


def test_silent_ends_count_against_the_floor_of_the_others(world):
    """They go, as keys promise; who falls silent after them is held."""
    leases = [world.grant() for _ in range(2)]
    for place, lease in enumerate(leases):
        world.put(b"service/web/%d" % place, value(), lease=lease)
    for id_ in ("m", "n"):
        world.register(id_)
    natives = [(world.instance(id_).lease, 1) for id_ in ("m", "n")]
    world.run(commands.LapseLeases(leases=(*((lease, 1) for lease in leases), *natives)))
    assert ids(world) == ["m", "n"]
    assert world.callable_ids() == ["m", "n"]
    assert world.instance("m").evidence.held


def test_on_a_lease_of_instances_it_is_suspect_first(world):
    lease = world.grant(kind=LeaseKind.INSTANCE)
    world.put(b"service/web/a", value(), lease=lease)
    world.run(commands.LapseLeases(leases=((lease, 1),)))
    assert world.instance("etcd:service/web/a").verdict is Verdict.SUSPECT


def test_another_lease_and_none(world):
    first, second = world.grant(), world.grant()
    world.put(b"service/web/a", value(), lease=first)
    world.put(b"service/web/a", value(), lease=second)
    world.run(commands.EndLease(id=first))
    assert ids(world) == ["etcd:service/web/a"]
    world.put(b"service/web/a", value())
    world.run(commands.EndLease(id=second))
    assert ids(world) == ["etcd:service/web/a"]


def test_the_catalogue_deregisters_a_key_and_may_not_redefine_it(world):
    world.put(b"service/web/a", value())
    assert standing_source(world.state, WEB, "etcd:service/web/a") == ("etcd", b"service/web/a")
    with pytest.raises(Conflict, match="is the key 'service/web/a'"):
        world.register("etcd:service/web/a")
    with pytest.raises(Conflict):
        world.run(commands.PatchInstance(key=WEB, id="etcd:service/web/a", weight=2.0))
    world.run(commands.SetMaintenance(key=WEB, id="etcd:service/web/a", reason="disk"))
    assert world.instance("etcd:service/web/a").verdict is Verdict.MAINTENANCE
    world.run(commands.Deregister(key=WEB, id="etcd:service/web/a"))
    assert ids(world) == []
    assert world.get(b"service/web/a") is None


def test_the_key_wins_over_whoever_took_its_name(world):
    world.register("etcd:service/web/a", port=1)
    world.put(b"service/web/a", value(80))
    assert world.instance("etcd:service/web/a").port == 80
    world.run(commands.Deregister(key=WEB, id="etcd:service/web/a"))
    world.register("etcd:service/web/a", port=1)
    world.put(b"service/web/a", b"no instance")
    assert world.instance("etcd:service/web/a").port == 1


def test_a_full_registry_refuses_keys_that_would_be_instances():
    world = KeysWorld(Rules(instances_count_max=1))
    world.run(commands.PutLayouts((IMPORT,)))
    world.put(b"service/web/a", value())
    with pytest.raises(OverLimit):
        world.put(b"service/web/b", value())
    world.put(b"service/web/b", b"no instance")
    world.put(b"service/web/a", value(81))


# --- instances that are shown as keys


def test_an_instance_is_shown_while_it_may_be_called(world):
    world.register("a", port=8080)
    assert shown(world) == {b"all/web/a": b'{"Op":0,"Addr":"127.0.0.1:8080","Metadata":null}'}
    revision = world.space.revision
    world.run(commands.StartDrain(key=WEB, id="a"))
    assert shown(world) == {}
    world.run(commands.CancelDrain(key=WEB, id="a"))
    assert shown(world) != {}
    world.lapse("a")
    assert shown(world) == {}
    assert [event.revision for event in world.reader.key_events("etcd", b"all/", b"all0", revision)] == [
        revision + 1, revision + 2, revision + 3,
    ]  # fmt: skip


def test_others_are_not(world):
    world.register("no-port", port=0)
    world.register("other", key=ServiceKey("default", "g", "web"))
    world.register("other", key=ServiceKey("prod", "default", "web"))
    assert shown(world) == {}


def test_all_that_one_commit_does_is_one_revision(world):
    world.run(commands.GrantLease(id=7))
    for id_ in "abc":
        world.register(id_, lease=7)
    revision = world.space.revision
    world.run(commands.EndLease(id=7))
    assert world.space.revision == revision + 1
    assert shown(world) == {}


def test_a_change_that_the_key_does_not_tell_writes_nothing(world):
    world.register("a")
    revision = world.space.revision
    world.register("a", claim="p1")
    assert world.space.revision == revision


def test_what_came_from_a_key_is_shown_too_and_its_writer_is_told_its_own_revision(world):
    revision = world.put(b"service/web/a", value())
    written = world.get(b"service/web/a")
    assert written is not None
    assert written.mod_revision == revision
    assert shown(world) == {b"all/web/etcd:service%2Fweb%2Fa": value().replace(b": ", b":").replace(b", ", b",")}
    assert world.space.revision == revision + 1


def test_nobody_else_writes_there(world):
    world.register("a")
    for operation in (Put(b"all/web/a", b"x"), Put(b"all/b", b""), Delete(b"all/web/a"), Delete(b"a", b"\0")):
        with pytest.raises(Conflict, match="below 'all/' show the catalogue"):
            world.do(operation)
    world.do(Delete(b"all/web/b"))
    world.put(b"allow", b"x")
    world.do(Delete(b"allow", b"\0"))
    transaction = Transaction(success=(Put(b"all/web/a", b"x"),))
    world.run(commands.Transact(space="consul", transaction=transaction))


# --- ties


def test_ties_come_and_go_with_what_they_brought(world):
    world.put(b"service/web/a", value())
    world.register("b")
    world.run(commands.PutLayouts(()))
    assert ids(world) == ["b"]
    assert shown(world) == {}
    assert world.get(b"service/web/a") is not None
    world.run(commands.PutLayouts((IMPORT, EXPORT)))
    assert ids(world) == ["b", "etcd:service/web/a"]
    assert len(shown(world)) == 2
    before = world.state.position
    world.run(commands.PutLayouts((IMPORT, EXPORT)))
    assert world.state.position == before
    # An export in other words, at the same place.
    world.run(commands.PutLayouts((IMPORT, Tie("etcd", b"all/", "plain", Direction.EXPORT))))
    assert set(shown(world).values()) == {b"127.0.0.1:80"}


def test_an_import_that_ends_takes_its_instances_out_of_the_exports_that_stay(world):
    world.put(b"service/web/a", value(8080))
    assert len(shown(world)) == 1
    world.run(commands.PutLayouts((EXPORT,)))
    assert ids(world) == []
    assert shown(world) == {}
    world.state.check()


def test_an_export_begins_below_a_prefix_that_is_empty():
    world = KeysWorld()
    world.put(b"all/x", b"1")
    with pytest.raises(Conflict, match="1 keys of space 'etcd' lie below 'all/' already"):
        world.run(commands.PutLayouts((EXPORT,)))


@pytest.mark.parametrize(
    ("ties", "text"),
    [
        ((IMPORT, Tie("etcd", b"service/", "naming", Direction.EXPORT)), "overlaps"),
        ((IMPORT, Tie("etcd", b"service/x/", "naming", Direction.EXPORT)), "overlaps"),
        ((EXPORT, Tie("etcd", b"", "go-zero", Direction.IMPORT)), "overlaps"),
        ((Tie("etcd", b"all", "naming", Direction.EXPORT),), "does not end"),
        ((Tie("etcd", b"x/", "dubbo", Direction.IMPORT),), "use one of naming"),
        ((Tie("etcd", b"x" * 300, "naming", Direction.IMPORT),), "longer than"),
        ((Tie("etcd", b"x/", "naming", Direction.IMPORT, "no space"),), "namespace"),
        (tuple(Tie("etcd", b"%03d/" % n, "naming", Direction.IMPORT) for n in range(limits.TIES_COUNT_MAX + 1)), "at most"),
    ],
)  # fmt: skip
def test_ties_that_cannot_be(ties, text):
    with pytest.raises(InvalidField, match=text):
        check_ties(ties)
    check_ties((IMPORT, EXPORT, Tie("consul", b"service/", "naming", Direction.EXPORT)))


def test_snapshots_and_replays_agree(world):
    world.put(b"service/web/a", value(), lease=world.grant())
    world.register("b")
    for again in (load_state(list(dump_state(world.state))), replay(world.journal)):
        again.check()
        assert again.ties is not None
        assert again.ties.all == (IMPORT, EXPORT)
        assert list(again.spaces["etcd"].dump()) == list(world.space.dump())
        assert again.services[WEB].instances == world.state.services[WEB].instances


def test_without_ties_nothing_is_noted():
    world = KeysWorld()
    world.register("a")
    assert world.state.touched is None
    project(world.state, world.changes[-1])
    keys_changed(world.state, "etcd", (), world.changes[-1])


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (b"all/x", b"", (b"all/x", b"")),
        (b"b", b"", None),
        (b"a", b"b", (b"all/", b"all0")),
        (b"all/m", b"\0", (b"all/m", b"all0")),
        (b"b", b"\0", None),
        (b"a", b"all/", None),
    ],
)
def test_what_of_a_range_lies_below(start, end, found):
    assert overlap(EXPORT, start, end) == found


def test_claims_and_guards_have_their_own_names(world):
    """What the footprint tests go through is what the table calls."""
    assert with_ties(world.state, Ties((IMPORT,)), frozenset({("settings", WEB)})) == {("settings", WEB)}
    guard_writes(
        world.state,
        world.space if "etcd" in world.state.spaces else world.state.spaces.setdefault("etcd", _space()),
        (),
        world.context(),
    )


def _space():
    from townhall.core.keyspace import Keyspace

    return Keyspace("etcd")


def test_registrations_with_checks_on_one_node_share_a_group(world):
    def register(id_: str) -> commands.Register:
        put = commands.PutCheck(node="m", id=f"c-{id_}")
        return commands.Register(
            key=WEB, id=id_, address="127.0.0.1", port=80, persistent=True, node="m", checks=(put,)
        )

    for number in range(70):
        world.run(register(f"i{number}"))
    one, other = (footprint(register(id_), world.state) for id_ in ("new", "newer"))
    assert EVERYTHING not in (one, other)
    assert not one & other
    # A new check of the whole node concerns everything on it.
    assert footprint(commands.PutCheck(node="m", id="whole"), world.state) == EVERYTHING
    # And one that stands concerns what it is about.
    about = footprint(commands.SetCheck(node="m", id="c-i3", status=CheckStatus.PASSING), world.state)
    assert (WEB, "i3") in about
    assert (WEB, "i4") not in about
