"""Commits and snapshots as bytes: there and back, late, torn, newer, garbled."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from core_world import WEB, World
from hypothesis import given
from hypothesis import strategies as st

from townhall.core import Commit, commands, facts
from townhall.core import commands_guard as orders
from townhall.core.codec import FORMAT, decode_commit, dump_space, dump_state, encode_commit, load_state
from townhall.core.facts_guard import GuardSwitched
from townhall.core.state import State
from townhall.model.access import Level, Policy, Resource, Role, Rule, Token
from townhall.model.check import Check, CheckDefinition, CheckKind, CheckStatus, Node
from townhall.model.errors import Damaged
from townhall.model.instance import CLEAR, Evidence, Instance, ServiceKey, ServiceSettings, Verdict
from townhall.model.keys import Put, Transaction
from townhall.model.lease import EndReason, LeaseKind, SessionBehavior
from townhall.model.tie import Direction, Tie

INSTANCE = Instance(
    key=WEB, id="a", address="127.0.0.1", ports={"admin": 81}, tags=("v1",), metadata={"k": "v"}, lease=7
)
DEFINITION = CheckDefinition(
    kind=CheckKind.HTTP, interval_ms=1_000, target="http://127.0.0.1/", headers={"a": ("b", "c")}
)
ONE_OF_EACH = (
    facts.Registered(INSTANCE, True),
    facts.Deregistered(WEB, "a"),
    facts.OverrideSet(WEB, "a", Verdict.DOWN, "by hand"),
    facts.OverrideSet(WEB, "a", None),
    facts.MaintenanceSet(WEB, "a", "disk"),
    facts.DrainStarted(WEB, "a", 5),
    facts.DrainCancelled(WEB, "a"),
    facts.Reported(WEB, "a", "failed"),
    facts.ServicePut(WEB, {"k": "v"}, ServiceSettings(floor=0.1)),
    facts.ServiceDeleted(WEB),
    facts.LeaseGranted(1 << 62, 5_000, "n1", 1, LeaseKind.KEYS, True),
    facts.LeaseEnded(7, EndReason.EXPIRED),
    facts.LeaseLapsed(7, True),
    facts.LeaseRecovered(7),
    facts.LeaseConnectionChanged((7, 8), False, (8,)),
    facts.HoldReleased(7),
    facts.LeasesTakenOver("n1", "n2"),
    facts.KeysWritten("native", (facts.KeyPut(b"k", b"\xff", 7), facts.KeyDeleted(b"l"))),
    facts.SpaceCompacted("native", 5),
    facts.SessionOpened("s", "name", "node", 7, SessionBehavior.DELETE, 15_000, {"k": "v"}),
    facts.SessionClosed("s"),
    facts.AccessEnabled(),
    facts.TokenPut(Token("t", b"\0" * 32, ("p",), management=True)),
    facts.TokenDeleted("t"),
    facts.PolicyPut(Policy("p", (Rule(Resource.KEY, Level.WRITE, "native/"),))),
    facts.PolicyDeleted("p"),
    facts.RolePut(Role("r", ("p",), (Rule(Resource.NODE, Level.READ),), "d", extra={"k": "v"})),
    facts.RoleDeleted("r"),
    facts.NodePut(Node(name="n", id="u", address="127.0.0.1", tagged_addresses={"lan": "127.0.0.1"}, meta={"k": "v"})),
    facts.NodeDeleted("n"),
    facts.CheckPut(Check(node="n", id="c", key=WEB, instance="a", definition=DEFINITION)),
    facts.CheckDeleted("n", "c"),
    facts.CheckChanged("n", "c", CheckStatus.WARNING, "slow"),
    facts.GuardChanged("etcd", GuardSwitched(True)),
    facts.LayoutsSet((Tie("etcd", b"service/", "naming", Direction.IMPORT),)),
)


def test_every_fact_there_and_back():
    assert {type(fact) for fact in ONE_OF_EACH} == set(facts.Fact.__args__)
    commit = Commit(0, 1_000, "n1", ONE_OF_EACH)
    again = decode_commit(encode_commit(commit), 42)
    assert again == Commit(42, 1_000, "n1", ONE_OF_EACH)


def test_journals_of_earlier_versions_stay_readable():
    """Fields are only ever appended: a fact without its last ones is read with their defaults."""
    old = msgspec.msgpack.encode([0, 5, "n1", [[10, 7, 5_000, "n1", 1, "instance"]]])
    assert decode_commit(old, 1).facts == (facts.LeaseGranted(7, 5_000, "n1", 1, LeaseKind.INSTANCE),)


def test_an_unknown_fact_stops_the_reader():
    with pytest.raises(Damaged) as damaged:
        decode_commit(msgspec.msgpack.encode([0, 5, "n1", [[999, "future"]]]), 17)
    assert damaged.value.fields["position"] == 17


@given(st.binary(max_size=64))
def test_garbage_is_damaged_and_nothing_else(blob):
    with suppress(Damaged):
        decode_commit(blob, 1)


def test_a_cut_commit_is_damaged():
    blob = encode_commit(Commit(0, 1_000, "n1", ONE_OF_EACH))
    for size in range(len(blob)):
        with pytest.raises(Damaged):
            decode_commit(blob[:size], 1)


def full_world() -> World:
    world = World()
    for id_ in "abcdef":
        world.register(id_, tags=("v1",), metadata={"k": "v"}, claim=f"claim-{id}", origin="127.0.0.1:5000")
    world.register("p", persistent=True, weight=0.5, ports={"admin": 81})
    world.run(commands.GrantLease(id=7))
    world.register("x", key=ServiceKey("other", "g", "db"), lease=7)
    world.run(commands.PutService(key=WEB, metadata={"m": "1"}, settings=ServiceSettings(floor=0.6)))
    world.run(commands.PutService(key=ServiceKey("default", "default", "empty")))
    world.register("gone", key=ServiceKey("default", "default", "gone"))
    world.run(commands.Deregister(key=ServiceKey("default", "default", "gone"), id="gone"))
    world.lapse(*"abcde")
    world.wait(20_000)
    world.sweep()
    world.run(commands.SetConnection(leases=(world.instance("f").lease,), up=False))
    world.run(commands.SetOverride(key=WEB, id="p", verdict=Verdict.DOWN, reason="by hand"))
    world.run(commands.GrantLease(id=8, kind=LeaseKind.KEYS))
    for key in (b"k1", b"k2"):
        world.run(commands.Transact(space="native", transaction=Transaction(success=(Put(key, b"v", lease=8),))))
    world.run(commands.OpenSession(id="s1", node="n", ttl_ms=10_000))
    world.run(commands.PutNode(name="m1", address="127.0.0.1", meta={"rack": "7"}))
    world.register("c", key=ServiceKey("other", "g", "db"), node="m1", persistent=True, extra={"consul.kind": "x"})
    world.run(
        commands.PutCheck(
            node="m1", id="c1", key=ServiceKey("other", "g", "db"), instance="c", status=CheckStatus.PASSING
        )
    )
    world.run(commands.PutCheck(node="m1", id="alive", definition=DEFINITION, output="unknown"))
    world.run(commands.PutPolicy(name="p", rules=(Rule(Resource.SERVICE, Level.READ),)))
    world.run(commands.PutRole(name="r", policies=("p",), extra={"k": "v"}))
    world.run(commands.PutToken(roles=("r",), rules=(Rule(Resource.NODE, Level.READ),)))
    world.run(commands.BootstrapAccess())
    world.run(commands.ChangeGuard(space="etcd", order=orders.AddUser("root", b"h")))
    return world


def test_a_snapshot_there_and_back():
    world = full_world()
    chunks = list(dump_state(world.state))
    again = load_state(chunks)
    again.check()
    assert again.position == world.state.position
    assert list(dump_state(again)) == chunks
    assert again.services[WEB].instances == world.state.services[WEB].instances
    assert again.services[WEB].tally.gone == world.state.services[WEB].tally.gone
    assert again.services[WEB].tally.gone is not None
    assert set(again.leases[8].keys or ()) == {("native", b"k1"), ("native", b"k2")}
    assert again.leases[again.sessions["s1"].lease].sessions == {"s1"}
    assert again.nodes == world.state.nodes
    assert again.checks == world.state.checks
    assert again.book.node_revisions == world.state.book.node_revisions
    assert again.secrets == world.state.secrets
    assert again.access_enabled


def test_values_are_shared_after_a_restart():
    world = World()
    for id_ in "abc":
        world.register(id_, tags=("v1",), metadata={"k": "v"}, weight=1.0)
    first, second, _ = load_state(list(dump_state(world.state))).services[WEB].instances.values()
    assert first.tags is second.tags
    assert first.metadata is second.metadata
    assert first.evidence is CLEAR
    assert first.incarnation is first.revision
    assert first.registered_at is first.since


def test_an_empty_state():
    chunks = list(dump_state(State()))
    assert load_state(chunks).position == 0


def test_commits_after_the_call_do_not_show_in_the_snapshot():
    world = full_world()
    expected = list(dump_state(world.state))
    late = dump_state(world.state)
    first = next(late)
    world.register("a")
    world.register("new", key=ServiceKey("new", "default", "new"))
    world.run(commands.EndLease(id=7))
    world.run(commands.EndLease(id=8))
    world.run(commands.TakeOverLeases(), node="n2")
    world.run(commands.Deregister(key=WEB, id="p"))
    world.run(commands.DeleteService(key=ServiceKey("default", "default", "empty")))
    assert [first, *late] == expected
    world.state.check()


def test_a_snapshot_that_is_cut_is_damaged():
    chunks = list(dump_state(full_world().state))
    for count in range(len(chunks)):
        with pytest.raises(Damaged):
            load_state(chunks[:count])
    with pytest.raises(Damaged):
        load_state([*chunks, b"more"])


def test_a_snapshot_that_is_garbled_is_damaged():
    chunks = list(dump_state(full_world().state))
    for number, chunk in enumerate(chunks):
        for garbled in (b"?" + chunk[1:], chunk[:1], chunk[:-1]):
            with pytest.raises(Damaged):
                load_state([*chunks[:number], garbled, *chunks[number + 1 :]])


def test_a_newer_format_is_refused():
    head, *rest = dump_state(State())
    fields = msgspec.msgpack.decode(head[1:])
    assert fields[0] == FORMAT
    with pytest.raises(Damaged, match="format"):
        load_state([b"H" + msgspec.msgpack.encode([FORMAT + 1, *fields[1:]]), *rest])


def test_large_sections_come_in_many_chunks():
    world = World()
    for n in range(1_200):
        world.commit(
            (facts.Registered(Instance(key=WEB, id=f"i{n}", address="127.0.0.1", evidence=Evidence(held=True)), True),)
        )
    chunks = list(dump_state(world.state))
    assert sum(chunk[:1] == b"I" for chunk in chunks) == 3
    assert load_state(chunks).instance_count == 1_200


def test_one_space_is_a_state_of_its_own():
    world = World()
    for lease, kind in ((7, LeaseKind.KEYS), (8, LeaseKind.KEYS), (9, LeaseKind.INSTANCE)):
        world.run(commands.GrantLease(id=lease, ttl_ms=60_000, kind=kind))
    for space, key in (("etcd", b"a"), ("etcd", b"a"), ("native", b"other")):
        world.run(commands.Transact(space=space, transaction=Transaction(success=(Put(key, b"v", 7),))))
    world.run(commands.ChangeGuard(space="etcd", order=orders.AddUser("root", b"hash")))
    world.run(commands.ChangeGuard(space="etcd", order=orders.AddKeyRole("root")))
    world.run(commands.Register(key=WEB, id="a", address="127.0.0.1", port=80))
    shown = Tie("etcd", b"all/", "naming", Direction.EXPORT, WEB.namespace, WEB.group)
    world.run(commands.PutLayouts((shown,)))
    chunks, state = dump_space(world.state, "etcd"), world.state
    revision = state.spaces["etcd"].revision
    world.run(commands.Transact(space="etcd", transaction=Transaction(success=(Put(b"late", b""),))))
    world.run(commands.EndLease(id=7))
    part = load_state(chunks)
    assert list(part.spaces) == ["etcd"]
    assert (part.spaces["etcd"].revision, part.position) == (revision, state.position - 2)
    assert [kv.key for kv in part.spaces["etcd"].range(b"\0", b"\0")[0]] == [b"a", b"all/web/a"]
    assert len(part.spaces["etcd"].events(b"a", b"", 1)) == 2
    assert list(part.leases) == [7, 8]
    assert part.leases[7].keys == {("etcd", b"a")}
    assert set(part.guards["etcd"].users) == set(part.guards["etcd"].roles) == {"root"}
    assert not part.services
    assert part.ties is not None
    assert part.ties.all == (shown,)
    assert part.history not in ("", state.history)
    empty = load_state(dump_space(State(), "etcd"))
    assert not empty.spaces
    assert not empty.guards
