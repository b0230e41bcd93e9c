"""Reads of the guard of a space, on behalf of one actor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from townhall.core.codec import dump_space
from townhall.core.guard import Guard, setting_name
from townhall.model.access import Level, Resource
from townhall.model.errors import NotFound
from townhall.model.guard import Alarm, KeyRole, User

if TYPE_CHECKING:
    from townhall.core.queries import Reader

__all__ = ["GuardReader"]

_NONE: Final = Guard("")
"""What a space looks like that never had one."""


class GuardReader:
    """What may be asked of a space's users, roles and alarms.

    All but ``enabled``, ``alarms`` and ``password`` need the right to read the space's settings; a user may also look
    at themselves and at their own roles. Raises Denied or Unauthenticated without it.
    """

    __slots__ = ("_guard", "_reader", "space")

    def __init__(self, reader: Reader, space: str) -> None:
        self._reader = reader
        self._guard = reader.state.guards.get(space, _NONE)
        self.space = space

    @property
    def enabled(self) -> bool:
        """Whether users of this space must say who they are."""
        return self._guard.enabled

    def require(self, level: Level = Level.READ) -> None:
        """Raise Denied or Unauthenticated without this right on the space's settings."""
        self._reader.require(Resource.OPERATOR, level, setting_name(self.space))

    def revision(self) -> int:
        """The number of the last change of users, roles and permissions; 1 before the first."""
        self.require()
        return self._guard.revision

    def users(self) -> Sequence[str]:
        """Names of all users, in order."""
        self.require()
        return sorted(self._guard.users)

    def roles(self) -> Sequence[str]:
        """Names of all roles, in order."""
        self.require()
        return sorted(self._guard.roles)

    def user(self, name: str) -> User:
        """One user. Raises NotFound."""
        if self._reader.actor.user != (self.space, name):
            self.require()
        user = self._guard.users.get(name)
        if user is None:
            raise NotFound(f"no user {name!r}", user=name)
        return user

    def role(self, name: str) -> KeyRole:
        """One role. Raises NotFound."""
        space, own = self._reader.actor.user
        user = self._guard.users.get(own) if space == self.space else None
        if user is None or name not in user.roles:
            self.require()
        role = self._guard.roles.get(name)
        if role is None:
            raise NotFound(f"no role {name!r}", role=name)
        return role

    def password(self, name: str) -> tuple[bytes, int] | None:
        """The hash of a user's password, to be compared with what somebody says it is, and since when it is theirs;
        None for an unknown user.
        """
        user = self._guard.users.get(name)
        return None if user is None else (user.password, user.since)

    def dump(self) -> Iterator[Sequence[object]]:
        """All keys of the space and their history, as records (``Keyspace.dump``), as they are at this call: to be drawn
        when there is time. A space that was never written has none. Needs the right to read the space's settings.
        """
        self.require()
        space = self._reader.state.spaces.get(self.space)
        return iter(()) if space is None else space.dump()

    def backup(self) -> Iterator[bytes]:
        """The space, its leases, users and roles as they are at this call, in chunks (``codec.dump_space``): to be drawn
        when there is time. Needs the right to write the space's settings, for the hashes of all passwords are in it.
        """
        self.require(Level.WRITE)
        return dump_space(self._reader.state, self.space)

    def alarms(self) -> Sequence[Alarm]:
        """The alarms that stand, in order."""
        return sorted(self._guard.alarms)
