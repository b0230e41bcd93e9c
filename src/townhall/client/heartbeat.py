"""Keeps a registration alive: a session stream for speed, renewals at a third of the TTL for certainty.

Two loops run side by side and never wait for each other. One keeps the session stream open: while it stands, the
registry knows at once when the process dies. The other renews in time, over the stream when it stands and by a plain
request when it does not, and registers again when the registry has forgotten us. So neither a slow reconnect nor a
stream that a proxy refuses stops the heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from townhall.client.alarms import Alarm, AlarmKind, Counters
from townhall.client.api import Registry
from townhall.client.backoff import Backoff
from townhall.client.definitions import Service
from townhall.client.problems import AWAY
from townhall.client.streams import SessionLine, SessionStream
from townhall.model import limits
from townhall.model.errors import TownhallError, Unreachable

__all__ = ["Heartbeat", "Kept"]

_log = logging.getLogger("townhall.client")
_REFUSED_PAUSE_S = 60.0
"""Before a session stream that was refused (a proxy, an older registry) is tried again; renewals go on without it."""


class Kept(Protocol):
    """What heartbeats keep alive: a ``Registrar``, or another holder of a lease."""

    lease: str
    ttl_ms: int

    @property
    def services(self) -> Sequence[Service]:
        """What hangs on the lease."""
        ...

    async def register_again(self) -> Sequence[Service]:
        """Register what the registry has forgotten; the services that a later process has taken over."""
        ...


class Heartbeat:
    """The two loops of one provider. ``run`` them in a task of the provider."""

    def __init__(self, registry: Registry, registrar: Kept, name: str, on_alarm: Callable[[Alarm], None]) -> None:
        self.counters = Counters()
        self._registry = registry
        self._registrar = registrar
        self._name = name
        self._on_alarm = on_alarm
        self._session: SessionStream | None = None
        self._renewed: asyncio.Future[SessionLine] | None = None
        self._wake = asyncio.Event()
        self._forgotten = not registrar.lease
        """The registry does not know us: it has forgotten us, or we could not register at the start."""
        self._registered = asyncio.Event()
        """Set from the first registration on: before it there is no lease that a session could carry."""
        if registrar.lease:
            self._registered.set()
        self.draining = False
        """We drain ourselves, so the registry's word for it is no news."""
        self._standing: AlarmKind | None = None
        """AWAY, REFUSED or SUPERSEDED while that lasts, so that it is told once."""

    @property
    def away(self) -> bool:
        """Whether the registry is out of reach, as far as the last heartbeat could tell."""
        return self._standing is AlarmKind.AWAY

    @property
    def connected(self) -> bool:
        """Whether the session stream stands."""
        return self._session is not None

    async def run(self) -> None:
        """Beat until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_session())
            group.create_task(self._beat())

    def forgotten(self) -> None:
        """Somebody was told that the lease has ended: register again now, not when the next renewal finds out."""
        self._forgotten = True
        self._wake.set()

    async def bye(self, *, budget_s: float) -> None:
        """End the session properly, so that the end of the connection is no news. Errors do not matter any more."""
        session, self._session = self._session, None
        if session is not None:
            try:
                await session.bye(budget_s=budget_s)
            except Unreachable as error:
                _log.debug("the session broke while it was ended: %s", error)

    # --- renewals --------------------------------------------------------------------------------------------------

    @property
    def _interval_s(self) -> float:
        """A third of the TTL: two renewals may be lost before the lease lapses."""
        return (self._registrar.ttl_ms or limits.LEASE_TTL_DEFAULT_MS) / 3000

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        backoff = Backoff(ceiling_ms=max(limits.CLIENT_BACKOFF_MIN_MS, int(self._interval_s * 1000)))
        due = clock() + (0.0 if self._forgotten else self._interval_s)
        while True:
            await self._sleep_until(due)
            try:
                await self._once()
            except AWAY as error:
                self.counters.renewals_failed += 1
                self._stand(AlarmKind.AWAY, f"the registry is away: {error}", error)
                due = clock() + backoff.next_s()
            except TownhallError as error:
                self.counters.renewals_failed += 1
                self._stand(AlarmKind.REFUSED, f"the registry refuses us: {error}", error)
                due = clock() + self._interval_s
            else:
                backoff.reset()
                # Jitter only shortens: two lost renewals must still fit into the TTL.
                due = clock() + self._interval_s * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load

    async def _sleep_until(self, due: float) -> None:
        try:
            async with asyncio.timeout_at(due):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _once(self) -> None:
        if self._forgotten:
            await self._register_again()
            return
        unknown = await self._renew_over_session()
        if unknown is None:
            unknown = (await self._registry.renew([self._registrar.lease], budget_s=self._interval_s)).unknown
        if unknown:
            self._forgotten = True
            await self._register_again()
            return
        self.counters.renewals += 1
        self._clear()

    async def _renew_over_session(self) -> tuple[str, ...] | None:
        """Leases that have ended; None when the session does not stand or does not answer, and is then closed."""
        session = self._session
        if session is None:
            return None
        self._renewed = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._interval_s / 2):
                await session.renew(budget_s=self._interval_s / 2)
                return (await self._renewed).unknown
        except (Unreachable, TimeoutError):
            session.close()
            return None
        finally:
            self._renewed = None

    async def _register_again(self) -> None:
        superseded = await self._registrar.register_again()
        self._forgotten = bool(superseded)
        if len(superseded) < len(self._registrar.services):
            self.counters.registrations += 1
            if not self._registered.is_set():
                self._registered.set()
                self._clear()
                return
            self._tell(AlarmKind.REGISTERED_AGAIN, "the registry had forgotten us and knows us again")
            if self._session is not None:
                try:
                    await self._session.attach([self._registrar.lease], budget_s=self._interval_s)
                except Unreachable as error:
                    _log.debug("the session broke while a lease was attached: %s", error)
        if superseded:
            names = ", ".join(str(service.key) for service in superseded)
            self._stand(AlarmKind.SUPERSEDED, f"another process has registered our id after us: {names}")
        else:
            self._clear()

    # --- the session stream ------------------------------------------------------------------------------------------

    async def _keep_session(self) -> None:
        ceiling_ms = min(limits.CLIENT_BACKOFF_MAX_MS, int(self._interval_s * 1000))
        backoff = Backoff(ceiling_ms=ceiling_ms)
        await self._registered.wait()
        while True:
            pause_s = None
            try:
                async with await self._registry.session(self._name, [self._registrar.lease]) as session:
                    await self._listen(session, backoff)
            except AWAY as error:
                _log.debug("the session stream ended: %s", error)
            except TownhallError as error:
                _log.info("the session stream is refused, renewing by requests: %s", error)
                pause_s = _REFUSED_PAUSE_S
            finally:
                self._session = None
                if self._renewed is not None and not self._renewed.done():
                    self._renewed.set_exception(Unreachable("the session stream broke", kind="reset", sent=True))
            await asyncio.sleep(backoff.next_s() if pause_s is None else pause_s)

    async def _listen(self, session: SessionStream, backoff: Backoff) -> None:
        async for line in session:
            if line.welcome is not None:
                self._session = session
                self.counters.sessions += 1
                backoff.reset()
                self._heed_welcome(line.welcome)
            elif line.renewed is not None:
                if self._renewed is not None and not self._renewed.done():
                    self._renewed.set_result(line)
            elif line.forgotten is not None:
                self._heed_forgotten(line.forgotten)
            elif line.drain is not None and not self.draining:
                what = f"{line.drain.get('service')} {line.drain.get('id')}"
                self._tell(AlarmKind.DRAIN_ASKED, f"the registry drains {what}")
            elif line.leaving:
                _log.info("the registry is leaving; connecting again")
                return

    def _heed_welcome(self, welcome: dict[str, object]) -> None:
        unknown = welcome.get("unknown")
        if isinstance(unknown, list):
            self._heed_forgotten(tuple(str(lease) for lease in unknown))
        if self._standing is not None:
            self._wake.set()

    def _heed_forgotten(self, leases: tuple[str, ...]) -> None:
        if self._registrar.lease in leases:
            self.forgotten()

    # --- alarms --------------------------------------------------------------------------------------------------------

    def _stand(self, kind: AlarmKind, message: str, error: Exception | None = None) -> None:
        if self._standing is not kind:
            self._standing = kind
            self._tell(kind, message, error)

    def _clear(self) -> None:
        if self._standing is not None:
            self._standing = None
            self._tell(AlarmKind.BACK, "the registry answers, and we are registered")

    def _tell(self, kind: AlarmKind, message: str, error: Exception | None = None) -> None:
        self.counters.alarms += 1
        _log.log(logging.INFO if kind is AlarmKind.BACK else logging.WARNING, "%s", message)
        self._on_alarm(Alarm(kind, message, error))
