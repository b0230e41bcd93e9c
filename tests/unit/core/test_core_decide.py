"""The table of decisions."""

from __future__ import annotations

import typing

from core_world import WEB, World

from townhall.core import Decision, commands
from townhall.core.decide import _TABLE, decide
from townhall.model.errors import NotFound


def test_every_command_has_its_function():
    assert _TABLE.keys() == set(typing.get_args(commands.Command))


def test_a_refusal_is_returned_without_its_traceback():
    world = World()
    refused = decide(world.state, commands.Deregister(key=WEB, id="a"), world.context())
    assert isinstance(refused, NotFound)
    assert refused.__traceback__ is None


def test_deciding_changes_nothing():
    world = World()
    world.register("a")
    before = world.state.services[WEB].instances["a"]
    decided = world.decide(commands.Deregister(key=WEB, id="a"))
    assert isinstance(decided, Decision)
    assert world.state.services[WEB].instances["a"] is before
    assert world.state.position == 1
