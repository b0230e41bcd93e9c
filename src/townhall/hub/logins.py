"""Who has logged in as a user of a guarded space: tokens of the form ``<random>.<position>``, and passwords found right.

Both are soft state: a restart forgets them and clients log in again. A token needs no notice of what ends it: it holds
the positions at which the user's password was set and the guard was switched on, and is good as long as these stand.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from townhall.core.guard import known_user
from townhall.model import limits
from townhall.model.access import Actor

if TYPE_CHECKING:
    from townhall.core import Ids
    from townhall.core.state import State
    from townhall.hub import Clock, Signer

__all__ = ["Logins"]


class _Login(NamedTuple):
    space: str
    user: str
    since: int
    guard_since: int
    until_ms: int
    """By the monotonic clock."""


class Logins:
    """Tokens in the order of their last use."""

    def __init__(self, *, state: State, clock: Clock, ids: Ids, signers: Mapping[str, Signer] | None = None) -> None:
        """``signers``: spaces whose users' tokens are signed."""
        self._state = state
        self._signers = signers or {}
        self._clock = clock
        self._ids = ids
        self._tokens: OrderedDict[str, _Login] = OrderedDict()
        self._passwords: OrderedDict[bytes, bytes] = OrderedDict()
        """Stored hash → keyed hash of the password that it was found to be of."""
        self._key = ids.secret().encode()

    def __len__(self) -> int:
        return len(self._tokens)

    def login(self, space: str, user: str) -> str:
        """See ``core.live.Live.login``."""
        guard = self._state.guards[space]
        signer = self._signers.get(space)
        if signer is not None:
            return signer.sign(user, guard.revision)
        token = f"{self._ids.secret()}.{self._state.position}"
        until_ms = self._clock.monotonic_ms() + limits.LOGIN_TTL_MS
        self._tokens[token] = _Login(space, user, guard.users[user].since, guard.since, until_ms)
        self._forget_old()
        return token

    def resolve(self, token: str, *, address: str, restricted: bool) -> Actor | None:
        """The user behind a token, for whom it is now good for its full time again; None when it is none of ours."""
        login = self._tokens.get(token)
        if login is None:
            return self._signed(token, address=address, restricted=restricted)
        now_ms = self._clock.monotonic_ms()
        actor = None
        if now_ms < login.until_ms and self._stands(login):
            actor = known_user(self._state, login.space, login.user, address=address, restricted=restricted)
        if actor is None:
            del self._tokens[token]
            return None
        # Once in a while is enough: who asks thousands of times a second does not pay for each.
        if login.until_ms - now_ms < limits.LOGIN_TTL_MS * 0.9:
            self._tokens[token] = login._replace(until_ms=now_ms + limits.LOGIN_TTL_MS)
            self._tokens.move_to_end(token)
        return actor

    def _signed(self, token: str, *, address: str, restricted: bool) -> Actor | None:
        """The same for a signed token, which any change of users and roles makes old."""
        for space, signer in self._signers.items():
            found = signer.read(token)
            guard = self._state.guards.get(space)
            if found is not None and guard is not None and found[1] == guard.revision:
                return known_user(self._state, space, found[0], address=address, restricted=restricted)
        return None

    def _stands(self, login: _Login) -> bool:
        guard = self._state.guards.get(login.space)
        user = guard.users.get(login.user) if guard is not None else None
        return guard is not None and guard.since == login.guard_since and user is not None and user.since == login.since

    def _forget_old(self) -> None:
        now_ms = self._clock.monotonic_ms()
        while self._tokens:
            oldest = next(iter(self._tokens.values()))
            if oldest.until_ms > now_ms and len(self._tokens) <= limits.LOGINS_COUNT_MAX:
                break
            self._tokens.popitem(last=False)

    # --- passwords

    def recall(self, password: str, stored: bytes) -> bool:
        """Whether this password was found to be the one behind the hash before."""
        known = self._passwords.get(stored)
        return known is not None and known == self._digest(password)

    def remember(self, password: str, stored: bytes) -> None:
        """It was found to be the one."""
        self._passwords[stored] = self._digest(password)
        self._passwords.move_to_end(stored)
        if len(self._passwords) > limits.PASSWORDS_REMEMBERED_MAX:
            self._passwords.popitem(last=False)

    def _digest(self, password: str) -> bytes:
        return hashlib.blake2b(password.encode("utf-8", "surrogatepass"), key=self._key[:64]).digest()
