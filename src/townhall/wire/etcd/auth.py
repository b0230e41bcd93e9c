"""The Auth service, and authpb.

Requests and answers that have the same fields share one Struct: on the wire a message has no name.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated

from townhall.wire.etcd import EtcdMessage
from townhall.wire.etcd.kv import ResponseHeader
from townhall.wire.protobuf import UINT64

__all__ = [
    "AuthRequest", "AuthResponse", "AuthStatusResponse", "AuthenticateRequest", "AuthenticateResponse", "Permission",
    "PermissionType", "RoleGetResponse", "RoleGrantPermissionRequest", "RoleListResponse", "RoleNameRequest",
    "RoleRequest", "RoleRevokePermissionRequest", "UserAddOptions", "UserAddRequest", "UserChangePasswordRequest",
    "UserGrantRoleRequest", "UserListResponse", "UserRequest", "UserRevokeRoleRequest", "UserRolesResponse",
]  # fmt: skip


class PermissionType(enum.IntEnum):
    """What a permission allows."""

    READ = 0
    WRITE = 1
    READWRITE = 2


class UserAddOptions(EtcdMessage, frozen=True):
    """How a user is added."""

    no_password: Annotated[bool, 1] = False


class Permission(EtcdMessage, frozen=True):
    """What a role may do, with which keys."""

    perm_type: Annotated[int, 1, PermissionType] = 0
    key: Annotated[bytes, 2] = b""
    range_end: Annotated[bytes, 3] = b""


class AuthRequest(EtcdMessage, frozen=True):
    """AuthEnable, AuthDisable, AuthStatus, UserList, RoleList: no fields."""


class AuthResponse(EtcdMessage, frozen=True):
    """All Auth answers that are a header alone."""

    header: Annotated[ResponseHeader | None, 1] = None


class AuthStatusResponse(EtcdMessage, frozen=True):
    """Whether access control is on."""

    header: Annotated[ResponseHeader | None, 1] = None
    enabled: Annotated[bool, 2] = False
    auth_revision: Annotated[int, 3, UINT64] = 0


class AuthenticateRequest(EtcdMessage, frozen=True):
    """A name and its password."""

    name: Annotated[str, 1] = ""
    password: Annotated[str, 2] = ""


class AuthenticateResponse(EtcdMessage, frozen=True):
    """A token."""

    header: Annotated[ResponseHeader | None, 1] = None
    token: Annotated[str, 2] = ""


class UserAddRequest(EtcdMessage, frozen=True):
    """Add a user."""

    name: Annotated[str, 1] = ""
    password: Annotated[str, 2] = ""
    options: Annotated[UserAddOptions | None, 3] = None
    hashed_password: Annotated[str, 4] = ""


class UserRequest(EtcdMessage, frozen=True):
    """UserGet, UserDelete."""

    name: Annotated[str, 1] = ""


class UserRolesResponse(EtcdMessage, frozen=True):
    """UserGet's answer."""

    header: Annotated[ResponseHeader | None, 1] = None
    roles: Annotated[Sequence[str], 2] = ()


class UserListResponse(EtcdMessage, frozen=True):
    """All users."""

    header: Annotated[ResponseHeader | None, 1] = None
    users: Annotated[Sequence[str], 2] = ()


class UserChangePasswordRequest(EtcdMessage, frozen=True):
    """Change a password."""

    name: Annotated[str, 1] = ""
    password: Annotated[str, 2] = ""
    hashed_password: Annotated[str, 3] = ""


class UserGrantRoleRequest(EtcdMessage, frozen=True):
    """Give a user a role."""

    user: Annotated[str, 1] = ""
    role: Annotated[str, 2] = ""


class UserRevokeRoleRequest(EtcdMessage, frozen=True):
    """Take a role from a user."""

    name: Annotated[str, 1] = ""
    role: Annotated[str, 2] = ""


class RoleNameRequest(EtcdMessage, frozen=True):
    """RoleAdd."""

    name: Annotated[str, 1] = ""


class RoleRequest(EtcdMessage, frozen=True):
    """RoleGet, RoleDelete."""

    role: Annotated[str, 1] = ""


class RoleGetResponse(EtcdMessage, frozen=True):
    """What a role may do."""

    header: Annotated[ResponseHeader | None, 1] = None
    perm: Annotated[Sequence[Permission], 2] = ()


class RoleListResponse(EtcdMessage, frozen=True):
    """All roles."""

    header: Annotated[ResponseHeader | None, 1] = None
    roles: Annotated[Sequence[str], 2] = ()


class RoleGrantPermissionRequest(EtcdMessage, frozen=True):
    """Let a role do more."""

    name: Annotated[str, 1] = ""
    perm: Annotated[Permission | None, 2] = None


class RoleRevokePermissionRequest(EtcdMessage, frozen=True):
    """Let a role do less."""

    role: Annotated[str, 1] = ""
    key: Annotated[bytes, 2] = b""
    range_end: Annotated[bytes, 3] = b""
