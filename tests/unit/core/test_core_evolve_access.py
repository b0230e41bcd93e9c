"""What facts do to tokens and policies."""

from __future__ import annotations

from core_world import World

from townhall.core import facts
from townhall.model.access import Policy, Token


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


def test_policies_and_the_switch():
    world = World()
    world.commit((facts.PolicyPut(Policy("p", ())), facts.AccessEnabled()))
    assert world.state.access_enabled
    assert world.state.policies["p"].revision == 1
    world.commit((facts.PolicyDeleted("p"),))
    world.commit((facts.PolicyDeleted("p"),))
    assert [changes.access for changes in world.changes] == [True, True, False]
