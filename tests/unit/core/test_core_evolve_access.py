"""What facts do to tokens and policies."""

from __future__ import annotations

from core_world import World

from townhall.core import Changes, facts
from townhall.core.evolve_access import token_put
from townhall.core.state import State
from townhall.model.access import Policy, Role, Token


def test_a_new_secret_takes_the_place_of_the_old_one():
    world = World()
    world.commit((facts.TokenPut(Token("t", b"1" * 32, ())),))
    world.commit((facts.TokenPut(Token("t", b"2" * 32, ())),))
    assert world.state.secrets == {b"2" * 32: "t"}
    assert world.state.tokens["t"].revision == 2
    world.commit((facts.TokenDeleted("t"),))
    assert (world.state.secrets, world.state.tokens) == ({}, {})
    world.commit((facts.TokenDeleted("t"),))
    assert not world.changes[-1].access
    assert all(changes.access for changes in world.changes[:-1])


def test_a_token_gets_the_revision_of_its_commit():
    state = State()
    state.begin(9, 1_000, "n1")
    token_put(state, facts.TokenPut(Token("t", b"1" * 32, (), revision=3)), Changes(9))
    assert state.tokens["t"].revision == 9


def test_policies_and_the_switch():
    world = World()
    world.commit((facts.PolicyPut(Policy("p", ())), facts.AccessEnabled()))
    assert world.state.access_enabled
    assert world.state.policies["p"].revision == 1
    world.commit((facts.PolicyDeleted("p"),))
    world.commit((facts.PolicyDeleted("p"),))
    assert [changes.access for changes in world.changes] == [True, True, False]


def test_roles_come_and_go():
    world = World()
    world.commit((facts.RolePut(Role("r", ("p",))),))
    assert world.state.roles["r"].revision == 1
    world.commit((facts.RoleDeleted("r"),))
    world.commit((facts.RoleDeleted("r"),))
    assert [changes.access for changes in world.changes] == [True, True, False]
