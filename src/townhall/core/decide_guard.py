"""Decisions about the guard of a space: users, roles, permissions, switching it on and off, alarms.

The rules are etcd's: a user ``root`` with the role ``root`` before it can be switched on, and neither may go while it
is on; a role is created before it is granted, except root; the same grant twice is no error and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from townhall.core import Context, Decision, commands, facts
from townhall.core import commands_guard as orders
from townhall.core import facts_guard as changes
from townhall.core.guard import Guard
from townhall.core.keyspace import TO_THE_END
from townhall.core.state import State
from townhall.model import limits, names
from townhall.model.errors import AlreadyExists, Conflict, InvalidField, NotFound, OverLimit, TooLarge
from townhall.model.guard import ROOT, KeyRole, Permission, User

__all__ = ["change_guard"]

_Answer = tuple[changes.GuardChange | None, object]
"""What changes (None: nothing), and the command's result."""


def change_guard(state: State, command: commands.ChangeGuard, context: Context) -> Decision:
    """See ``core.commands_guard`` for the orders and their refusals."""
    guard = state.guards.get(command.space)
    if guard is None:
        names.label(command.space, "space")
        if len(state.guards) >= limits.SPACES_COUNT_MAX:
            raise OverLimit(f"there are {len(state.guards)} guards already", limit=limits.SPACES_COUNT_MAX)
        guard = Guard(command.space)
    change, result = _TABLE[type(command.order)](guard, command.order)
    return Decision((facts.GuardChanged(command.space, change),) if change is not None else (), result)


# --- users -----------------------------------------------------------------------------------------------------------


def _user(guard: Guard, name: str) -> User:
    user = guard.users.get(name)
    if user is None:
        raise NotFound(f"no user {name!r}", user=name)
    return user


def _guard_name(name: str, kind: str) -> None:
    if not name:
        raise InvalidField(kind, "must not be empty")
    if len(name) > limits.USER_NAME_SIZE_MAX:
        raise TooLarge(f"the name of a {kind} is too long", limit=limits.USER_NAME_SIZE_MAX)


def _guard_keep(guard: Guard, *found: bool) -> None:
    if guard.enabled and all(found):
        raise Conflict("root must stay while the guard is on", advice="switch it off first", guard="root")


def _add_user(guard: Guard, order: orders.AddUser) -> _Answer:
    _guard_name(order.name, "user")
    if order.name in guard.users:
        raise AlreadyExists(f"user {order.name!r} exists", user=order.name)
    if len(guard.users) >= limits.USERS_COUNT_MAX:
        raise OverLimit(f"there are {len(guard.users)} users already", limit=limits.USERS_COUNT_MAX)
    return changes.UserPut(User(order.name, order.password), True), None


def _delete_user(guard: Guard, order: orders.DeleteUser) -> _Answer:
    _guard_keep(guard, order.name == ROOT)
    return changes.UserDeleted(_user(guard, order.name).name), None


def _change_password(guard: Guard, order: orders.ChangePassword) -> _Answer:
    user = _user(guard, order.name)
    return changes.UserPut(replace(user, password=order.password if user.password else b""), True), None


def _grant_role(guard: Guard, order: orders.GrantRole) -> _Answer:
    user = _user(guard, order.user)
    if order.role != ROOT:
        _role(guard, order.role)
    if order.role in user.roles:
        return None, None
    if len(user.roles) >= limits.USER_ROLES_MAX:
        raise OverLimit(f"user {user.name!r} has {len(user.roles)} roles already", limit=limits.USER_ROLES_MAX)
    return changes.UserPut(replace(user, roles=tuple(sorted((*user.roles, order.role)))), False), None


def _revoke_role(guard: Guard, order: orders.RevokeRole) -> _Answer:
    _guard_keep(guard, order.user == ROOT, order.role == ROOT)
    user = _user(guard, order.user)
    if order.role not in user.roles:
        raise NotFound(f"user {user.name!r} does not have the role {order.role!r}", grant=order.role)
    return changes.UserPut(replace(user, roles=tuple(role for role in user.roles if role != order.role)), False), None


# --- roles -----------------------------------------------------------------------------------------------------------


def _role(guard: Guard, name: str) -> KeyRole:
    role = guard.roles.get(name)
    if role is None:
        raise NotFound(f"no role {name!r}", role=name)
    return role


def _add_role(guard: Guard, order: orders.AddKeyRole) -> _Answer:
    _guard_name(order.name, "role")
    if order.name in guard.roles:
        raise AlreadyExists(f"role {order.name!r} exists", role=order.name)
    if len(guard.roles) >= limits.KEY_ROLES_COUNT_MAX:
        raise OverLimit(f"there are {len(guard.roles)} roles already", limit=limits.KEY_ROLES_COUNT_MAX)
    return changes.KeyRolePut(KeyRole(order.name)), None


def _delete_role(guard: Guard, order: orders.DeleteKeyRole) -> _Answer:
    _guard_keep(guard, order.name == ROOT)
    return changes.KeyRoleDeleted(_role(guard, order.name).name), None


def _grant_keys(guard: Guard, order: orders.GrantKeys) -> _Answer:
    granted = order.permission
    if not granted.key or (granted.end and granted.end != TO_THE_END and granted.end <= granted.key):
        raise InvalidField("permission", "needs a key, and an end behind it")
    if len(granted.key) + len(granted.end) > limits.PERMISSION_SIZE_MAX:
        raise TooLarge("the permission's keys are too long", limit=limits.PERMISSION_SIZE_MAX)
    role = _role(guard, order.role)
    kept = [permission for permission in role.permissions if _keys(permission) != _keys(granted)]
    if len(kept) >= limits.KEY_ROLE_PERMISSIONS_MAX:
        raise OverLimit(f"role {role.name!r} has {len(kept)} permissions", limit=limits.KEY_ROLE_PERMISSIONS_MAX)
    return changes.KeyRolePut(KeyRole(role.name, tuple(sorted((*kept, granted), key=_keys)))), None


def _revoke_keys(guard: Guard, order: orders.RevokeKeys) -> _Answer:
    role = _role(guard, order.role)
    kept = tuple(permission for permission in role.permissions if _keys(permission) != (order.key, order.end))
    if len(kept) == len(role.permissions):
        raise NotFound(f"role {role.name!r} has no such permission", permission=order.key)
    return changes.KeyRolePut(KeyRole(role.name, kept)), None


def _keys(permission: Permission) -> tuple[bytes, bytes]:
    return permission.key, permission.end


# --- the guard itself ------------------------------------------------------------------------------------------------


def _switch(guard: Guard, order: orders.SwitchGuard) -> _Answer:
    if order.enabled == guard.enabled:
        return None, None
    if order.enabled:
        root = guard.users.get(ROOT)
        if root is None:
            raise Conflict("there is no user root", advice="add one", guard="no_root")
        if ROOT not in root.roles:
            raise Conflict("root does not have the role root", advice="grant it", guard="root_without_role")
    return changes.GuardSwitched(order.enabled), None


def _set_alarm(guard: Guard, order: orders.SetAlarm) -> _Answer:
    if order.raised == (order.alarm in guard.alarms):
        return None, False
    return changes.AlarmSet(order.alarm, order.raised), True


_TABLE: Mapping[type, Callable[[Guard, Any], _Answer]] = {
    orders.AddUser: _add_user,
    orders.DeleteUser: _delete_user,
    orders.ChangePassword: _change_password,
    orders.GrantRole: _grant_role,
    orders.RevokeRole: _revoke_role,
    orders.AddKeyRole: _add_role,
    orders.DeleteKeyRole: _delete_role,
    orders.GrantKeys: _grant_keys,
    orders.RevokeKeys: _revoke_keys,
    orders.SwitchGuard: _switch,
    orders.SetAlarm: _set_alarm,
}
