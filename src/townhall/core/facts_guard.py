"""What may change in the guard of a space: the parts of the fact ``GuardChanged``, past tense and journaled."""

from __future__ import annotations

import msgspec

from townhall.model.guard import Alarm, KeyRole, User

__all__ = ["AlarmSet", "GuardChange", "GuardSwitched", "KeyRoleDeleted", "KeyRolePut", "UserDeleted", "UserPut"]


class UserPut(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A user stands so. ``fresh``: with a new password, so ``evolve`` sets ``since``; else they keep theirs."""

    user: User
    fresh: bool


class UserDeleted(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A user was removed."""

    name: str


class KeyRolePut(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A role stands so."""

    role: KeyRole


class KeyRoleDeleted(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A role was removed, and taken from all who had it."""

    name: str


class GuardSwitched(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """From now on users must say who they are, or need not any more."""

    enabled: bool


class AlarmSet(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """An alarm was raised, or taken back."""

    alarm: Alarm
    raised: bool


GuardChange = UserPut | UserDeleted | KeyRolePut | KeyRoleDeleted | GuardSwitched | AlarmSet
