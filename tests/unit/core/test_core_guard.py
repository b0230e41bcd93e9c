"""What the permissions of a space's users come to in the one check, and who is stopped by it."""

from __future__ import annotations

import pytest
from core_world import World
from hypothesis import given
from hypothesis import strategies as st

from townhall.core import Rules, commands
from townhall.core import commands_guard as orders
from townhall.core.access import allowed, allowed_range, key_name, resolve, space_end
from townhall.core.guard import Guard, is_guarded, known_user, setting_name
from townhall.core.keyspace import within
from townhall.core.queries import Reader
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.errors import Denied, Unauthenticated
from townhall.model.guard import ROOT, Grants, KeyRole, Permission, User
from townhall.model.keys import Compare, CompareTarget, Delete, Get, Put, Relation, Transaction

K, READ, WRITE = Resource.KEY, Level.READ, Level.WRITE


def change(world: World, *given: orders.GuardOrder, actor: Actor | None = None) -> None:
    for order in given:
        command = commands.ChangeGuard(space="etcd", order=order)
        world.run(command, actor) if actor is not None else world.run(command)


def guarded_world(*permissions: Permission, rules: Rules | None = None) -> World:
    """A space with root, and amy who has these permissions."""
    world = World(rules)
    change(
        world,
        orders.AddUser(ROOT, b"secret"),
        orders.GrantRole(ROOT, ROOT),
        orders.AddUser("amy", b"secret"),
        orders.AddKeyRole("some"),
        *(orders.GrantKeys("some", permission) for permission in permissions),
        orders.GrantRole("amy", "some"),
        orders.SwitchGuard(True),
    )
    return world


def user(world: World, name: str) -> Actor:
    actor = known_user(world.state, "etcd", name, address="127.0.0.1:1", restricted=False)
    assert actor is not None
    return actor


def put(key: bytes, space: str = "etcd", **fields: int) -> commands.Transact:
    return commands.Transact(space=space, transaction=Transaction(success=(Put(key, b"v", **fields),)))


def read(start: bytes, end: bytes = b"") -> commands.Transact:
    return commands.Transact(space="etcd", transaction=Transaction(success=(Get(start, end),)))


keys = st.binary(max_size=2).map(lambda raw: bytes(b"\0a\xff"[byte % 3] for byte in raw))
ends = st.one_of(st.just(b""), st.just(b"\0"), keys)


@given(
    st.lists(st.builds(Permission, keys.filter(bool), ends, st.sampled_from(Grants)), max_size=5),
    keys,
    ends,
    st.sampled_from([READ, WRITE]),
)
def test_rules_grant_exactly_the_keys_of_the_permissions(permissions, start, end, level):
    """Against asking for each key by itself, over all keys of up to three of these bytes."""
    wanted = {READ: (Grants.READ, Grants.BOTH), WRITE: (Grants.WRITE, Grants.BOTH)}[level]
    useful = [p for p in permissions if not p.end or p.end == b"\0" or p.end > p.key]
    guard = Guard("etcd")
    guard.users["u"] = User("u", roles=("r",))
    guard.roles["r"] = KeyRole("r", tuple(useful))
    actor = Actor("u", guard.rules("u"))

    def granted(key: bytes) -> bool:
        return any(p.grants in wanted and within(key, p.key, p.end) for p in useful)

    letters = (b"\0", b"a", b"\xff")
    words = {b""} | set(letters) | {x + y for x in letters for y in letters}
    # What lies between the borders: a key with one more zero byte is the next one there is.
    words |= {word + b"\0" for word in words} | {word + b"\xff" for word in words}
    for key in words:
        assert allowed(actor, K, level, key_name("etcd", key)) is granted(key), key
    if end and (end == b"\0" or start < end):
        told = allowed_range(actor, K, level, key_name("etcd", start), space_end("etcd", end))
        inside = [key for key in words if within(key, start, end)]
        assert not told or all(map(granted, inside))
        if told is False and end != b"\0":
            borders = {start} | {p.key for p in useful} | {p.end or p.key + b"\0" for p in useful}
            assert not all(granted(key) for key in borders if within(key, start, end))


def test_ranges_of_one_level_are_merged_and_others_kept_apart():
    guard = Guard("etcd")
    guard.users["u"] = User("u", roles=("gone", "r"))
    guard.roles["r"] = KeyRole(
        "r",
        (
            Permission(b"a", b"c", Grants.READ),
            Permission(b"b", b"d", Grants.BOTH),
            Permission(b"d", b"", Grants.READ),
            Permission(b"x", b"\0", Grants.WRITE),
        ),
    )
    assert guard.rules("u") == (
        Rule(K, READ, "etcd/a", False, end="etcd/d\0", only=True),
        Rule(K, WRITE, "etcd/b", False, end="etcd/d", only=True),
        Rule(K, WRITE, "etcd/x", False, end="etcd0", only=True),
    )
    assert guard.rules("nobody") == ()
    actor = Actor("u", guard.rules("u"))
    assert not allowed(actor, K, READ, "etcd/xyz"), "writing alone brings no reading"
    assert allowed_range(actor, K, WRITE, "etcd/y", "etcd0")


def test_ranges_count_as_the_shortest_of_rules():
    range_rule = Rule(K, WRITE, "etcd/", False, end="etcd0")
    denied = Actor("t", (range_rule, Rule(K, Level.DENY, "etcd/secret/")))
    assert allowed(denied, K, READ, "etcd/a")
    assert not allowed(denied, K, READ, "etcd/secret/a")
    assert not allowed_range(denied, K, READ, "etcd/", "etcd0")
    assert not allowed(Actor("t", (range_rule, Rule(K, Level.DENY))), K, READ, "etcd/a"), "DENY wins at equal length"


def test_root_is_root_of_its_space_alone():
    world = guarded_world()
    root = user(world, ROOT)
    assert not root.management
    world.run(put(b"k"), root)
    world.run(commands.CompactSpace(space="etcd", revision=2), root)
    change(world, orders.AddUser("bob"), actor=root)
    configured = guarded_world(rules=Rules(access_required=True))
    with pytest.raises(Denied):
        configured.run(commands.PutToken(), user(configured, ROOT))
    with pytest.raises(Denied):
        configured.run(put(b"k", space="consul"), user(configured, ROOT))


def test_a_guard_protects_its_space_while_everything_else_is_free():
    world = guarded_world(Permission(b"r/", b"r0", Grants.READ), Permission(b"a", b"", Grants.BOTH))
    amy, nobody = user(world, "amy"), Actor()
    world.run(put(b"k", space="consul"), nobody)
    world.register("free")
    world.run(put(b"a"), amy)
    world.run(read(b"r/", b"r0"), amy)
    refused = (
        put(b"r/a"),
        read(b"r", b"s"),
        commands.Transact(space="etcd", transaction=Transaction(success=(Delete(b"r/", b"r0"),))),
        commands.Transact(
            space="etcd",
            transaction=Transaction(compares=(Compare(b"zz", CompareTarget.VERSION, Relation.EQUAL, 0),)),
        ),
        commands.CompactSpace(space="etcd", revision=2),
        commands.ChangeGuard(space="etcd", order=orders.SwitchGuard(False)),
    )
    for command in refused:
        with pytest.raises(Denied):
            world.run(command, amy)
        with pytest.raises(Unauthenticated):
            world.run(command, nobody)
    with pytest.raises(Unauthenticated):
        world.run(put(b"a"), nobody)


def test_readers_see_what_their_user_may_read():
    world = guarded_world(Permission(b"r/", b"r0", Grants.READ))
    for key in (b"r/a", b"r/b", b"x"):
        world.run(put(key))
    amy = Reader(world.state, user(world, "amy"), world.rules)
    assert amy.get("etcd", b"r/a") is not None
    assert [kv.key for kv in amy.range("etcd", b"a", b"z").kvs] == [b"r/a", b"r/b"]
    assert [event.key for event in amy.key_events("etcd", b"\0", b"\0", 1)] == [b"r/a", b"r/b"]
    amy.require_range("etcd", b"r/", b"r0")
    with pytest.raises(Denied):
        amy.require_range("etcd", b"r", b"s")
    with pytest.raises(Denied):
        amy.get("etcd", b"x")
    nobody = Reader(world.state, Actor(), world.rules)
    assert nobody.range("etcd", b"\0", b"\0").kvs == []
    assert nobody.may(Resource.SERVICE, WRITE, "default/default/web")
    assert not nobody.may(K, READ, "etcd/x")


def test_a_lease_belongs_to_who_may_write_its_keys():
    world = guarded_world(Permission(b"a", b"", Grants.BOTH))
    amy = user(world, "amy")
    for id_, key in ((7, b"a"), (8, b"b")):
        world.run(commands.GrantLease(id=id_), amy)
        world.run(put(key, lease=id_))
    reader = Reader(world.state, amy, world.rules)
    assert reader.open_leases is None, "each must be asked for"
    reader.require_renewal([7])
    with pytest.raises(Denied):
        reader.require_renewal([8])
    with pytest.raises(Denied):
        world.run(commands.EndLease(id=8), amy)
    world.run(commands.EndLease(id=7), amy)


def test_tokens_of_the_registry_go_on_working():
    world = guarded_world()
    _, manager = world.run(commands.PutToken(management=True))
    world.run(commands.PutPolicy(name="p", rules=(Rule(K, WRITE, "etcd/mine/"),)))
    _, secret = world.run(commands.PutToken(policies=("p",)))

    def who(secret: str) -> Actor:
        return resolve(world.state, world.rules, secret=secret, address="", now_ms=world.now_ms)

    world.run(put(b"mine/x"), who(secret))
    with pytest.raises(Denied):
        world.run(put(b"x"), who(secret))
    world.run(put(b"x"), who(manager))
    change(world, orders.SwitchGuard(False), actor=who(manager))
    world.run(put(b"x"), Actor())
    assert known_user(world.state, "etcd", "amy", address="", restricted=False) is None


def test_what_is_guarded():
    world = guarded_world()
    assert is_guarded(world.state, K, "etcd/k")
    assert not is_guarded(world.state, K, "etcdish/k")
    assert is_guarded(world.state, Resource.OPERATOR, setting_name("etcd"))
    assert not is_guarded(world.state, Resource.OPERATOR, "")
    assert known_user(world.state, "other", "amy", address="", restricted=False) is None
    assert known_user(world.state, "etcd", "zoe", address="", restricted=False) is None
