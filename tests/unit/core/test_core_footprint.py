"""Commands whose footprints do not meet may be decided side by side."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from core_world import WEB, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.core import EVERYTHING, Decision, Rules, Shared, commands
from townhall.core.claims import Claims
from townhall.core.footprint import _TABLE, footprint
from townhall.core.state import State
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey, ServiceSettings, Verdict
from townhall.model.keys import Delete, Get, Put, Transaction
from townhall.model.lease import LeaseKind

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


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(some_commands, max_size=14), st.lists(some_commands, min_size=2, max_size=8))
def test_side_by_side_as_in_turn(before, group):
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
