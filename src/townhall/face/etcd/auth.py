"""The Auth service: users, roles and permissions of the space, and logging in.

Passwords are hashed beside the loop (docs/decisions/0004), after whoever asks was found to have the right: a stranger
cannot make the registry work. Texts and codes are those of etcd 3.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from townhall.core import Outcome
from townhall.core import commands_guard as orders
from townhall.core.commands import ChangeGuard
from townhall.core.queries import Reader
from townhall.face import Reply, Submit, Verb
from townhall.face.etcd.answers import after_work, answer, refusal
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.grpc import Call, Code, Method
from townhall.model import guard
from townhall.model.access import Level
from townhall.model.errors import AlreadyExists, Conflict, InvalidField, NotFound, TownhallError
from townhall.wire.etcd import auth
from townhall.wire.protobuf import Message
from townhall.wire.protobuf_decode import decode

__all__ = ["TOKEN_USER", "AuthService"]

TOKEN_USER: Final = "token"  # noqa: S105 - a name
"""Who logs in as this user, unless there is one, presents a token of Townhall as the password."""
_WRONG: Final = refusal(Code.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password")
_NO_PASSWORD: Final = refusal(Code.UNKNOWN, "auth: authentication failed, password was given for no password user")
_NOT_ENABLED: Final = refusal(Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
_EMPTY_USER: Final = refusal(Code.INVALID_ARGUMENT, "etcdserver: user name is empty")
_PERMISSION_NOT_GIVEN: Final = refusal(Code.INVALID_ARGUMENT, "etcdserver: permission not given")
_INVALID: Final = "etcdserver: invalid auth management"
_TEXTS: Final[Mapping[tuple[type[TownhallError], str, object], tuple[Code, str]]] = {
    (NotFound, "user", None): (Code.FAILED_PRECONDITION, "etcdserver: user name not found"),
    (NotFound, "role", None): (Code.FAILED_PRECONDITION, "etcdserver: role name not found"),
    (NotFound, "grant", None): (Code.FAILED_PRECONDITION, "etcdserver: role is not granted to the user"),
    (NotFound, "permission", None): (Code.FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"),
    (AlreadyExists, "user", None): (Code.FAILED_PRECONDITION, "etcdserver: user name already exists"),
    (AlreadyExists, "role", None): (Code.FAILED_PRECONDITION, "etcdserver: role name already exists"),
    (InvalidField, "field", "user"): (Code.INVALID_ARGUMENT, "etcdserver: user name is empty"),
    (InvalidField, "field", "role"): (Code.INVALID_ARGUMENT, "etcdserver: role name is empty"),
    (InvalidField, "field", "permission"): (Code.INVALID_ARGUMENT, _INVALID),
    (Conflict, "guard", "no_root"): (Code.FAILED_PRECONDITION, "etcdserver: root user does not exist"),
    (Conflict, "guard", "root_without_role"): (
        Code.FAILED_PRECONDITION, "etcdserver: root user does not have root role"
    ),
    (Conflict, "guard", "root"): (Code.INVALID_ARGUMENT, _INVALID),
}  # fmt: skip
"""Refusals of the core by type, field and, where it matters, the field's value."""


def _told(error: TownhallError) -> Reply:
    """A refusal of ours in etcd's words. Raises what is not about users and roles."""
    for (kind, field, value), (code, text) in _TEXTS.items():
        if type(error) is kind and field in error.fields and value in (None, error.fields[field]):
            return refusal(code, text)
    raise error


class AuthService:
    """``etcdserverpb.Auth``."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def methods(self) -> Sequence[Method]:
        """The rows of the face's table."""
        handlers: Mapping[str, Callable[[Call, Reader], Verb]] = {
            "AuthEnable": lambda call, reader: self._order(orders.SwitchGuard(True)),
            "AuthDisable": lambda call, reader: self._order(orders.SwitchGuard(False)),
            "AuthStatus": self.status,
            "Authenticate": self.authenticate,
            "UserAdd": self.user_add,
            "UserGet": self.user_get,
            "UserList": self.user_list,
            "UserDelete": self.user_delete,
            "UserChangePassword": self.user_change_password,
            "UserGrantRole": self.user_grant_role,
            "UserRevokeRole": self.user_revoke_role,
            "RoleAdd": self.role_add,
            "RoleGet": self.role_get,
            "RoleList": self.role_list,
            "RoleDelete": self.role_delete,
            "RoleGrantPermission": self.role_grant_permission,
            "RoleRevokePermission": self.role_revoke_permission,
        }
        return [Method(f"/etcdserverpb.Auth/{name}", handler) for name, handler in handlers.items()]

    def _order(self, order: orders.GuardOrder) -> Submit:
        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            result = results[0]
            return _told(result) if isinstance(result, TownhallError) else self._answer(reader, auth.AuthResponse())

        return Submit((ChangeGuard(space=SPACE, order=order),), done)

    def _answer(self, reader: Reader, message: Message) -> Reply:
        return answer(self._identity, reader, message)

    # --- logging in

    def status(self, call: Call, reader: Reader) -> Verb:
        """Whether it is on, and how often anything was changed."""
        found = reader.guard(SPACE)
        return self._answer(reader, auth.AuthStatusResponse(enabled=found.enabled, auth_revision=found.revision()))

    def authenticate(self, call: Call, reader: Reader) -> Verb:
        """A token for a name and its password."""
        request = decode(auth.AuthenticateRequest, call.message)
        found = reader.guard(SPACE)
        stored = found.password(request.name) if found.enabled else None
        if stored is None and request.name == TOKEN_USER and call.live.recognises(request.password):
            # A client that can only log in may use a token of the registry's own: it is its own password.
            return self._answer(reader, auth.AuthenticateResponse(token=request.password))
        if not found.enabled:
            return _NOT_ENABLED
        if stored is None:
            return _WRONG
        if not stored[0]:
            return _NO_PASSWORD

        def checked(reader: Reader, right: bool) -> Reply:
            now = reader.guard(SPACE)
            # Another password, or another user of that name, may have come while this one was compared.
            if not right or not now.enabled or now.password(request.name) != stored:
                return _WRONG
            return self._answer(reader, auth.AuthenticateResponse(token=call.live.login(SPACE, request.name)))

        return after_work(call.live.check_password(request.password, stored[0], call.peer), checked)

    # --- users

    def user_add(self, call: Call, reader: Reader) -> Verb:
        """A new user, with the password's hash."""
        request = decode(auth.UserAddRequest, call.message)
        reader.guard(SPACE).require(Level.WRITE)
        if not request.name:
            return _EMPTY_USER
        if request.options is not None and request.options.no_password:
            return self._order(orders.AddUser(request.name))
        work = call.live.hash_password(request.password, call.peer)
        return after_work(work, lambda reader, hashed: self._order(orders.AddUser(request.name, hashed)))

    def user_change_password(self, call: Call, reader: Reader) -> Verb:
        """Another hash."""
        request = decode(auth.UserChangePasswordRequest, call.message)
        found = reader.guard(SPACE)
        found.require(Level.WRITE)
        if found.password(request.name) is None:
            return _told(NotFound("no such user", user=request.name))
        work = call.live.hash_password(request.password, call.peer)
        return after_work(work, lambda reader, hashed: self._order(orders.ChangePassword(request.name, hashed)))

    def user_get(self, call: Call, reader: Reader) -> Verb:
        """A user's roles."""
        request = decode(auth.UserRequest, call.message)
        try:
            user = reader.guard(SPACE).user(request.name)
        except NotFound as error:
            return _told(error)
        return self._answer(reader, auth.UserRolesResponse(roles=user.roles))

    def user_list(self, call: Call, reader: Reader) -> Verb:
        """All users."""
        return self._answer(reader, auth.UserListResponse(users=reader.guard(SPACE).users()))

    def user_delete(self, call: Call, reader: Reader) -> Verb:
        """Remove a user."""
        return self._order(orders.DeleteUser(decode(auth.UserRequest, call.message).name))

    def user_grant_role(self, call: Call, reader: Reader) -> Verb:
        """Give a user a role."""
        request = decode(auth.UserGrantRoleRequest, call.message)
        return self._order(orders.GrantRole(request.user, request.role))

    def user_revoke_role(self, call: Call, reader: Reader) -> Verb:
        """Take a role from a user."""
        request = decode(auth.UserRevokeRoleRequest, call.message)
        return self._order(orders.RevokeRole(request.name, request.role))

    # --- roles

    def role_add(self, call: Call, reader: Reader) -> Verb:
        """A new role."""
        return self._order(orders.AddKeyRole(decode(auth.RoleNameRequest, call.message).name))

    def role_get(self, call: Call, reader: Reader) -> Verb:
        """A role's permissions; those of root are everything, whatever was granted to it."""
        request = decode(auth.RoleRequest, call.message)
        try:
            role = reader.guard(SPACE).role(request.role)
        except NotFound as error:
            return _told(error)
        if role.name == guard.ROOT:
            shown = [auth.Permission(auth.PermissionType.READWRITE, b"", b"\0")]
        else:
            shown = [auth.Permission(item.grants, item.key, item.end) for item in role.permissions]
        return self._answer(reader, auth.RoleGetResponse(perm=shown))

    def role_list(self, call: Call, reader: Reader) -> Verb:
        """All roles."""
        return self._answer(reader, auth.RoleListResponse(roles=reader.guard(SPACE).roles()))

    def role_delete(self, call: Call, reader: Reader) -> Verb:
        """Remove a role."""
        return self._order(orders.DeleteKeyRole(decode(auth.RoleRequest, call.message).role))

    def role_grant_permission(self, call: Call, reader: Reader) -> Verb:
        """Give a role a permission."""
        request = decode(auth.RoleGrantPermissionRequest, call.message)
        perm = request.perm
        if perm is None:
            return _PERMISSION_NOT_GIVEN
        if perm.perm_type not in guard.Grants._value2member_map_:
            return refusal(Code.INVALID_ARGUMENT, _INVALID)
        granted = guard.Permission(perm.key, perm.range_end, guard.Grants(perm.perm_type))
        return self._order(orders.GrantKeys(request.name, granted))

    def role_revoke_permission(self, call: Call, reader: Reader) -> Verb:
        """Take a permission from a role."""
        request = decode(auth.RoleRevokePermissionRequest, call.message)
        return self._order(orders.RevokeKeys(request.role, request.key, request.range_end))
