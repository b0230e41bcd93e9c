"""The hub: writer, cursors, expiry, subscribers, reports and snapshots around one State.

``Hub.open`` recovers and assembles (blocking), ``start`` begins to work, ``stop`` ends it. It implements the contracts
``hub.Hub`` and ``core.live.Live``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from townhall.core import Changes, Command, Ids, Interest, Outcome, Rules
from townhall.core.access import enforced, resolve
from townhall.core.commands import Registration, SetConnection, TakeOverLeases
from townhall.core.guard import known_user
from townhall.core.live import Live, Subscriber, Work
from townhall.core.passwords import hash_password, password_matches
from townhall.core.queries import Reader
from townhall.core.state import Lease
from townhall.hub.breaks import Breaks
from townhall.hub.check_deadlines import CheckDeadlines
from townhall.hub.clock import MachineClock
from townhall.hub.cursors import Cursor, Cursors, Freshness
from townhall.hub.expiry import Expiry
from townhall.hub.ids import RandomIds
from townhall.hub.logins import Logins
from townhall.hub.recovery import Progress, Recovered, recover
from townhall.hub.reports import Reports
from townhall.hub.snapshots import LAST_TIME_MAX_S, Compactor, InlineCompactor, Snapshots
from townhall.hub.status import snapshot_of_status
from townhall.hub.subscribers import Row, Subscribers
from townhall.hub.work import WorkBench
from townhall.hub.writer import Setting, Writer
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import TownhallError, Unauthenticated
from townhall.model.instance import Instance, ServiceKey

if TYPE_CHECKING:
    from townhall.engine import Engine
    from townhall.hub import Clock, Done, Observer, Signer

__all__ = ["INTERNAL", "Hub", "HubOptions"]

_log = logging.getLogger(__name__)

INTERNAL = Actor(internal=True)
"""The registry itself, when it lapses leases and sweeps."""
STRANGERS_COUNT_MAX: Final = 4_096
"""Addresses whose anonymous actor is kept; beyond, all are made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """How a hub works. Everything has a default that suits production."""

    node: str = "townhall"
    """Name of this node: owner of the leases it grants. One that changes takes its old leases over at the start."""
    rules: Rules = field(default_factory=Rules)
    """What configuration may change about decisions."""
    tick_ms: int = 50
    """How often deadlines are looked at, 5 to ``STALL_MIN_MS`` / 2."""
    snapshot_every_commits: int = limits.SNAPSHOT_EVERY_COMMITS
    """Commits between two snapshots."""
    snapshot_every_size: int = limits.SNAPSHOT_EVERY_SIZE
    """Journal bytes between two snapshots."""
    report_hold_ms: int = limits.REPORT_HOLD_MS
    """How long callers' reports keep an instance out after the last one."""
    deregister_critical_min_ms: int = limits.DEREGISTER_CRITICAL_MIN_MS
    """A check that asks for its instance to be taken out must have been critical for so long, at least."""
    reap_interval_ms: int = limits.REAP_INTERVAL_MS
    """How often such checks are looked at."""
    signers: Mapping[str, Signer] = field(default_factory=dict)
    """Spaces whose users' tokens are signed instead of kept."""


class Hub:
    """See ``townhall.hub``; one per process, on one event loop."""

    def __init__(
        self,
        engine: Engine,
        recovered: Recovered,
        options: HubOptions,
        *,
        clock: Clock,
        ids: Ids,
        compactor: Compactor | None = None,
    ) -> None:
        """Assemble around an open engine; does no I/O and needs a running loop. ``open`` is the usual way."""
        state = recovered.state
        clock.not_before(state.time_ms)
        self.options = options
        self.engine = engine
        self.state = state
        self.clock = clock
        self.recovered = recovered
        self.loop = asyncio.get_running_loop()
        self.cursors = Cursors(self.loop)
        self.writer = Writer(
            Setting(engine, state, clock, ids, options.rules, options.node), published=self._publish, heard=self._hear
        )
        self.expiry = Expiry(clock=clock, state=state, node=options.node, submit=self._submit_own)
        self.check_deadlines = CheckDeadlines(
            state=state, clock=clock, lease_time_ms=self.expiry.lease_time_ms, submit=self._submit_own
        )
        self.check_deadlines.minimum_ms = options.deregister_critical_min_ms
        self.check_deadlines.reap_interval_ms = options.reap_interval_ms
        self.observer: Observer | None = None
        """Who else follows checks and registrations: the room of active probes."""
        self.breaks = Breaks(self.loop, self._submit_own)
        self.table = Subscribers(lambda key: self.cursors.touch([("drain", key)]))
        self.reports = Reports(
            clock=clock,
            find=self._find,
            watchers=self.table.count,
            submit=self._submit_own,
            hold_ms=options.report_hold_ms,
        )
        self.logins = Logins(state=state, clock=clock, ids=ids, signers=options.signers)
        self.bench = WorkBench(self.loop, self.cursors.touch)
        self._ids = ids
        self.snapshots = Snapshots(
            engine=engine,
            compactor=compactor or InlineCompactor(engine, state),
            position=recovered.snapshot,
            commits_max=options.snapshot_every_commits,
            size_max=options.snapshot_every_size,
        )
        # A process of its own for snapshots means a store that outlives this one: worth a snapshot at the end.
        self._lasting = compactor is not None and not isinstance(compactor, InlineCompactor)
        self.live: Live = self
        self.ready = False
        """Started and not stopping."""
        self.tick_errors = 0
        self.started_ms = clock.monotonic_ms()
        self._strangers: dict[str, Actor] = {}
        """By address, while nobody needs a token and none has been given out."""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def open(
        cls,
        engine: Engine,
        options: HubOptions | None = None,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        compactor: Compactor | None = None,
        progress: Progress | None = None,
    ) -> Hub:
        """Open the engine, rebuild the state and assemble. Blocking, called on the loop that will run it.

        Raises EngineFailed and Damaged, see ``recovery.recover``.
        """
        recovered = recover(engine, progress=progress)
        return cls(
            engine,
            recovered,
            options or HubOptions(),
            clock=clock or MachineClock(),
            ids=ids or RandomIds(),
            compactor=compactor,
        )

    # --- life

    async def start(self) -> None:
        """Begin to write and to expire. Every lease of this node has a full TTL from now on."""
        self._task = self.loop.create_task(self.writer.run(), name="hub writer")
        self.snapshots.note(self.recovered.replayed, self.recovered.replayed_size)
        for service in self.state.services.values():
            # Marks are rare, so services in which everybody is healthy are skipped by their counts.
            if service.callable < len(service.instances) or service.held:
                for instance in service.instances.values():
                    if instance.evidence.reported_at:
                        self.reports.adopt(instance)
        self.expiry.adopt(self.state.leases)
        self.check_deadlines.adopt()
        if any(lease.owner != self.options.node for lease in self.state.leases.values()):
            await self._take_over()
        self.ready = True
        self._timer = self.loop.call_later(self.options.tick_ms / 1000, self._tick)

    async def _take_over(self) -> None:
        """The store is ours alone, so leases of another name are leases of an earlier name of ours."""
        finished: asyncio.Future[Outcome | TownhallError] = self.loop.create_future()
        self._submit_own(TakeOverLeases(), finished.set_result)
        result = await finished
        if isinstance(result, TownhallError):
            _log.error("leases of another node could not be taken over: %s", result)
        self.expiry.adopt(self.state.leases)

    async def stop(self) -> None:
        """Answer the commands that wait, refuse new ones with Stopping, release the engine; idempotent."""
        self.ready = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.breaks.flush()
        self.writer.stop()
        if self._task is not None:
            await self._task
            self._task = None
            if self._lasting and self.writer.failure is None:
                await self.snapshots.finish(InlineCompactor(self.engine, self.state, within_s=LAST_TIME_MAX_S))
        await self.snapshots.stop()
        self.bench.stop()
        self.engine.close()

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self.options.tick_ms / 1000, self._tick)
        try:
            self.clock.now_ms()  # The clock must be read often, see ``clock``.
            self.expiry.tick()
            self.check_deadlines.tick()
            self.reports.tick()
        except Exception:
            self.tick_errors += 1
            _log.exception("expiry failed at one tick")

    # --- contract hub.Hub

    def submit(self, command: Command, actor: Actor, done: Done) -> None:
        """See ``hub.Hub``. That a connection broke is our own observation, whoever it belonged to."""
        if isinstance(command, SetConnection):
            if not command.up:
                self.breaks.add(command, done)
                return
            self.breaks.flush()
        self.writer.submit(command, actor, done)

    def reader(self, actor: Actor) -> Reader:
        """See ``hub.Hub``."""
        return Reader(self.state, actor, self.options.rules)

    def authenticate(self, secret: str, address: str, certified: tuple[str, str] = ("", "")) -> Actor:
        """See ``hub.Hub``."""
        state = self.state
        if not (secret or certified[1] or state.tokens or enforced(state, self.options.rules)):
            # Nothing has been given to strangers or kept from them, so the address says all.
            return self._strangers.get(address) or self._stranger(address)
        if state.guarded and (secret or certified[1]):
            restricted = enforced(state, self.options.rules)
            if secret:
                user = self.logins.resolve(secret, address=address, restricted=restricted)
            else:
                user = known_user(state, *certified, address=address, restricted=restricted)
            if user is not None:
                return user
        # Only tokens end by time, so for the anonymous actor of most requests the clock need not be read.
        now_ms = self.clock.now_ms() if secret else 0
        return resolve(state, self.options.rules, secret=secret, address=address, now_ms=now_ms)

    def _stranger(self, address: str) -> Actor:
        if len(self._strangers) >= STRANGERS_COUNT_MAX:
            self._strangers.clear()
        actor = resolve(self.state, self.options.rules, secret="", address=address, now_ms=0)
        self._strangers[address] = actor
        return actor

    def watch(self, interests: Sequence[Interest], wake: Callable[[], None]) -> Cursor:
        """See ``hub.Hub``."""
        return self.cursors.watch(interests, wake)

    def subscribe(self, subscriber: Subscriber, services: Sequence[tuple[str, str, str]]) -> Row:
        """See ``hub.Hub``."""
        return self.table.add(subscriber, services)

    # --- contract core.live.Live

    def renew(self, leases: Sequence[int]) -> list[int]:
        """See ``core.live.Live``."""
        return self.expiry.renew(leases)

    def renew_one(self, lease: int) -> bool:
        """See ``core.live.Live``."""
        return self.expiry.renew_one(lease)

    def renewing(self) -> Callable[[Lease], bool]:
        """See ``core.live.Live``."""
        return self.expiry.renewing()

    def now_ms(self) -> int:
        """See ``core.live.Live``."""
        return self.clock.now_ms()

    def deadline(self, lease: int) -> int | None:
        """See ``core.live.Live``."""
        return self.expiry.deadline(lease)

    def check_heartbeat(self, node: str, id: str) -> bool:  # noqa: A002 - the catalogue's word
        """See ``core.live.Live``."""
        return self.check_deadlines.heartbeat((node, id))

    def report(self, reporter: str, target: tuple[str, str, str, str], kind: str, count: int) -> bool:
        """See ``core.live.Live``."""
        namespace, group, service, id_ = target
        return self.reports.report(reporter, ServiceKey(namespace, group, service), id_, kind=kind, count=count)

    def subscribers(self, namespace: str, group: str, service: str) -> Sequence[Subscriber]:
        """See ``core.live.Live``."""
        return self.table.of(ServiceKey(namespace, group, service))

    def acknowledge(self, subscriber: str, revisions: Mapping[tuple[str, str, str], int]) -> bool:
        """See ``core.live.Live``."""
        return self.table.acknowledge(subscriber, revisions)

    def view(self, interests: Sequence[Interest]) -> Freshness:
        """See ``core.live.Live``."""
        return self.cursors.view(interests)

    def work(self, function: Callable[[], Any], asker: str) -> Work:
        """See ``core.live.Live``."""
        return self.bench.start(function, asker)

    def hash_password(self, password: str, asker: str) -> Work:
        """See ``core.live.Live``."""
        salt = self._ids.secret().encode()
        return self.bench.start(lambda: hash_password(password, salt), asker)

    def check_password(self, password: str, stored: bytes, asker: str) -> Work:
        """See ``core.live.Live``."""
        if self.logins.recall(password, stored):
            return Work(("work", 0), done=True, result=True)

        def check() -> bool:
            matches = password_matches(password, stored)
            if matches:
                self.loop.call_soon_threadsafe(self.logins.remember, password, stored)
            return matches

        return self.bench.start(check, asker)

    def recognises(self, secret: str) -> bool:
        """See ``core.live.Live``."""
        try:
            actor = resolve(self.state, self.options.rules, secret=secret, address="", now_ms=self.clock.now_ms())
        except Unauthenticated:
            return False
        return bool(secret and actor.token_id)

    def login(self, space: str, user: str) -> str:
        """See ``core.live.Live``."""
        return self.logins.login(space, user)

    def status(self) -> Mapping[str, object]:
        """See ``core.live.Live`` and ``hub.status``."""
        return snapshot_of_status(self)

    # --- inside

    def _publish(self, changes: Changes, commits: int, size: int) -> None:
        if changes.leases:
            self.expiry.follow(changes.leases)
        if changes.checks:
            self.check_deadlines.follow(changes.checks)
            if self.observer is not None:
                self.observer.checks_changed(changes.checks)
        self.cursors.publish(changes)
        self.snapshots.note(commits, size)

    def _hear(self, registration: Registration) -> None:
        if not registration.fresh:
            self.expiry.renew((registration.lease,))
        elif self.observer is not None:
            self.observer.registered(registration.instance)

    def _submit_own(self, command: Command, done: Done) -> None:
        self.writer.submit(command, INTERNAL, done)

    def _find(self, key: ServiceKey, id_: str) -> Instance | None:
        service = self.state.services.get(key)
        return service.instances.get(id_) if service is not None else None
