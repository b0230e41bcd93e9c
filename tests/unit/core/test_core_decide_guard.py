"""Users, roles, permissions and alarms of a space: rules as etcd has them, limits, and what the facts do."""

from __future__ import annotations

from typing import Any

import pytest
from core_world import World, replay
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.core import EVERYTHING, Decision, Rules, commands
from townhall.core import commands_guard as orders
from townhall.core.codec import dump_state, load_state
from townhall.core.decide_guard import change_guard
from townhall.core.facts_guard import AlarmSet, UserPut
from townhall.core.footprint import footprint
from townhall.core.queries import Reader
from townhall.core.query_guard import GuardReader
from townhall.core.transaction_rules import puts
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import (
    AlreadyExists,
    Conflict,
    InvalidField,
    NotFound,
    OverLimit,
    TooLarge,
    TownhallError,
    Unauthenticated,
)
from townhall.model.guard import ROOT, Alarm, Grants, Permission, User
from townhall.model.keys import Delete, Get, Put, Transaction

READ_R = Permission(b"r/", b"r0", Grants.READ)


def run(world: World, order: orders.GuardOrder) -> Any:
    return world.run(commands.ChangeGuard(space="etcd", order=order))


def guard(world: World) -> GuardReader:
    return world.reader.guard("etcd")


def test_the_order_of_things_until_it_is_on():
    world = World()
    with pytest.raises(Conflict) as refused:
        run(world, orders.SwitchGuard(True))
    assert refused.value.fields["guard"] == "no_root"
    assert run(world, orders.SwitchGuard(False)) is None
    assert not world.state.guards, "what changes nothing is not journaled"
    run(world, orders.AddUser(ROOT, b"h"))
    with pytest.raises(Conflict) as refused:
        run(world, orders.SwitchGuard(True))
    assert refused.value.fields["guard"] == "root_without_role"
    run(world, orders.GrantRole(ROOT, ROOT))
    run(world, orders.SwitchGuard(True))
    assert world.state.guarded == {"etcd"}
    assert world.changes[-1].access
    for order in (orders.DeleteUser(ROOT), orders.DeleteKeyRole(ROOT), orders.RevokeRole(ROOT, ROOT)):
        with pytest.raises(Conflict) as refused:
            run(world, order)
        assert refused.value.fields["guard"] == "root"
    run(world, orders.SwitchGuard(False))
    assert world.state.guarded == frozenset()
    run(world, orders.DeleteUser(ROOT))


def test_the_revision_counts_as_etcd_does():
    """The steps and the number are those of a recording of etcd 3.6."""
    world = World()
    assert guard(world).revision() == 1
    for order in (
        orders.AddUser(ROOT, b"h"),
        orders.AddKeyRole(ROOT),
        orders.AddKeyRole("reader"),
        orders.GrantRole(ROOT, ROOT),
        orders.GrantRole(ROOT, ROOT),
        orders.GrantKeys("reader", READ_R),
        orders.GrantKeys("reader", Permission(b"a", b"", Grants.BOTH)),
        orders.AddUser("amy", b"h"),
        orders.AddUser("cert"),
        orders.AddUser("nopw", b"h"),
        orders.GrantRole("amy", "reader"),
        orders.SwitchGuard(True),
    ):
        run(world, order)
    assert guard(world).revision() == 11
    run(world, orders.ChangePassword("amy", b"n"))
    run(world, orders.SwitchGuard(False))
    assert guard(world).revision() == 13


@pytest.mark.parametrize(
    ("order", "error", "about"),
    [
        (orders.AddUser("", b""), InvalidField, "field"),
        (orders.AddUser("amy", b""), AlreadyExists, "user"),
        (orders.AddUser("x" * (limits.USER_NAME_SIZE_MAX + 1)), TooLarge, "limit"),
        (orders.DeleteUser("zoe"), NotFound, "user"),
        (orders.ChangePassword("zoe", b""), NotFound, "user"),
        (orders.GrantRole("zoe", "reader"), NotFound, "user"),
        (orders.GrantRole("amy", "zzz"), NotFound, "role"),
        (orders.RevokeRole("zoe", "reader"), NotFound, "user"),
        (orders.RevokeRole("amy", "reader"), NotFound, "grant"),
        (orders.AddKeyRole(""), InvalidField, "field"),
        (orders.AddKeyRole("reader"), AlreadyExists, "role"),
        (orders.DeleteKeyRole("zzz"), NotFound, "role"),
        (orders.GrantKeys("zzz", READ_R), NotFound, "role"),
        (orders.GrantKeys("reader", Permission(b"", b"", Grants.READ)), InvalidField, "field"),
        (orders.GrantKeys("reader", Permission(b"b", b"a", Grants.READ)), InvalidField, "field"),
        (orders.GrantKeys("reader", Permission(b"b", b"b", Grants.READ)), InvalidField, "field"),
        (
            orders.GrantKeys("reader", Permission(b"k" * (limits.PERMISSION_SIZE_MAX + 1), b"", Grants.READ)),
            TooLarge,
            "limit",
        ),
        (orders.RevokeKeys("zzz", b"a"), NotFound, "role"),
        (orders.RevokeKeys("reader", b"r/"), NotFound, "permission"),
    ],
)
def test_refusals_say_of_what(order, error, about):
    world = World()
    for step in (orders.AddUser("amy", b"h"), orders.AddKeyRole("reader"), orders.GrantKeys("reader", READ_R)):
        run(world, step)
    with pytest.raises(error) as refused:
        run(world, order)
    assert about in refused.value.fields


def test_permissions_are_ordered_and_replaced():
    world = World()
    run(world, orders.AddKeyRole("r"))
    wider = Permission(b"r/", b"\0", Grants.WRITE)
    single, replaced = Permission(b"a", b"", Grants.BOTH), Permission(b"r/", b"r0", Grants.BOTH)
    for permission in (wider, READ_R, single, replaced):
        run(world, orders.GrantKeys("r", permission))
    assert [(p.key, p.end, p.grants) for p in guard(world).role("r").permissions] == [
        (b"a", b"", Grants.BOTH),
        (b"r/", b"\0", Grants.WRITE),
        (b"r/", b"r0", Grants.BOTH),
    ]
    run(world, orders.RevokeKeys("r", b"r/", b"\0"))
    assert len(guard(world).role("r").permissions) == 2


def test_a_deleted_role_is_taken_from_its_users():
    world = World()
    for order in (
        orders.AddUser("amy", b"h"),
        orders.AddKeyRole("b"),
        orders.AddKeyRole("a"),
        orders.GrantRole("amy", "b"),
        orders.GrantRole("amy", "a"),
    ):
        run(world, order)
    assert guard(world).user("amy").roles == ("a", "b")
    run(world, orders.DeleteKeyRole("b"))
    assert guard(world).user("amy").roles == ("a",)
    run(world, orders.RevokeRole("amy", "a"))
    assert guard(world).user("amy").roles == ()


def test_since_when_a_password_is_theirs():
    world = World()
    run(world, orders.AddUser("amy", b"h"))
    run(world, orders.AddKeyRole("r"))
    assert guard(world).password("amy") == (b"h", 1)
    run(world, orders.GrantRole("amy", "r"))
    assert guard(world).password("amy") == (b"h", 1), "a grant ends no tokens"
    run(world, orders.ChangePassword("amy", b"n"))
    assert guard(world).password("amy") == (b"n", 4)
    run(world, orders.DeleteUser("amy"))
    assert guard(world).password("amy") is None
    run(world, orders.AddUser("amy", b"n"))
    assert guard(world).password("amy") == (b"n", 6), "another one of the same name"
    run(world, orders.AddUser("cert"))
    run(world, orders.ChangePassword("cert", b"x"))
    assert guard(world).user("cert").password == b"", "known by a certificate alone"


def test_limits(monkeypatch):
    for name in ("USERS_COUNT_MAX", "USER_ROLES_MAX", "KEY_ROLES_COUNT_MAX", "KEY_ROLE_PERMISSIONS_MAX"):
        monkeypatch.setattr(limits, name, 1)
    world = World()
    run(world, orders.AddUser("amy"))
    run(world, orders.AddKeyRole("r"))
    run(world, orders.GrantRole("amy", "r"))
    run(world, orders.GrantKeys("r", READ_R))
    run(world, orders.GrantKeys("r", Permission(b"r/", b"r0", Grants.BOTH)))
    for order in (
        orders.AddUser("bob"),
        orders.AddKeyRole("s"),
        orders.GrantRole("amy", ROOT),
        orders.GrantKeys("r", Permission(b"a", b"", Grants.READ)),
    ):
        with pytest.raises(OverLimit):
            run(world, order)
    monkeypatch.setattr(limits, "SPACES_COUNT_MAX", 1)
    with pytest.raises(OverLimit):
        world.run(commands.ChangeGuard(space="other", order=orders.AddUser("amy")))


def test_alarms():
    world = World()
    assert run(world, orders.SetAlarm(Alarm.NO_SPACE, True)) is True
    assert run(world, orders.SetAlarm(Alarm.NO_SPACE, True)) is False
    assert list(guard(world).alarms()) == [Alarm.NO_SPACE]
    assert guard(world).revision() == 1, "no matter of users"
    assert run(world, orders.SetAlarm(Alarm.NO_SPACE, False)) is True
    assert list(guard(world).alarms()) == []


def test_deciding_changes_nothing_and_is_done_alone():
    world = World()
    command = commands.ChangeGuard(space="etcd", order=orders.AddUser("amy", b"h"))
    decision = change_guard(world.state, command, world.context())
    assert decision.facts[0].change == UserPut(User("amy", b"h"), True)  # type: ignore[union-attr]
    assert not world.state.guards
    assert footprint(command, world.state) == EVERYTHING
    assert AlarmSet(Alarm.CORRUPT, True).alarm == 2


def test_who_may_look():
    world = World()
    for order in (
        orders.AddUser(ROOT, b"h"),
        orders.GrantRole(ROOT, ROOT),
        orders.AddUser("amy", b"h"),
        orders.AddKeyRole("r"),
        orders.AddKeyRole("s"),
        orders.GrantRole("amy", "r"),
        orders.SwitchGuard(True),
    ):
        run(world, order)
    amy = Reader(world.state, Actor("user etcd/amy", user=("etcd", "amy"))).guard("etcd")
    assert amy.enabled
    assert amy.user("amy").roles == ("r",)
    assert amy.role("r").name == "r"
    nobody = Reader(world.state, Actor()).guard("etcd")
    for look in (
        lambda g: g.users(),
        lambda g: g.roles(),
        lambda g: g.revision(),
        lambda g: g.user("root"),
        lambda g: g.role("s"),
    ):
        with pytest.raises(TownhallError):
            look(amy)
        with pytest.raises(Unauthenticated):
            look(nobody)
    everything = world.reader.guard("etcd")
    assert (list(everything.users()), list(everything.roles())) == (["amy", "root"], ["r", "s"])
    with pytest.raises(NotFound):
        everything.user("zoe")
    with pytest.raises(NotFound):
        everything.role("zzz")


names = st.sampled_from(["root", "amy", "bob"])
roles = st.sampled_from(["root", "reader", "writer"])
permissions = st.builds(
    Permission, st.sampled_from([b"a", b"b"]), st.sampled_from([b"", b"c", b"\0"]), st.sampled_from(Grants)
)
some_orders = st.one_of(
    st.builds(orders.AddUser, names, st.sampled_from([b"", b"h"])),
    st.builds(orders.DeleteUser, names),
    st.builds(orders.ChangePassword, names, st.just(b"n")),
    st.builds(orders.GrantRole, names, roles),
    st.builds(orders.RevokeRole, names, roles),
    st.builds(orders.AddKeyRole, roles),
    st.builds(orders.DeleteKeyRole, roles),
    st.builds(orders.GrantKeys, roles, permissions),
    st.builds(orders.RevokeKeys, roles, st.sampled_from([b"a", b"b"]), st.sampled_from([b"", b"c"])),
    st.builds(orders.SwitchGuard, st.booleans()),
    st.builds(orders.SetAlarm, st.sampled_from(Alarm), st.booleans()),
)


@given(st.lists(some_orders, max_size=40))
@settings(max_examples=60)
def test_whatever_comes_the_journal_and_a_snapshot_tell_the_same(steps):
    """Invariants are checked after each step: once it is on, root cannot be lost."""
    world = World()
    for order in steps:
        world.decide(commands.ChangeGuard(space="etcd", order=order))
        try:
            run(world, order)
        except TownhallError:
            continue
        guard_now = world.state.guards.get("etcd")
        assert not (guard_now and guard_now.enabled) or ROOT in guard_now.users[ROOT].roles, (
            "nobody could switch it off"
        )
    for again in (replay(world.journal), load_state(dump_state(world.state))):
        again.check()
        assert again.guarded == world.state.guarded
        assert again.guards.keys() == world.state.guards.keys()
        for space, guard_ in world.state.guards.items():
            other = again.guards[space]
            for field in ("enabled", "since", "revision", "users", "roles", "alarms"):
                assert getattr(other, field) == getattr(guard_, field), field


def put(size: int = 1, **fields: bool) -> commands.Transact:
    transaction = Transaction(success=(Put(b"k", b"v" * size),))
    return commands.Transact(space="etcd", transaction=transaction, **fields)


def test_a_full_space_raises_its_alarm_once_and_stays_closed_until_it_is_taken_back():
    world = World(Rules(space_size_max=1_000))
    world.run(put(500))
    refused = world.decide(put(2_000))
    assert isinstance(refused, OverLimit), "who does not ask for an alarm gets none"
    decision = world.decide(put(2_000, alarm=True))
    assert isinstance(decision, Decision)
    assert isinstance(decision.result, OverLimit)
    world.commit(decision.facts)
    assert list(guard(world).alarms()) == [Alarm.NO_SPACE]
    with pytest.raises(OverLimit) as full:
        world.run(put(1))
    assert full.value.fields["space"] == "etcd"
    run(world, orders.SetAlarm(Alarm.NO_SPACE, False))
    world.run(put(1))


def test_what_puts():
    assert puts(Transaction(success=(Put(b"k", b""),)))
    assert puts(Transaction(failure=(Get(b"k"), Transaction(failure=(Put(b"k", b""),)))))
    assert not puts(Transaction(success=(Get(b"k"), Delete(b"k"), Transaction(success=(Get(b"k"),)))))
