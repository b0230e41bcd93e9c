"""What somebody may want of the guard of a space: the ``order`` of the command ``ChangeGuard``, imperative.

Refusals: NotFound, AlreadyExists and InvalidField carry a field that says of what (``user``, ``role``, ``grant`` for a
role that a user does not have, ``permission`` for one that a role does not have); Conflict carries ``guard``, which is
``no_root`` or ``root_without_role`` (it cannot be switched on), or ``root`` (what must stay while it is on).
"""

from __future__ import annotations

import msgspec

from townhall.model.guard import Alarm, Permission

__all__ = [
    "AddKeyRole", "AddUser", "ChangePassword", "DeleteKeyRole", "DeleteUser", "GrantKeys", "GrantRole", "GuardOrder",
    "RevokeKeys", "RevokeRole", "SetAlarm", "SwitchGuard",
]  # fmt: skip


class AddUser(msgspec.Struct, frozen=True):
    """A new user, with the hash of a password; b"" for one who is known by a certificate alone."""

    name: str
    password: bytes = b""


class DeleteUser(msgspec.Struct, frozen=True):
    """Remove a user; their tokens end at once."""

    name: str


class ChangePassword(msgspec.Struct, frozen=True):
    """Another hash; the user's tokens end at once. A user without password keeps having none."""

    name: str
    password: bytes


class GrantRole(msgspec.Struct, frozen=True):
    """Give a user a role. Nothing happens when they have it."""

    user: str
    role: str


class RevokeRole(msgspec.Struct, frozen=True):
    """Take a role from a user."""

    user: str
    role: str


class AddKeyRole(msgspec.Struct, frozen=True):
    """A new role without permissions."""

    name: str


class DeleteKeyRole(msgspec.Struct, frozen=True):
    """Remove a role, from its users too."""

    name: str


class GrantKeys(msgspec.Struct, frozen=True):
    """Give a role a permission; one for the same keys is replaced."""

    role: str
    permission: Permission


class RevokeKeys(msgspec.Struct, frozen=True):
    """Take from a role its permission for exactly these keys."""

    role: str
    key: bytes
    end: bytes = b""


class SwitchGuard(msgspec.Struct, frozen=True):
    """On: needs a user ``root`` with the role ``root``. Every token ends when it is switched off."""

    enabled: bool


class SetAlarm(msgspec.Struct, frozen=True):
    """Raise an alarm or take it back. Result: whether anything changed."""

    alarm: Alarm
    raised: bool


GuardOrder = (
    AddUser | DeleteUser | ChangePassword | GrantRole | RevokeRole | AddKeyRole | DeleteKeyRole | GrantKeys
    | RevokeKeys | SwitchGuard | SetAlarm
)  # fmt: skip
