"""Decisions about tokens and policies, and what their facts do."""

from __future__ import annotations

import pytest
from core_world import World

from townhall.core import Rules, commands, facts
from townhall.core.decide_access import bootstrap_access
from townhall.model import limits
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.errors import AlreadyExists, Conflict, Denied, InvalidField, NotFound, OverLimit, Unauthenticated

RULES = (Rule(Resource.SERVICE, Level.READ),)
OPERATOR = Actor("op", (Rule(Resource.OPERATOR, Level.WRITE),))


def test_bootstrap_once():
    world = World()
    anybody = Actor()
    token, secret = world.run(commands.BootstrapAccess(), anybody)
    assert (token.management, len(token.secret_hash), world.state.access_enabled) == (True, 32, True)
    assert secret
    assert world.changes[-1].access
    with pytest.raises(Conflict):
        world.run(commands.BootstrapAccess(), anybody)


def test_deciding_tells_the_secret_and_the_facts_only_its_hash():
    world = World()
    decision = bootstrap_access(world.state, commands.BootstrapAccess(), world.context())
    token, secret = decision.result
    assert decision.facts == (facts.TokenPut(token), facts.AccessEnabled())
    assert secret.encode() not in repr(decision.facts).encode()
    assert not world.state.access_enabled


def test_make_and_change_a_token():
    world = World()
    world.run(commands.PutPolicy(name="p", rules=RULES))
    token, secret = world.run(commands.PutToken(policies=("p",), description="ci"))
    assert (token.policies, token.created_at, token.expires_at) == (("p",), world.now_ms, 0)
    world.wait(5)
    changed, nothing = world.run(commands.PutToken(id=token.id, description="cd", ttl_ms=10))
    assert nothing == ""
    assert (changed.id, changed.secret_hash, changed.created_at) == (token.id, token.secret_hash, token.created_at)
    assert (changed.policies, changed.expires_at) == ((), world.now_ms + 10)
    assert world.state.tokens[token.id].revision == world.state.position
    assert secret
    with pytest.raises(NotFound):
        world.run(commands.PutToken(id="nobody"))
    with pytest.raises(NotFound):
        world.run(commands.PutToken(policies=("no such policy",)))


def test_a_chosen_id():
    world = World()
    token, _ = world.run(commands.PutToken(new_id="mine"))
    assert token.id == "mine"
    with pytest.raises(AlreadyExists):
        world.run(commands.PutToken(new_id="mine"))
    with pytest.raises(InvalidField):
        world.run(commands.PutToken(id="mine", new_id="other"))


def test_a_chosen_secret():
    world = World()
    secret = "s" * limits.TOKEN_SECRET_SIZE_MIN
    token, told = world.run(commands.PutToken(secret=secret))
    assert told == secret
    with pytest.raises(AlreadyExists):
        world.run(commands.PutToken(secret=secret))
    for wrong in ("s" * (limits.TOKEN_SECRET_SIZE_MIN - 1), "s" * (limits.TOKEN_SECRET_SIZE_MAX + 1)):
        with pytest.raises(InvalidField):
            world.run(commands.PutToken(secret=wrong))
    with pytest.raises(InvalidField):
        world.run(commands.PutToken(id=token.id, secret=secret))


def test_bounds(monkeypatch):
    world = World()
    with pytest.raises(InvalidField):
        world.run(commands.PutToken(policies=("p",) * (limits.TOKEN_POLICIES_MAX + 1)))
    with pytest.raises(InvalidField):
        world.run(commands.PutToken(ttl_ms=-1))
    with pytest.raises(InvalidField):
        world.run(commands.PutPolicy(name="p", rules=RULES * (limits.POLICY_RULES_MAX + 1)))
    for name in ("", "p" * (limits.LABEL_SIZE_MAX + 1)):
        with pytest.raises(InvalidField):
            world.run(commands.PutPolicy(name=name, rules=RULES))
    monkeypatch.setattr(limits, "TOKENS_COUNT_MAX", 1)
    monkeypatch.setattr(limits, "POLICIES_COUNT_MAX", 1)
    world.run(commands.PutToken())
    world.run(commands.PutPolicy(name="p", rules=RULES))
    world.run(commands.PutPolicy(name="p", rules=()))
    with pytest.raises(OverLimit):
        world.run(commands.PutToken())
    with pytest.raises(OverLimit):
        world.run(commands.PutPolicy(name="q", rules=RULES))


def test_the_last_management_token_stays():
    world = World()
    first, _ = world.run(commands.BootstrapAccess())
    for command in (
        commands.DeleteToken(id=first.id),
        commands.PutToken(id=first.id),
        commands.PutToken(id=first.id, management=True, ttl_ms=5),
    ):
        with pytest.raises(Conflict):
            world.run(command)
    mortal, _ = world.run(commands.PutToken(management=True, ttl_ms=5))
    with pytest.raises(Conflict):
        world.run(commands.DeleteToken(id=first.id))
    world.run(commands.DeleteToken(id=mortal.id))
    world.run(commands.PutToken(management=True))
    world.run(commands.DeleteToken(id=first.id))
    with pytest.raises(NotFound):
        world.run(commands.DeleteToken(id=first.id))


def test_an_operator_does_not_raise_itself():
    world = World()
    world.run(commands.BootstrapAccess())
    with pytest.raises(Denied):
        world.run(commands.PutToken(management=True), OPERATOR)
    world.run(commands.PutToken(), OPERATOR)
    with pytest.raises(Unauthenticated):
        world.run(commands.PutToken(), Actor())
    with pytest.raises(Denied):
        world.run(commands.PutPolicy(name="p", rules=RULES), Actor("t", RULES))


def test_policies():
    world = World()
    policy = world.run(commands.PutPolicy(name="p", rules=RULES, description="d"))
    assert world.state.policies["p"].revision == world.state.position == 1
    world.run(commands.PutPolicy(name="p", rules=RULES, description="d"))
    assert world.state.position == 1
    assert policy.rules == RULES
    world.run(commands.DeletePolicy(name="p"))
    assert world.state.policies == {}
    with pytest.raises(NotFound):
        world.run(commands.DeletePolicy(name="p"))


def test_roles():
    world = World()
    with pytest.raises(NotFound):
        world.run(commands.PutRole(name="r", policies=("p",)))
    world.run(commands.PutPolicy(name="p", rules=RULES))
    role = world.run(commands.PutRole(name="r", policies=("p",), description="d"))
    assert (role.policies, world.state.roles["r"].revision) == (("p",), world.state.position)
    position = world.state.position
    world.run(commands.PutRole(name="r", policies=("p",), description="d"))
    assert world.state.position == position, "the same again is not journaled"
    token, _ = world.run(commands.PutToken(roles=("r",), rules=RULES, extra={"k": "v"}))
    changed, _ = world.run(commands.PutToken(id=token.id, description="d"))
    assert (changed.roles, changed.rules, changed.extra) == (("r",), RULES, {"k": "v"}), "what is not given is kept"
    changed, _ = world.run(commands.PutToken(id=token.id, roles=()))
    assert changed.roles == ()
    with pytest.raises(NotFound):
        world.run(commands.PutToken(roles=("ghost",)))
    world.run(commands.DeleteRole(name="r"))
    with pytest.raises(NotFound):
        world.run(commands.DeleteRole(name="r"))


def test_bounds_of_roles(monkeypatch):
    world = World()
    large = {"k": "v" * limits.ACCESS_EXTRA_SIZE_MAX}
    for command in (
        commands.PutRole(name=""),
        commands.PutRole(name="r", policies=("p",) * (limits.TOKEN_POLICIES_MAX + 1)),
        commands.PutRole(name="r", rules=RULES * (limits.POLICY_RULES_MAX + 1)),
        commands.PutRole(name="r", extra=large),
        commands.PutPolicy(name="p", rules=(), extra=large),
        commands.PutToken(extra=large),
        commands.PutToken(roles=("r",) * (limits.TOKEN_ROLES_MAX + 1)),
    ):
        with pytest.raises(InvalidField):
            world.run(command)
    monkeypatch.setattr(limits, "ROLES_COUNT_MAX", 1)
    world.run(commands.PutRole(name="r"))
    with pytest.raises(OverLimit):
        world.run(commands.PutRole(name="q"))


def test_nobody_draws_a_management_token_beside_a_configured_one():
    world = World(Rules(access_required=True))
    world.run(commands.PutToken(management=True))
    with pytest.raises(Conflict):
        world.run(commands.BootstrapAccess(), Actor(restricted=True))
    assert len(world.state.tokens) == 1
