"""Who may do what: the matching of rules, by table, and the resolving of secrets."""

from __future__ import annotations

import pytest
from core_world import World

from townhall.core import Rules, commands
from townhall.core.access import (
    allowed,
    allowed_range,
    enforced,
    hash_secret,
    key_name,
    refuse,
    resolve,
    service_name,
)
from townhall.core.queries import Reader
from townhall.model import limits
from townhall.model.access import ANONYMOUS, Actor, Level, Resource, Rule
from townhall.model.errors import Denied, Unauthenticated
from townhall.model.instance import ServiceKey

S, K = Resource.SERVICE, Resource.KEY
DENY, READ, WRITE = Level.DENY, Level.READ, Level.WRITE
POLICY = (
    Rule(S, READ),
    Rule(S, WRITE, "default/default/web"),
    Rule(S, DENY, "default/default/web-secret"),
    Rule(S, READ, "default/default/web", prefix=False),
    Rule(K, WRITE, "native/app/"),
    Rule(K, DENY, "native/app/locked/"),
    Rule(K, READ, "native/app/locked/door", prefix=False),
    Rule(Resource.AGENT, READ),
    Rule(Resource.AGENT, DENY),
)
TABLE = (
    (S, READ, "default/default/db", True),
    (S, WRITE, "default/default/db", False),
    (S, WRITE, "default/default/web-1", True),
    (S, READ, "default/default/web-secret-1", False),
    # The exact rule and the prefix are of equal length, so the higher level holds.
    (S, WRITE, "default/default/web", True),
    (K, WRITE, "native/app/x", True),
    (K, READ, "native/app/locked/window", False),
    (K, READ, "native/app/locked/door", True),
    (K, READ, "native/app/locked/doormat", False),
    (K, WRITE, "native/app/locked/door", False),
    (K, READ, "native/other", False),
    (K, READ, "consul/app/x", False),
    # DENY wins at equal length.
    (Resource.AGENT, READ, "", False),
    (Resource.OPERATOR, READ, "", False),
)


@pytest.mark.parametrize(("resource", "level", "name", "expected"), TABLE)
def test_rules(resource, level, name, expected):
    assert allowed(Actor("t", POLICY), resource, level, name) is expected
    assert allowed(Actor("t", tuple(reversed(POLICY))), resource, level, name) is expected, "order does not matter"
    assert allowed(Actor(management=True), resource, level, name)
    assert allowed(Actor(internal=True), resource, level, name)
    assert not allowed(Actor(), resource, level, name)


@pytest.mark.parametrize(
    ("level", "start", "end", "expected"),
    [
        (WRITE, "native/app/a", "native/app/b", True),
        (WRITE, "native/app/", "native/app0", False),
        (READ, "native/app/locked/door", "native/app/locked/door\0", True),
        (READ, "native/app/locked/door", "native/app/locked/door\1", False),
        (WRITE, "native/app/m", "native/app0", True),
        (WRITE, "native/app/m", "native/b", False),
        (READ, "native/", "native0", False),
    ],
)
def test_rights_on_ranges(level, start, end, expected):
    assert allowed_range(Actor("t", POLICY), K, level, start, end) is expected


def test_a_right_on_everything():
    everything = Actor("t", (Rule(K, WRITE),))
    assert allowed_range(everything, K, WRITE, "native/", "native0")
    assert allowed_range(everything, K, WRITE, "native/\xff", "native/\xff\xff")
    assert not allowed_range(Actor("t", (*everything.rules, Rule(K, DENY, "\U0010ffff"))), K, READ, "a", "\U0010ffff\1")
    assert allowed_range(Actor(internal=True), K, WRITE, "a", "b")


def test_names():
    assert service_name(ServiceKey("ns", "g", "web")) == "ns/g/web"
    assert key_name("native", b"a\xff") == "native/a\xff"


def test_refusals_tell_what_is_missing():
    with pytest.raises(Unauthenticated) as unknown:
        refuse(Actor(), S, READ, "default/default/web")
    assert unknown.value.fields["right"] == "read"
    with pytest.raises(Denied) as denied:
        refuse(Actor("t"), K, WRITE, "native/k")
    assert denied.value.fields == {"right": "write", "resource": "key:native/k"}


def test_while_access_is_off_everybody_is_free():
    world = World()
    assert not enforced(world.state, world.rules)
    actor = resolve(world.state, world.rules, secret="who knows", address="127.0.0.1:1", now_ms=0)
    assert (actor.token_id, actor.address, actor.restricted) == ("", "127.0.0.1:1", False)
    assert Reader(world.state, actor).may(Resource.OPERATOR, WRITE, "")


def test_configuration_may_demand_tokens():
    world = World(Rules(access_required=True))
    assert enforced(world.state, world.rules)
    actor = resolve(world.state, world.rules, secret="", address="", now_ms=0)
    assert not Reader(world.state, actor).may(S, READ, "default/default/web")
    with pytest.raises(Unauthenticated):
        world.run(commands.PutService(key=ServiceKey("default", "default", "web")), actor)


def test_resolving():
    world = World()
    token, secret = world.run(commands.BootstrapAccess())
    world.run(commands.PutPolicy(name="web", rules=(Rule(S, WRITE, "default/default/web"),)))
    mortal, mortal_secret = world.run(commands.PutToken(policies=("web",), ttl_ms=1_000))
    assert token.secret_hash == hash_secret(secret)

    def who(secret: str) -> Actor:
        return resolve(world.state, world.rules, secret=secret, address="", now_ms=world.now_ms)

    assert who(secret).management
    assert who(mortal_secret) == Actor(mortal.id, (Rule(S, WRITE, "default/default/web"),), restricted=True)
    assert not Reader(world.state, who("")).may(S, READ, "default/default/web")
    for wrong in ("wrong", secret + "x", "x" * (limits.TOKEN_SECRET_SIZE_MAX + 1)):
        with pytest.raises(Unauthenticated):
            who(wrong)
    world.run(commands.DeletePolicy(name="web"))
    assert who(mortal_secret).rules == ()
    world.wait(1_000)
    with pytest.raises(Unauthenticated):
        who(mortal_secret)


def test_an_expired_token_is_nobody_while_access_is_off():
    world = World()
    _, secret = world.run(commands.PutToken(management=True, ttl_ms=1))
    known = resolve(world.state, world.rules, secret=secret, address="", now_ms=world.now_ms)
    assert known.management
    assert resolve(world.state, world.rules, secret=secret, address="", now_ms=world.now_ms + 1).token_id == ""


def test_a_token_has_the_rights_of_its_roles_and_its_own():
    world = World()
    one, two, own = Rule(S, READ, "a"), Rule(S, READ, "b"), Rule(K, READ, "native/")
    world.run(commands.PutPolicy(name="one", rules=(one,)))
    world.run(commands.PutRole(name="r", policies=("one",), rules=(two,)))
    _, secret = world.run(commands.PutToken(policies=("one",), roles=("r",), rules=(own,)))

    def rules():
        return resolve(world.state, world.rules, secret=secret, address="", now_ms=world.now_ms).rules

    assert sorted(rules(), key=str) == sorted((one, two, own), key=str), "a policy that comes by two ways counts once"
    world.run(commands.DeletePolicy(name="one"))
    assert sorted(rules(), key=str) == sorted((two, own), key=str)
    world.run(commands.DeleteRole(name="r"))
    assert rules() == (own,)


def test_everybody_has_the_rights_of_the_anonymous_token():
    world = World()
    world.run(commands.PutToken(new_id=ANONYMOUS, rules=(Rule(S, READ, "a"),)))
    world.run(commands.BootstrapAccess())
    actor = resolve(world.state, world.rules, secret="", address="", now_ms=world.now_ms)
    assert actor.token_id == ""
    assert allowed(actor, S, READ, "a")
    assert not allowed(actor, S, WRITE, "a")
