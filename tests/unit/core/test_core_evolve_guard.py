"""Facts about guards are applied whatever they say."""

from __future__ import annotations

from core_world import World

from townhall.core import facts
from townhall.core.evolve_guard import guard_changed
from townhall.core.facts_guard import AlarmSet, KeyRoleDeleted, UserDeleted
from townhall.core.guard import Guard
from townhall.model.guard import Alarm


def test_what_is_not_there_goes_without_complaint():
    world = World()
    for change in (UserDeleted("zoe"), KeyRoleDeleted("zzz"), AlarmSet(Alarm.CORRUPT, False)):
        changes = world.commit((facts.GuardChanged("etcd", change),))
        assert changes.access
    world.state.check()
    guard = world.state.guards["etcd"]
    assert isinstance(guard, Guard)
    assert guard.users == guard.roles == {}
    assert guard_changed.__doc__
