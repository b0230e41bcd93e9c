"""What this process holds in the registry for others, and how it is brought in step with what is wanted.

``want``, ``say`` and ``unwant`` only note what should be so; one task carries it out whenever the registry answers, in
batches, and tries again when it does not. Everything hangs on one lease with one heartbeat and one session stream, so
the registry notices at once when this process dies. A registry that has forgotten the lease is told everything anew.

A service that another process has registered under the same id after us is left to it: it is looked at again now and
then, and taken back only when the other is gone or does not work.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from townhall.agent import Notice, Tell
from townhall.client.address import AddressChoice, doubt
from townhall.client.alarms import Alarm, AlarmKind
from townhall.client.backoff import Backoff
from townhall.client.heartbeat import Heartbeat
from townhall.client.problems import AWAY
from townhall.client.records import Health, Registered
from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.errors import (
    Fenced,
    InvalidField,
    LeaseNotFound,
    NotFound,
    TownhallError,
    Unreachable,
)

if TYPE_CHECKING:
    from townhall.client.api import Registry
    from townhall.client.definitions import Service
    from townhall.client.records import JsonObject, Registration

__all__ = ["Keeper"]

_log = logging.getLogger("townhall.agent")
_REVIVAL_PAUSE_S: Final = 1.0
_DRAIN_WAIT_MS: Final = 10_000


@dataclass(slots=True)
class _Entry:
    label: str
    service: Service
    health: Health
    wanted: bool = True
    registered: Registered | None = None
    as_service: Service | None = None
    """What it is registered as; None as long as it is not."""
    as_address: str = ""
    told: Health | None = None
    retry_at: float = 0.0
    """When to ask again for what was refused."""
    lost: bool = False
    """It was registered, and hangs on our lease no more: somebody has removed it, or taken it over."""


class Keeper:
    """One lease and what hangs on it. ``start`` it, tell it what is wanted, and ``leave``."""

    def __init__(
        self,
        registry: Registry,
        *,
        name: str,
        tell: Tell,
        choice: AddressChoice | None = None,
        ttl_ms: int | None = None,
    ) -> None:
        """``name`` is what the registry shows for our session; ``choice`` finds the address of what has none."""
        self.lease = ""
        self.ttl_ms = 0
        self.claim = secrets.token_hex(16)
        self.address = ""
        """What services without an address of their own are registered under; '' until it is known."""
        self._registry = registry
        self._choice = choice or AddressChoice()
        self._ttl_asked_ms = ttl_ms
        self._tell = tell
        self._entries: dict[str, _Entry] = {}
        self._left_behind: list[JsonObject] = []
        """Registrations under ids that are not ours any more."""
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._away = False
        self._name = name[: limits.LABEL_SIZE_MAX]
        self._heartbeat: Heartbeat | None = None
        """From the first lease on."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._audit_at = 0.0
        self._leaving = False

    # --- what is wanted ------------------------------------------------------------------------------------------------

    @property
    def services(self) -> Sequence[Service]:
        """What is wanted."""
        return [entry.service for entry in self._entries.values() if entry.wanted]

    @property
    def away(self) -> bool:
        """Whether the registry was out of reach when we last tried."""
        return self._away

    def want(self, label: str, service: Service, health: Health) -> None:
        """Register this (from now on), or change it. ``label`` is our own name for it."""
        entry = self._entries.get(label)
        if entry is None:
            self._entries[label] = _Entry(label, service, health)
        else:
            if entry.service != service:
                entry.retry_at = 0.0
            entry.service, entry.health, entry.wanted = service, health, True
        self._stir()

    def say(self, label: str, health: Health) -> None:
        """How it is; nothing for a label that is not wanted."""
        entry = self._entries.get(label)
        if entry is not None and entry.health != health:
            entry.health = health
            self._stir()

    def unwant(self, label: str) -> None:
        """Take it out of the registry."""
        entry = self._entries.get(label)
        if entry is not None and entry.wanted:
            entry.wanted = False
            self._stir()

    def registered(self, label: str) -> Registered | None:
        """The registry's last answer about it; None while it is not registered."""
        entry = self._entries.get(label)
        return entry.registered if entry is not None else None

    async def settle(self, *, budget_s: float) -> bool:
        """Wait until everything that is wanted is so, or has been refused. False when it was not by then."""
        try:
            async with asyncio.timeout(budget_s):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    # --- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work, in the background; never raises for a registry that is away."""
        self._begin("keeper", self._run)
        if not self._choice.address:
            self._begin("address", self._follow_address)

    async def find_address(self) -> str:
        """The address of services that have none. Tries until there is one: a registry's name may not resolve yet."""
        backoff = Backoff(first_ms=limits.CLIENT_BACKOFF_MIN_MS)
        told = False
        while not self.address:
            towards = self._registry.transport.preferred
            try:
                self.address = await self._choice.find(towards)
            except InvalidField as error:
                if not told:
                    self._tell(Notice("address", f"no address to register: {error}; trying on", warning=True))
                told = True
                await asyncio.sleep(backoff.next_s())
            else:
                if why := doubt(self.address, towards):
                    self._tell(Notice("address", f"others may not reach what is registered here: {why}", warning=True))
        return self.address

    async def drain(self, label: str, *, deadline_s: float) -> bool:
        """Ask for no more new calls, and wait until every subscriber knows. False when not all did by the deadline.

        Raises what the API raises; at once when the registry is away.
        """
        entry = self._entries.get(label)
        if entry is None or entry.registered is None:
            return True
        clock = asyncio.get_running_loop().time
        until = clock() + deadline_s
        if self._heartbeat is not None:
            self._heartbeat.draining = True
        key, name = entry.service.key, entry.registered.instance.id
        deadline_ms = max(1, round(deadline_s * 1000))
        drain = await self._registry.drain(key, name, deadline_ms=deadline_ms, incarnation=entry.registered.incarnation)
        while not drain.over and clock() < until:
            wait_ms = min(_DRAIN_WAIT_MS, max(1, round((until - clock()) * 1000)))
            drain = await self._registry.drain_status(key, name, wait_ms=wait_ms)
        return drain.over and not drain.waiting_for

    async def leave(self, *, keep: bool = False) -> None:
        """Stop, and take everything out; ``keep`` leaves it until the lease ends it. Never raises; idempotent."""
        if self._leaving:
            return
        self._leaving = True
        until = asyncio.get_running_loop().time() + limits.AGENT_LEAVE_MS / 1000
        if self._heartbeat is not None and not keep:
            await self._heartbeat.bye(budget_s=limits.AGENT_LEAVE_MS / 3000)
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        if self.lease and not keep:
            try:
                async with asyncio.timeout_at(until):
                    # With it goes all that hangs on it, also what was registered without our seeing the answer.
                    await self._registry.leases.revoke(self.lease)
            except LeaseNotFound:
                pass
            except (TownhallError, TimeoutError) as error:
                text = f"could not deregister, the lease ends it within its TTL: {error or 'no answer'}"
                self._tell(Notice("away", text, warning=True))
            else:
                for entry in self._entries.values():
                    if entry.registered:
                        self._tell(Notice("deregistered", f"{entry.registered.instance.id}: deregistered", entry.label))
        await self._registry.close()

    # --- contract client.heartbeat.Kept ------------------------------------------------------------------------------------

    async def register_again(self) -> Sequence[Service]:
        """See ``Kept``. What a later process has taken over is left to it, and is no reason to try again at once."""
        async with self._lock:
            await self._grant()
            await self._reconcile(again=True)
        self._wake.set()  # What was refused is due some time, and nobody but the keeper's task knows when to ask again.
        return ()

    # --- inside: tasks -------------------------------------------------------------------------------------------------------

    def _begin(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._leaving:
            task = self._tasks[name] = asyncio.get_running_loop().create_task(run(), name=f"townhall-{name}")
            task.add_done_callback(lambda task: self._ended(name, run, task))

    def _ended(self, name: str, run: Callable[[], Coroutine[Any, Any, None]], task: asyncio.Task[None]) -> None:
        """These tasks end by cancellation only; anything else is a bug of ours, and the program must not pay for it."""
        if not task.cancelled() and not self._leaving and (error := task.exception()) is not None:
            _log.critical("%s failed and begins anew", name, exc_info=error)
            asyncio.get_running_loop().call_later(_REVIVAL_PAUSE_S, self._begin, name, run)

    def _stir(self) -> None:
        self._settled.clear()
        self._wake.set()

    async def _run(self) -> None:
        backoff = Backoff(ceiling_ms=limits.AGENT_BACKOFF_MAX_MS)
        while True:
            self._wake.clear()
            pause_s: float | None = None
            try:
                async with self._lock:
                    if not self.lease:
                        await self._grant()
                        self._heartbeat = Heartbeat(self._registry, self, self._name, self._alarmed)
                        self._begin("heartbeat", self._heartbeat.run)
                        self._audit_at = self._in(limits.AGENT_AUDIT_MS)
                    elif self._audit_at <= self._in(0):
                        await self._audit()
                    await self._reconcile()
            except AWAY as error:
                self._stand_away(error)
                pause_s = backoff.next_s()
            except TownhallError as error:
                self._tell(Notice("refused", f"the registry refuses us: {error}", warning=True))
                pause_s = limits.AGENT_RETRY_MS / 1000
            else:
                self._back()
                backoff.reset()
                if pause_s is None and not self._wake.is_set():
                    self._settled.set()
                pause_s = self._until_due()
            await self._sleep(pause_s)

    async def _sleep(self, pause_s: float | None) -> None:
        """Until something is wanted; while the registry is away, for the pause in any case."""
        if self._away and pause_s is not None:
            await asyncio.sleep(pause_s)
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _until_due(self) -> float:
        due = [self._audit_at, *(entry.retry_at for entry in self._entries.values() if entry.retry_at)]
        return max(0.1, min(due) - self._in(0))

    @staticmethod
    def _in(duration_ms: float) -> float:
        """The loop's time so long from now."""
        return asyncio.get_running_loop().time() + duration_ms / 1000

    async def _follow_address(self) -> None:
        await self.find_address()
        while True:
            await asyncio.sleep(limits.CLIENT_ADDRESS_INTERVAL_MS / 1000)
            try:
                address = await self._choice.find(self._registry.transport.preferred)
            except InvalidField as error:
                _log.debug("the address cannot be followed now: %s", error)
                continue
            if address != self.address:
                text = f"our address changed from {self.address} to {address}, registering anew"
                self._tell(Notice("address", text, warning=True))
                self.address = address
                self._stir()

    # --- inside: the registry ------------------------------------------------------------------------------------------------

    async def _grant(self) -> None:
        lease = await self._registry.leases.grant(ttl_ms=self._ttl_asked_ms)
        self.lease, self.ttl_ms = lease.lease, lease.ttl_ms

    async def _audit(self) -> None:
        """Notice what does not hang on our lease any more."""
        self._audit_at = self._in(limits.AGENT_AUDIT_MS)
        try:
            lease = await self._registry.leases.get(self.lease)
        except LeaseNotFound:
            return  # The heartbeat finds out, and registers everything anew.
        held = {(namespace, group, service, name) for namespace, group, service, name in lease.instances}
        for entry in self._entries.values():
            if entry.wanted and entry.registered is not None and entry.as_service is not None:
                one = entry.registered.instance
                if (one.namespace, one.group, one.service, one.id) not in held:
                    entry.as_service, entry.lost = None, True

    async def _reconcile(self, *, again: bool = False) -> None:
        """Make it so. Raises when the registry is away; a refusal of one entry is noted with it.

        ``again``: the registry has forgotten what hung on our lease.
        """
        if again:
            for entry in self._entries.values():
                entry.as_service = entry.told = None
        entries = list(self._entries.values())
        if any(entry.wanted and not entry.service.address for entry in entries):
            await self.find_address()
        now = asyncio.get_running_loop().time()
        due = [one for one in entries if one.wanted and one.retry_at <= now and self._outdated(one)]
        for start in range(0, len(due), limits.BATCH_COUNT_MAX):
            await self._register(due[start : start + limits.BATCH_COUNT_MAX], again=again)
        for entry in entries:
            if entry.wanted and entry.as_service is not None and entry.told != entry.health:
                await self._say(entry)
        await self._take_out([entry for entry in entries if not entry.wanted])

    def _outdated(self, entry: _Entry) -> bool:
        address = entry.service.address or self.address
        return entry.as_service != entry.service or entry.as_address != address

    async def _register(self, entries: Sequence[_Entry], *, again: bool) -> None:
        free = [one for one in entries if not ((again or one.lost or one.retry_at) and await self._is_superseded(one))]
        if not free:
            return
        healths = [entry.health for entry in free]
        results = await self._registry.register_batch([self._registration(entry) for entry in free])
        for entry, health, result in zip(free, healths, results, strict=True):
            if isinstance(result, Registered):
                self._was_registered(entry, health, result)
            elif isinstance(result, LeaseNotFound):
                # The heartbeat registers everything anew; this is for the case that it is in the middle of it.
                if self._heartbeat is not None:
                    self._heartbeat.forgotten()
                entry.retry_at = self._in(_REVIVAL_PAUSE_S * 1000)
            elif isinstance(result, AWAY):
                raise result
            else:
                self._was_refused(entry, f"the registry refuses it: {result}")

    def _was_registered(self, entry: _Entry, health: Health, result: Registered) -> None:
        before = entry.registered
        if before is not None and before.instance.id != result.instance.id:
            self._left_behind.append(self._target(entry))
        first = before is None
        if entry.lost:
            self._tell(
                Notice("registered", f"{result.instance.id} was not ours any more: registered again", entry.label)
            )
        entry.registered, entry.told, entry.retry_at, entry.lost = result, health, 0.0, False
        entry.as_service, entry.as_address = entry.service, result.instance.address
        if first:
            where = f"{result.instance.id} at {result.instance.authority}"
            known = "" if health.status is not CheckStatus.CRITICAL else f", out of use: {health.output}"
            self._tell(Notice("registered", f"{where}: registered{known}", entry.label))

    def _was_refused(self, entry: _Entry, text: str) -> None:
        if not entry.retry_at:
            self._tell(Notice("refused", text, entry.label, warning=True))
        entry.retry_at = self._in(limits.AGENT_RETRY_MS)

    def _registration(self, entry: _Entry) -> Registration:
        made = entry.service.registration(address=self.address, claim=self.claim, ttl_ms=None, lease=self.lease)
        return replace(made, health=entry.health)

    async def _say(self, entry: _Entry) -> None:
        assert entry.registered is not None
        health, instance = entry.health, entry.registered.instance
        try:
            await self._registry.health(
                entry.service.key,
                instance.id,
                health.status,
                output=health.output,
                incarnation=entry.registered.incarnation,
            )
        except NotFound:
            entry.as_service, entry.lost = None, True  # Removed by hand; it is wanted all the same.
            self._wake.set()
        except Fenced:
            entry.as_service, entry.lost = None, True
            self._was_refused(entry, f"another process has registered {instance.id} after us; it is left alone")
        else:
            self._tell_change(entry, entry.told, health)
            entry.told = health

    def _tell_change(self, entry: _Entry, before: Health | None, health: Health) -> None:
        if before is not None and before.status is health.status:
            return
        if health.status is CheckStatus.CRITICAL:
            self._tell(Notice("out", f"out of use: {health.output}", entry.label, warning=True))
        elif before is not None and before.status is CheckStatus.CRITICAL:
            self._tell(Notice("back", "in use again", entry.label))

    async def _is_superseded(self, entry: _Entry) -> bool:
        """Whether its id belongs to a later process that works: taking it back would only begin a quarrel."""
        known = entry.registered
        try:
            present = await self._registry.instance(entry.service.key, self._registration(entry).id)
        except AWAY:
            raise
        except TownhallError:
            return False  # Not there, or not for us to read: registering will tell.
        if not present.callable or known is None or present.incarnation <= known.incarnation:
            return False
        self._was_refused(entry, f"another process has registered {present.id} after us; it is left alone")
        return True

    async def _take_out(self, entries: Sequence[_Entry]) -> None:
        targets = [*self._left_behind, *(self._target(entry) for entry in entries if entry.registered)]
        for start in range(0, len(targets), limits.BATCH_COUNT_MAX):
            await self._remove(targets[start : start + limits.BATCH_COUNT_MAX])
        self._left_behind.clear()
        for entry in entries:
            if entry.registered is not None:
                self._tell(Notice("deregistered", f"{entry.registered.instance.id}: deregistered", entry.label))
            entry.registered = entry.as_service = entry.told = None
            # One that is wanted again meanwhile is registered with the next turn.
            if not entry.wanted and self._entries.get(entry.label) is entry:
                del self._entries[entry.label]

    def _target(self, entry: _Entry) -> JsonObject:
        """An instance of ours as a deregistration names it: with our claim, so that a later process's is left alone."""
        assert entry.registered is not None
        one = entry.registered.instance
        return {
            "service": one.service, "namespace": one.namespace, "group": one.group, "id": one.id, "claim": self.claim,
        }  # fmt: skip

    async def _remove(self, targets: Sequence[JsonObject]) -> None:
        for error in await self._registry.deregister_batch(targets):
            if error is not None and not isinstance(error, NotFound | Fenced):
                raise error

    # --- inside: what is told --------------------------------------------------------------------------------------------------

    def _alarmed(self, alarm: Alarm) -> None:
        if alarm.kind is AlarmKind.AWAY:
            self._stand_away(alarm.error or Unreachable(alarm.message, kind="", sent=False))
        elif alarm.kind is AlarmKind.BACK:
            self._back()
            self._wake.set()
        else:
            self._tell(Notice(alarm.kind.value, alarm.message, warning=alarm.kind is not AlarmKind.REGISTERED_AGAIN))

    def _stand_away(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            text = f"the registry is away: {error}; what runs here runs on, and is registered as soon as it answers"
            self._tell(Notice("away", text, warning=True))

    def _back(self) -> None:
        if self._away:
            self._away = False
            self._tell(Notice("back", "the registry answers"))
