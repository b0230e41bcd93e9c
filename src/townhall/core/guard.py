"""The guard of a space in the state: its users and roles, and what they come to in the rules of ``core.access``.

Permissions become rules over ranges of names, merged for each level. A user of a guard is an ``Actor`` like any other:
the same check judges everybody. Who has the role root may do everything in the space and with its settings, and still
nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from townhall.core.access import key_name, space_end
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.guard import ROOT, Alarm, Grants, KeyRole, Permission, User

if TYPE_CHECKING:
    from townhall.core.state import State

__all__ = ["Guard", "is_guarded", "known_user", "setting_name"]

_EMPTY: Final[tuple[Rule, ...]] = ()


def setting_name(space: str) -> str:
    """How rules of the resource OPERATOR name the settings of a space: compaction, users, roles, alarms."""
    return f"space/{space}"


def is_guarded(state: State, resource: Resource, name: str) -> bool:
    """Whether this is a key of a space whose guard is on, or the settings of one."""
    if resource is Resource.KEY:
        return any(name.startswith(f"{space}/") for space in state.guarded)
    return resource is Resource.OPERATOR and any(name == setting_name(space) for space in state.guarded)


class Guard:
    """Users, roles and alarms of one space. Only ``core.evolve_guard`` and ``core.codec`` change it."""

    __slots__ = ("_rules", "alarms", "enabled", "revision", "roles", "since", "space", "users")

    def __init__(self, space: str) -> None:
        self.space = space
        self.enabled = False
        self.since = 0
        """Journal position at which it was last switched on: tokens of an earlier time are not valid."""
        self.revision = 1
        """Grows with every change of users, roles and permissions, and when it is switched off (as etcd's does)."""
        self.users: dict[str, User] = {}
        self.roles: dict[str, KeyRole] = {}
        self.alarms: set[Alarm] = set()
        self._rules: dict[str, tuple[Rule, ...]] = {}
        """What users' roles come to, until anything changes."""

    def changed(self) -> None:
        """Users or roles are not what they were."""
        self.revision += 1
        self._rules.clear()

    def rules(self, name: str) -> tuple[Rule, ...]:
        """What a user may do; nothing for an unknown one."""
        found = self._rules.get(name)
        if found is None:
            user = self.users.get(name)
            if user is None:
                return _EMPTY
            found = self._rules[name] = self._granted(user)
        return found

    def _granted(self, user: User) -> tuple[Rule, ...]:
        if ROOT in user.roles:
            return (
                Rule(Resource.KEY, Level.WRITE, key_name(self.space, b"")),
                Rule(Resource.OPERATOR, Level.WRITE, setting_name(self.space), prefix=False),
            )
        roles = [self.roles[name] for name in user.roles if name in self.roles]
        permissions = [permission for role in roles for permission in role.permissions]
        readable = (p for p in permissions if p.grants is not Grants.WRITE)
        writable = (p for p in permissions if p.grants is not Grants.READ)
        return (*self._merged(Level.READ, readable), *self._merged(Level.WRITE, writable))

    def _merged(self, level: Level, permissions: Iterable[Permission]) -> Iterable[Rule]:
        """Rules for ranges that neither overlap nor touch, in order."""
        ranges = sorted(self._names(permission) for permission in permissions)
        merged: list[tuple[str, str]] = []
        for start, end in ranges:
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        return [Rule(Resource.KEY, level, start, prefix=False, end=end, only=True) for start, end in merged]

    def _names(self, permission: Permission) -> tuple[str, str]:
        start = key_name(self.space, permission.key)
        return start, space_end(self.space, permission.end) if permission.end else start + "\0"


def known_user(state: State, space: str, name: str, *, address: str, restricted: bool) -> Actor | None:
    """The actor behind a user who has been recognised; None when the guard is off or does not know them."""
    guard = state.guards.get(space)
    if guard is None or not guard.enabled or name not in guard.users:
        return None
    token_id = f"user {space}/{name}"
    return Actor(token_id, guard.rules(name), address=address, restricted=restricted, user=(space, name))
