"""Users of a guarded space: somebody who changes their rights all the time, and themselves, who try what they may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from simulated_keys import SPACE
from simulated_world import Lost, World

from townhall.core import Outcome
from townhall.core import commands_guard as orders
from townhall.core.commands import ChangeGuard, Transact
from townhall.core.queries import Reader
from townhall.hub.hub import INTERNAL, Hub
from townhall.model.errors import Denied, TownhallError, Unauthenticated
from townhall.model.guard import ROOT, Grants, Permission
from townhall.model.keys import Put, Transaction

USERS: Final = ("amy", "bob")
ROLES: Final = ("one", "two")
KEYS: Final = (b"g/a", b"g/b", b"g/c", b"h")
RANGES: Final = ((b"g/a", b""), (b"g/b", b"g/d"), (b"g/", b"g0"), (b"h", b"\0"))


@dataclass(frozen=True)
class Attempt:
    """What a user tried."""

    user: str
    key: bytes
    write: bool
    heard_at: int
    """The journal's position when the registry looked at who asks."""
    told_at: int
    """And when it had decided."""
    allowed: bool


class Operator:
    """Makes the users, and changes what they may."""

    def __init__(self, world: World) -> None:
        self.world = world

    def begin(self) -> None:
        self.world.loop.spawn("operator", self._run())

    async def _run(self) -> None:
        beginning: list[orders.GuardOrder] = [
            orders.AddUser(ROOT, b"x"), orders.AddKeyRole(ROOT), orders.GrantRole(ROOT, ROOT),
            *(orders.AddUser(user, b"x") for user in USERS), *(orders.AddKeyRole(role) for role in ROLES),
            orders.SwitchGuard(True),
        ]  # fmt: skip
        for order in beginning:
            while not await self._order(order):  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.1)
        while True:
            await asyncio.sleep(self.world.rng.expovariate(2))
            await self._order(self._any())

    def _any(self) -> orders.GuardOrder:
        rng = self.world.rng
        user, role = rng.choice(USERS), rng.choice(ROLES)
        key, end = rng.choice(RANGES)
        grants = rng.choice([Grants.READ, Grants.WRITE, Grants.BOTH])
        choices: list[orders.GuardOrder] = [
            orders.GrantKeys(role, Permission(key, end, grants)), orders.RevokeKeys(role, key, end),
            orders.GrantRole(user, role), orders.GrantRole(user, role), orders.RevokeRole(user, role),
            orders.ChangePassword(user, b"y"),
        ]  # fmt: skip
        if rng.random() < 0.15:
            choices = [orders.SwitchGuard(False), orders.SwitchGuard(True), orders.SwitchGuard(True)]
        return rng.choice(choices)

    async def _order(self, order: orders.GuardOrder) -> bool:
        """Whether it is known to be so; a refusal says that it is, or cannot be."""
        try:
            await self.world.submit(ChangeGuard(space=SPACE, order=order))
        except Lost:
            return False
        except TownhallError as error:
            return error.code in ("already_exists", "not_found", "conflict")
        return True


class Guest:
    """A user who reads and writes whatever comes to mind."""

    def __init__(self, world: World, user: str) -> None:
        self.world = world
        self.user = user
        self.attempts: list[Attempt] = []
        self.logins = 0
        self._token = ""

    def begin(self) -> None:
        self.world.loop.spawn(f"guest-{self.user}", self._run())

    async def _run(self) -> None:
        rng = self.world.rng
        while True:
            await asyncio.sleep(rng.expovariate(4))
            key, write, token = rng.choice(KEYS), rng.random() < 0.5, self._token
            try:
                if not token:
                    self._token = await self.world.call(self._login)
                    continue
                attempt = await self.world.call(self._attempt(token, key, write=write))
            except Lost:
                continue
            if attempt is None:
                self._token = ""
            else:
                self.attempts.append(attempt)

    def _login(self, hub: Hub, answer: Callable[[Any], None]) -> None:
        """As the face does once the password was right."""
        if hub.reader(INTERNAL).guard(SPACE).enabled:
            self.logins += 1
            answer(hub.login(SPACE, self.user))
        else:
            answer("")

    def _attempt(self, token: str, key: bytes, *, write: bool) -> Callable[[Hub, Callable[[Any], None]], None]:
        def handle(hub: Hub, answer: Callable[[Any], None]) -> None:
            heard_at = hub.state.position

            def told(*, allowed: bool) -> None:
                answer(Attempt(self.user, key, write, heard_at, hub.state.position, allowed))

            def done(result: Outcome | TownhallError) -> None:
                if isinstance(result, Outcome):
                    told(allowed=True)
                elif isinstance(result, Denied):
                    told(allowed=False)

            try:
                actor = hub.authenticate(token, "127.0.0.1:9")
            except Unauthenticated:
                answer(None)
                return
            if actor.user != (SPACE, self.user):
                answer(None)  # The token is over, and nobody in particular asks.
            elif write:
                put = Transact(space=SPACE, transaction=Transaction(success=(Put(key, b"v"),)))
                hub.submit(put, actor, done)
            else:
                told(allowed=_may_read(hub.reader(actor), key))

        return handle


def _may_read(reader: Reader, key: bytes) -> bool:
    try:
        reader.get(SPACE, key)
    except Denied:
        return False
    return True
