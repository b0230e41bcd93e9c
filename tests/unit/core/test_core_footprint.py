"""Commands whose footprints do not meet may be decided side by side."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from core_world import WEB, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.core import EVERYTHING, Decision, KeyRange, Rules, Shared, commands
from townhall.core.claims import Claims
from townhall.core.footprint import _TABLE, footprint
from townhall.core.state import State
from townhall.model.check import CheckStatus
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey, ServiceSettings, Verdict
from townhall.model.keys import Compare, CompareTarget, Delete, Get, Put, Relation, Transaction
from townhall.model.lease import LeaseKind
from townhall.model.tie import Direction, Tie

DB = ServiceKey("default", "default", "db")


def test_every_command_has_one():
    assert _TABLE.keys() == set(typing.get_args(commands.Command))


def test_registrations_of_one_service_share_a_commit():
    state = State()
    claims = Claims()
    for id_ in "abc":
        assert claims.admit(footprint(commands.Register(key=WEB, id=id_, address="127.0.0.1"), state))
    assert not claims.admit(footprint(commands.Register(key=WEB, id="a", address="127.0.0.1"), state))


def test_many_instances_on_one_lease_share_a_commit_but_not_with_its_end():
    world = World()
    world.run(commands.GrantLease(id=7))
    claims = Claims()
    for id_ in "abc":
        register = commands.Register(key=WEB, id=id_, address="127.0.0.1", lease=7)
        assert Shared(("lease", 7)) in footprint(register, world.state)
        assert claims.admit(footprint(register, world.state))
    assert not claims.admit(footprint(commands.EndLease(id=7), world.state))


@pytest.mark.parametrize(
    "command",
    [
        commands.LapseLeases(leases=()),
        commands.Sweep(count_max=1),
        commands.SetConnection(leases=(1,), up=False),
        commands.MarkReported(key=WEB, id="a", incarnation=1, report="failed"),
        commands.DeleteService(key=WEB),
        commands.TakeOverLeases(),
        commands.BootstrapAccess(),
        commands.PutPolicy(name="p", rules=()),
        commands.PutRole(name="r"),
    ],
)
def test_what_asks_the_floor_or_touches_everything_is_decided_alone(command):
    assert footprint(command, State()) == EVERYTHING


def test_a_lease_with_much_on_it_ends_alone():
    world = World()
    world.run(commands.GrantLease(id=7))
    world.register("a", lease=7)
    assert (WEB, "a") in footprint(commands.EndLease(id=7), world.state)
    for n in range(100):
        world.register(f"i{n}", lease=7)
    assert footprint(commands.EndLease(id=7), world.state) == EVERYTHING
    assert footprint(commands.EndLease(id=99), world.state) == frozenset({("lease", 99)})


keys = st.sampled_from((WEB, DB))
ids = st.sampled_from("abc")
leases = st.sampled_from((0, 0, 1, 2, 1001, 1002, 1003))
claims_ = st.sampled_from(("", "p1", "p2"))
some_commands = st.one_of(
    st.builds(
        commands.Register,
        key=keys,
        id=ids,
        address=st.just("127.0.0.1"),
        claim=claims_,
        lease=leases,
        weight=st.sampled_from((1.0, 2.0)),
        ttl_ms=st.sampled_from((0, 5_000, 9_000)),
    ),
    st.builds(commands.Register, key=keys, id=ids, address=st.just("127.0.0.2"), persistent=st.just(True)),
    st.builds(commands.Deregister, key=keys, id=ids, claim=claims_),
    st.builds(commands.PatchInstance, key=keys, id=ids, weight=st.sampled_from((1.0, 3.0))),
    st.builds(commands.SetOverride, key=keys, id=ids, verdict=st.sampled_from((None, Verdict.DOWN))),
    st.builds(commands.SetMaintenance, key=keys, id=ids, reason=st.sampled_from((None, "disk"))),
    st.builds(commands.StartDrain, key=keys, id=ids),
    st.builds(commands.CancelDrain, key=keys, id=ids),
    st.builds(commands.MarkReported, key=keys, id=ids, incarnation=st.integers(1, 9), report=st.just("failed")),
    st.builds(commands.PutService, key=keys, settings=st.builds(ServiceSettings, drain_deadline_ms=st.just(5))),
    st.builds(commands.DeleteService, key=keys),
    st.builds(commands.GrantLease, id=st.sampled_from((1, 2)), kind=st.sampled_from(LeaseKind)),
    st.builds(commands.EndLease, id=leases),
    st.builds(commands.LapseLeases, leases=st.lists(st.tuples(leases, st.just(1)), max_size=3).map(tuple)),
    st.builds(commands.RecoverLease, id=leases),
    st.builds(commands.SetConnection, leases=st.lists(leases, max_size=3).map(tuple), up=st.booleans()),
    st.builds(commands.Sweep, count_max=st.just(10)),
    st.builds(
        commands.Transact,
        space=st.just("native"),
        transaction=st.builds(
            Transaction,
            success=st.tuples(
                st.one_of(
                    st.builds(Put, key=st.sampled_from((b"k1", b"k2")), value=st.just(b"v"), lease=leases),
                    st.builds(Delete, key=st.sampled_from((b"k1", b"k2"))),
                    st.just(Get(b"k1", end=b"k3")),
                )
            ),
        ),
    ),
    st.builds(commands.OpenSession, id=st.sampled_from(("s1", "s2")), ttl_ms=st.sampled_from((0, 5_000))),
    st.builds(commands.CloseSession, id=st.sampled_from(("s1", "s2"))),
)


def shown(decision: Decision | TownhallError) -> Any:
    return decision.code if isinstance(decision, TownhallError) else decision.facts


def run(world: World, command: Any) -> None:
    decision = world.decide(command)
    if isinstance(decision, Decision) and decision.facts:
        world.commit(decision.facts)


TIES = (
    Tie("etcd", b"service/", "naming", Direction.IMPORT),
    Tie("etcd", b"all/", "naming", Direction.EXPORT),
    Tie("etcd", b"go/", "go-zero", Direction.EXPORT),
)
instances_as_keys = st.builds(
    Put,
    key=st.sampled_from((b"service/web/a", b"service/web/b", b"service/db/a")),
    value=st.sampled_from((b'{"Addr":"127.0.0.1:1"}', b'{"Addr":"127.0.0.1:2"}', b"no instance")),
    lease=st.sampled_from((0, 0, 1, 2, 1001)),
)
shown_keys = st.sampled_from((b"all/web/a", b"all/web/b", b"all/db/a", b"go/web/a", b"all/web/etcd:service%2Fweb%2Fa"))
seen = st.builds(
    Compare,
    key=shown_keys,
    target=st.just(CompareTarget.VERSION),
    relation=st.sampled_from((Relation.EQUAL, Relation.GREATER)),
    value=st.integers(0, 2),
)
all_seen = st.just(Compare(b"all/", CompareTarget.VERSION, Relation.GREATER, 0, b"all0"))
nodes = st.sampled_from(("m", "n"))
statuses = st.sampled_from((CheckStatus.PASSING, CheckStatus.CRITICAL))
some_tied_commands = st.one_of(
    some_commands,
    st.builds(
        commands.Register,
        key=keys,
        id=ids,
        address=st.just("127.0.0.1"),
        port=st.sampled_from((80, 81)),
        node=st.sampled_from(("", "m")),
        lease=leases,
    ),
    st.builds(
        commands.Transact,
        space=st.just("etcd"),
        transaction=st.builds(Transaction, success=st.tuples(instances_as_keys)),
    ),
    st.builds(
        commands.Transact,
        space=st.just("etcd"),
        transaction=st.builds(
            Transaction,
            compares=st.tuples(st.one_of(seen, all_seen)),
            success=st.just((Put(b"mark", b"yes"),)),
            failure=st.one_of(
                st.just((Delete(b"service/", b"service0"),)),
                st.builds(Delete, key=shown_keys).map(lambda delete: (delete,)),
            ),
        ),
    ),
    st.builds(commands.Deregister, key=keys, id=st.just("etcd:service/web/a")),
    st.builds(commands.Register, key=keys, id=st.just("etcd:service/web/a"), address=st.just("127.0.0.1")),
    st.builds(commands.SetMaintenance, key=keys, id=st.just("etcd:service/web/a"), reason=st.sampled_from((None, "x"))),
    st.builds(commands.PutNode, name=nodes, address=st.just("127.0.0.1")),
    st.builds(commands.PutCheck, node=nodes, id=st.just("c"), status=statuses),
    st.builds(commands.PutCheck, node=nodes, id=st.just("d"), status=statuses, key=keys, instance=ids),
    st.builds(commands.SetCheck, node=nodes, id=st.sampled_from(("c", "d")), status=statuses),
    st.builds(commands.DeleteCheck, node=nodes, id=st.sampled_from(("c", "d"))),
    st.builds(commands.DeleteNode, name=nodes),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(some_commands, max_size=14), st.lists(some_commands, min_size=2, max_size=8))
def test_side_by_side_as_in_turn(before, group):
    side_by_side_as_in_turn(before, group)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(some_tied_commands, max_size=14), st.lists(some_tied_commands, min_size=2, max_size=8))
def test_side_by_side_as_in_turn_while_keys_are_tied(before, group):
    side_by_side_as_in_turn([commands.PutLayouts(TIES), *before], group)


STANDING = (
    commands.PutLayouts(TIES),
    commands.GrantLease(id=1),
    commands.GrantLease(id=2, kind=LeaseKind.KEYS),
    commands.PutNode(name="m"),
    commands.Register(key=WEB, id="a", address="127.0.0.1", port=80, lease=1),
    commands.Register(key=WEB, id="b", address="127.0.0.1", port=80, node="m"),
    commands.Transact(
        space="etcd",
        transaction=Transaction(success=(Put(b"service/web/a", b'{"Addr":"127.0.0.1:1"}', lease=2),)),
    ),
    commands.SetConnection(leases=(1,), up=False),
    commands.PutCheck(node="m", id="c", status=CheckStatus.CRITICAL),
)
of_the_standing = st.one_of(
    st.builds(commands.Register, key=st.just(WEB), id=ids, address=st.just("127.0.0.1"), port=st.just(81)),
    st.builds(commands.Deregister, key=st.just(WEB), id=st.sampled_from(("a", "b", "etcd:service/web/a"))),
    st.builds(commands.SetMaintenance, key=st.just(WEB), id=st.sampled_from(("a", "b")), reason=st.just("x")),
    st.builds(commands.RecoverLease, id=st.just(1)),
    st.builds(commands.SetConnection, leases=st.just((1,)), up=st.just(True)),
    st.builds(commands.EndLease, id=st.sampled_from((1, 2))),
    st.builds(commands.SetCheck, node=st.just("m"), id=st.just("c"), status=statuses),
    st.builds(commands.DeleteCheck, node=st.just("m"), id=st.just("c")),
    st.builds(commands.PutCheck, node=st.just("m"), id=st.just("d"), status=statuses),
    st.builds(commands.PutCheck, node=nodes, id=st.just("e"), status=statuses, key=st.just(WEB), instance=ids),
    st.builds(
        commands.Transact,
        space=st.just("etcd"),
        transaction=st.builds(Transaction, success=st.tuples(instances_as_keys)),
    ),
)
looks = st.builds(
    commands.Transact,
    space=st.just("etcd"),
    transaction=st.builds(Transaction, compares=st.tuples(seen), success=st.just((Put(b"mark", b"yes"),))),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(of_the_standing, max_size=1), of_the_standing, looks)
def test_who_looks_at_a_shown_key_sees_it_before_or_after(more, change, look):
    side_by_side_as_in_turn([*STANDING, *more], [change, look])


def test_deregistering_a_key_and_writing_it_are_one_after_the_other():
    gone = commands.Deregister(key=WEB, id="etcd:service/web/a")
    absent = Compare(b"service/web/a", CompareTarget.VERSION, Relation.EQUAL, 0)
    look = commands.Transact(
        space="etcd", transaction=Transaction(compares=(absent,), success=(Put(b"mark", b"gone"),))
    )
    side_by_side_as_in_turn(STANDING, [gone, look])
    put = commands.Transact(space="etcd", transaction=Transaction(success=(Put(b"service/web/a", b""),)))
    side_by_side_as_in_turn(STANDING, [put, commands.Register(key=WEB, id="etcd:service/web/a", address="127.0.0.1")])


def test_a_registration_claims_the_keys_that_show_it():
    world = World()
    world.run(commands.PutLayouts(TIES))
    register = commands.Register(key=WEB, id="a", address="127.0.0.1")
    assert {KeyRange("etcd", b"all/web/a"), KeyRange("etcd", b"go/web/a")} <= footprint(register, world.state)
    put = commands.Transact(space="etcd", transaction=Transaction(success=(Put(b"service/web/a", b""),)))
    shown = KeyRange("etcd", b"all/web/etcd:service%2Fweb%2Fa")
    assert {(WEB, "etcd:service/web/a"), shown} <= footprint(put, world.state)


def side_by_side_as_in_turn(before, group):
    rules = Rules(floor_instances_min=2, registry_floor_instances_min=3)
    side, turn = World(rules), World(rules)
    for command in before:
        for world in (side, turn):
            run(world, command)
            world.wait(500)
    for world in (side, turn):
        world.ids.skip_leases(5_000)  # Nobody can name an id before it is drawn.
    claims = Claims()
    admitted = [command for command in group if claims.admit(footprint(command, side.state))]
    decided = [(command, side.decide(command)) for command in admitted]
    for command, decision in decided:
        in_turn = turn.decide(command)
        assert shown(in_turn) == shown(decision)
        for world, accepted in ((turn, in_turn), (side, decision)):
            if isinstance(accepted, Decision) and accepted.facts:
                world.commit(accepted.facts)
                world.state.check()
    assert side.journal == turn.journal
