"""The guard of a key space: users with passwords, roles that grant ranges of keys, and alarms.

A protocol whose clients manage their users themselves (etcd) keeps them here. They are good for the keys of their
space and for its settings, never for anything else of the registry.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

__all__ = ["ROOT", "Alarm", "Grants", "KeyRole", "Permission", "User"]

ROOT: Final = "root"
"""The user, and the role, without whom a guard cannot be switched on. Who has the role may do everything there is."""


class Grants(enum.IntEnum):
    """What a permission is good for (etcd's numbering)."""

    READ = 0
    WRITE = 1
    """Writing alone: whoever has it need not be able to read what is there."""
    BOTH = 2


class Alarm(enum.IntEnum):
    """What is wrong with a space (etcd's numbering). An alarm stands until somebody takes it back."""

    NO_SPACE = 1
    """Its quota is used up: nothing is put until somebody has made room and taken the alarm back."""
    CORRUPT = 2


class Permission(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Keys ``[key, end)``, as of a transaction: an empty end means just ``key``, NUL means to the last key."""

    key: bytes
    end: bytes
    grants: Grants


class KeyRole(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A named set of permissions, ordered by key and end."""

    name: str
    permissions: tuple[Permission, ...] = ()


class User(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A user of one space."""

    name: str
    password: bytes = b""
    """A slow hash with its parameters (``core.passwords``); empty for a user who has none."""
    roles: tuple[str, ...] = ()
    """Sorted. A role that does not exist grants nothing."""
    since: int = 0
    """Journal position at which the password was set: whoever logged in before must do so again."""
