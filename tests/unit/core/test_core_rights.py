"""Every command needs its rights, and decide asks for them first."""

from __future__ import annotations

import typing

import pytest
from core_world import WEB, World

from townhall.core import Rules, commands
from townhall.core.access import space_end
from townhall.core.commands_guard import SwitchGuard
from townhall.core.rights import RIGHTS, check
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.check import CheckStatus
from townhall.model.errors import Denied, TownhallError, Unauthenticated
from townhall.model.instance import Verdict
from townhall.model.keys import Compare, CompareTarget, Delete, Get, Put, Relation, Transaction
from townhall.model.lease import LeaseKind

SERVICE = Rule(Resource.SERVICE, Level.WRITE, "default/default/web", prefix=False)
OPERATOR = Rule(Resource.OPERATOR, Level.WRITE)
AGENT = Rule(Resource.AGENT, Level.WRITE)
SESSION = Rule(Resource.SESSION, Level.WRITE, "node-1")
NODE = Rule(Resource.NODE, Level.WRITE, "node-1", prefix=False)
KEY = Rule(Resource.KEY, Level.WRITE, "native/k")
NEEDS = (
    (commands.Register(key=WEB, id="a", address="127.0.0.1"), SERVICE),
    (commands.Deregister(key=WEB, id="a"), SERVICE),
    (commands.PatchInstance(key=WEB, id="a"), SERVICE),
    (commands.SetOverride(key=WEB, id="a", verdict=Verdict.UP), SERVICE),
    (commands.SetMaintenance(key=WEB, id="a", reason=None), SERVICE),
    (commands.StartDrain(key=WEB, id="a"), SERVICE),
    (commands.CancelDrain(key=WEB, id="a"), SERVICE),
    (commands.MarkReported(key=WEB, id="a", incarnation=1, report=""), AGENT),
    (commands.PutService(key=WEB), SERVICE),
    (commands.DeleteService(key=WEB), SERVICE),
    (commands.GrantLease(), None),
    (commands.EndLease(id=7), SERVICE),
    (commands.LapseLeases(leases=()), AGENT),
    (commands.RecoverLease(id=7), SERVICE),
    (commands.SetConnection(leases=(7,), up=True), SERVICE),
    (commands.Sweep(count_max=1), AGENT),
    (commands.TakeOverLeases(), AGENT),
    (commands.OpenSession(node="node-1"), SESSION),
    (commands.CloseSession(id="s1"), SESSION),
    (commands.Transact(space="native", transaction=Transaction(success=(Put(b"k", b"v"),))), KEY),
    (commands.CompactSpace(space="native", revision=1), OPERATOR),
    (commands.ChangeGuard(space="etcd", order=SwitchGuard(True)), OPERATOR),
    (commands.PutToken(), OPERATOR),
    (commands.DeleteToken(id="t"), OPERATOR),
    (commands.PutPolicy(name="p", rules=()), OPERATOR),
    (commands.DeletePolicy(name="p"), OPERATOR),
    (commands.PutRole(name="r"), OPERATOR),
    (commands.DeleteRole(name="r"), OPERATOR),
    (commands.PutNode(name="node-1"), NODE),
    (commands.DeleteNode(name="node-1"), NODE),
    (commands.PutCheck(node="node-1", id="c"), NODE),
    (commands.PutCheck(node="node-1", id="d", key=WEB, instance="a"), SERVICE),
    (commands.DeleteCheck(node="node-1", id="c"), NODE),
    (commands.SetCheck(node="node-1", id="c", status=CheckStatus.PASSING), NODE),
    (commands.SetCheck(node="node-1", id="mine", status=CheckStatus.PASSING), SERVICE),
    (commands.PutLayouts(()), OPERATOR),
    (commands.Restore(chunks=()), OPERATOR),
    (commands.Together(commands=(commands.PutNode(name="node-1"),)), NODE),
)


def world_on() -> World:
    world = World()
    world.run(commands.GrantLease(id=7))
    world.register("a", lease=7)
    world.run(commands.OpenSession(id="s1", node="node-1"))
    world.run(commands.PutCheck(node="node-1", id="mine", key=WEB, instance="a"))
    world.run(commands.BootstrapAccess())
    return world


def test_the_table_is_complete():
    assert RIGHTS.keys() == set(typing.get_args(commands.Command))
    assert {type(command) for command, _ in NEEDS} == RIGHTS.keys() - {commands.BootstrapAccess}


@pytest.mark.parametrize(("command", "rule"), NEEDS, ids=lambda value: type(value).__name__)
def test_what_each_command_needs(command, rule):
    world = world_on()
    with pytest.raises(Unauthenticated):
        check(world.state, command, Actor())
    assert isinstance(world.decide(command, Actor()), Unauthenticated)
    check(world.state, command, Actor("t", (rule,) if rule else ()))
    check(world.state, command, Actor(management=True))
    check(world.state, command, Actor(internal=True))
    if rule is not None:
        with pytest.raises(Denied):
            check(world.state, command, Actor("t"))


def test_nothing_is_asked_while_access_is_off():
    world = World()
    decision = world.decide(commands.PutToken(), Actor())
    assert not isinstance(decision, TownhallError)
    strict = World(Rules(access_required=True))
    assert isinstance(strict.decide(commands.PutToken(), Actor()), Unauthenticated)
    assert not isinstance(strict.decide(commands.BootstrapAccess(), Actor()), TownhallError)


def test_a_lease_is_guarded_by_what_hangs_on_it():
    world = world_on()
    world.run(commands.GrantLease(id=8, kind=LeaseKind.KEYS))
    world.run(commands.Transact(space="native", transaction=Transaction(success=(Put(b"k", b"v", lease=8),))))
    session = world.run(commands.OpenSession(node="node-1", ttl_ms=10_000))
    lease = world.state.sessions[session].lease
    for lease_id, rule in ((8, KEY), (lease, SESSION)):
        with pytest.raises(Denied):
            check(world.state, commands.EndLease(id=lease_id), Actor("t", (SERVICE,)))
        check(world.state, commands.EndLease(id=lease_id), Actor("t", (rule,)))
    check(world.state, commands.EndLease(id=999), Actor("t"))
    check(world.state, commands.CloseSession(id="s1"), Actor("t", (SESSION,)))


@pytest.mark.parametrize(
    ("operation", "fits"),
    [
        (Get(b"app/x"), True),
        (Get(b"app/", end=b"app0"), True),
        (Get(b"a", end=b"b"), False),
        (Get(b"\0", end=b"\0"), False),
        (Put(b"app/x", b""), False),
        (Put(b"app/w/x", b""), True),
        (Delete(b"app/w/", end=b"app/w0"), True),
        (Delete(b"app/", end=b"app0"), False),
        (Transaction(compares=(Compare(b"b", CompareTarget.MOD, Relation.EQUAL, 0),)), False),
        (Transaction(failure=(Put(b"app/w/x", b""),)), True),
    ],
)
def test_a_transaction_needs_rights_on_all_it_may_touch(operation, fits):
    world = world_on()
    rules = (Rule(Resource.KEY, Level.READ, "native/app/"), Rule(Resource.KEY, Level.WRITE, "native/app/w/"))
    command = commands.Transact(space="native", transaction=Transaction(success=(operation,)))
    if fits:
        check(world.state, command, Actor("t", rules))
    else:
        with pytest.raises(Denied):
            check(world.state, command, Actor("t", rules))
    with pytest.raises(Denied):
        check(world.state, commands.Transact(space="other", transaction=command.transaction), Actor("t", rules))


def test_the_end_of_a_space():
    assert space_end("native", b"\0") == "native0"
    assert space_end("native", b"b") == "native/b"
