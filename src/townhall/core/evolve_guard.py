"""What the changes of a space's guard do to the state."""

from __future__ import annotations

from msgspec.structs import replace

from townhall.core import Changes, facts
from townhall.core.facts_guard import AlarmSet, GuardSwitched, KeyRoleDeleted, KeyRolePut, UserDeleted, UserPut
from townhall.core.guard import Guard
from townhall.core.state import State

__all__ = ["guard_changed"]


def guard_changed(state: State, fact: facts.GuardChanged, changes: Changes) -> None:
    """The guard of a space changed; the first change makes it."""
    guard = state.guards.get(fact.space)
    if guard is None:
        guard = state.guards[fact.space] = Guard(fact.space)
    changes.access = True
    match fact.change:
        case UserPut(user=user, fresh=fresh):
            before = guard.users.get(user.name)
            since = state.position if fresh or before is None else before.since
            guard.users[user.name] = replace(user, since=since)
            guard.changed()
        case UserDeleted(name=name):
            guard.users.pop(name, None)
            guard.changed()
        case KeyRolePut(role=role):
            guard.roles[role.name] = role
            guard.changed()
        case KeyRoleDeleted(name=name):
            _delete_role(guard, name)
            guard.changed()
        case GuardSwitched(enabled=enabled):
            _switch(state, guard, enabled)
        case AlarmSet(alarm=alarm, raised=raised):
            (guard.alarms.add if raised else guard.alarms.discard)(alarm)


def _delete_role(guard: Guard, name: str) -> None:
    guard.roles.pop(name, None)
    for user in list(guard.users.values()):
        if name in user.roles:
            guard.users[user.name] = replace(user, roles=tuple(role for role in user.roles if role != name))


def _switch(state: State, guard: Guard, enabled: bool) -> None:
    guard.enabled = enabled
    if enabled:
        guard.since = state.position
    else:
        guard.changed()
    state.note_guards()
