"""The world of one simulation: a registry that stalls, crashes and comes back, and the network in front of it.

What the checkers need is written down as it happens: every acknowledged outcome, every renewal with the moments at
which it arrived and was handled, every command of the registry itself, and when each journal position became durable.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulated_loop import SimulatedLoop

from townhall.core import Command, Outcome, Rules
from townhall.core.commands import Deregister, LapseLeases, LeaseGrant, Registration
from townhall.engine import Entry, Opened
from townhall.engine.faults import Fault, FaultPlan, FaultyEngine
from townhall.engine.memory import MemoryEngine
from townhall.hub import Done
from townhall.hub.clock import MachineClock
from townhall.hub.hub import INTERNAL, Hub, HubOptions
from townhall.hub.ids import SeededIds
from townhall.hub.recovery import recover
from townhall.hub.snapshots import InlineCompactor
from townhall.model import limits
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey

EPOCH_S = 1_700_000_000.0
REQUEST_TIMEOUT_S = 2.0


class Lost(Exception):
    """The request or its answer got lost, or nobody was there."""


@dataclass
class Renewals:
    """What happened to the renewals of one lease, in virtual seconds."""

    ttl_s: float
    heard: list[float] = field(default_factory=list)
    """When the registry handled one, or gave the lease."""
    waiting: list[float] = field(default_factory=list)
    """When those arrived that were not handled yet."""


@dataclass
class Record:
    """Everything that the checkers look at."""

    acknowledged: list[tuple[int, tuple[object, ...]]] = field(default_factory=list)
    """(position, facts) of every outcome that reached its client."""
    renewals: dict[int, Renewals] = field(default_factory=dict)
    durable_at: dict[int, float] = field(default_factory=dict)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """Times during which the registry stood still for long enough to notice, and between a crash and its restart."""
    starts: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    """What was seen to be wrong at once."""
    trace: list[str] = field(default_factory=list)


@dataclass
class Arrival:
    """A request that reaches the registry's machine, whether or not the registry can read it just now."""

    at: float
    life: int
    waiting: list[float]
    handled: bool = False

    def handle(self) -> None:
        self.handled = True
        if self.at in self.waiting:
            self.waiting.remove(self.at)


class RecordingEngine:
    """The memory engine, which also notes when each entry became durable."""

    def __init__(self, inner: MemoryEngine, loop: SimulatedLoop, record: Record) -> None:
        self._inner = inner
        self._loop = loop
        self._record = record

    def open(self) -> Opened:
        return self._inner.open()

    def snapshot(self) -> Iterator[bytes]:
        return self._inner.snapshot()

    def follow(self, after: int) -> Iterator[Entry]:
        return self._inner.follow(after)

    async def append(self, blobs: Sequence[bytes], expect: int) -> int:
        for position in range(expect + 1, expect + 1 + len(blobs)):
            self._record.durable_at[position] = self._loop.now
        return await self._inner.append(blobs, expect)

    def tail(self) -> int:
        return self._inner.tail()

    def save(self, position: int, chunks: Any) -> None:
        self._inner.save(position, chunks)

    def trim(self, upto: int) -> None:
        self._inner.trim(upto)

    def close(self) -> None:
        self._inner.close()


class ObservedHub(Hub):
    """A hub that lets the checkers see what it decides by itself."""

    observe: Callable[[Command], None]

    def _submit_own(self, command: Command, done: Done) -> None:
        self.observe(command)
        super()._submit_own(command, done)


async def _in_place(call: Callable[[], None]) -> None:
    call()


class World:
    """The registry and the network."""

    def __init__(self, loop: SimulatedLoop, rng: random.Random, *, rules: Rules, rates: dict[Fault, float]) -> None:
        self.loop = loop
        self.rng = rng
        self.rules = rules
        self.record = Record()
        self.memory = MemoryEngine()
        self.faults = FaultyEngine(
            RecordingEngine(self.memory, loop, self.record), FaultPlan(rates=rates, delay_ms_max=60), rng
        )
        self.hub: ObservedHub | None = None
        self.life = 0
        self.calm = False
        """No more faults: what remains must come right."""
        self.loss = rng.choice([0.0, 0.0, 0.01, 0.05])
        self.deregistrations: dict[tuple[ServiceKey, str], set[str]] = {}
        """(service, id) to the claims that asked for their deregistration."""
        self._down_since = 0.0

    # --- the registry

    @property
    def name(self) -> str:
        """The registry's process."""
        return f"hub-{self.life}"

    async def start(self) -> None:
        """Start the registry on what its journal holds; returns when it is ready."""
        self.life += 1
        self.record.trace.append(f"{self.loop.now:.3f} start {self.name}")
        await self.loop.spawn(self.name, self._boot())
        self.record.stalls.append((self._down_since, self.loop.now))
        self.record.starts.append(self.loop.now)
        for renewals in self.record.renewals.values():
            renewals.heard.append(self.loop.now)  # Every lease has a full TTL from a start on.
            renewals.waiting.clear()

    async def _boot(self) -> None:
        if self.memory._is_open:
            self.faults.close()
        recovered = recover(self.faults)
        # Read the wall clock askew by up to two seconds, differently in each life.
        skew_s = self.rng.uniform(-2, 2)
        clock = MachineClock(wall=lambda: EPOCH_S + skew_s + self.loop.now, monotonic=lambda: self.loop.now)
        options = HubOptions(node="hub", rules=self.rules, snapshot_every_commits=self.rng.choice([7, 40, 1_000_000]))
        hub = ObservedHub(
            self.faults,
            recovered,
            options,
            clock=clock,
            ids=SeededIds(self.rng.getrandbits(64)),
            compactor=InlineCompactor(self.faults, recovered.state, offload=_in_place),
        )
        hub.observe = self._observe
        await hub.start()
        self.hub = hub

    def crash(self) -> None:
        """SIGKILL."""
        self.record.trace.append(f"{self.loop.now:.3f} kill {self.name}")
        self.loop.kill(self.name)
        self.hub = None
        self._down_since = self.loop.now
        for renewals in self.record.renewals.values():
            renewals.waiting.clear()

    async def stall(self, seconds: float) -> None:
        """SIGSTOP, later SIGCONT."""
        name, began = self.name, self.loop.now
        self.record.trace.append(f"{began:.3f} stall {name} for {seconds:.3f}")
        self.loop.freeze(name)
        await asyncio.sleep(seconds)
        if self.loop.alive(name) and seconds > limits.STALL_MIN_MS / 1000:
            self.record.stalls.append((began, self.loop.now))
        self.loop.thaw(name)

    def _observe(self, command: Command) -> None:
        if not isinstance(command, LapseLeases):
            return
        now = self.loop.now
        for id_, _ in command.leases:
            renewals = self.record.renewals.get(id_)
            if renewals is None:
                continue
            last = renewals.heard[-1]
            until = min([now, *renewals.waiting])
            silence = until - last - self.stood_still(last, until)
            if silence < renewals.ttl_s - 0.003:
                self.record.violations.append(
                    f"early lapse: lease {id_} at {now:.3f} was heard at {last:.3f}, "
                    f"silent for {silence:.3f} of {renewals.ttl_s} s, arrived but unread: {renewals.waiting}"
                )

    def stood_still(self, since: float, until: float) -> float:
        """For how long of this time the registry could not hear anybody."""
        return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in self.record.stalls)

    # --- the network

    def delay(self) -> float:
        """How long a message takes."""
        if self.calm or self.rng.random() < 0.98:
            return min(self.rng.expovariate(200), 0.05)
        return self.rng.uniform(0.05, 0.8)

    def lossy(self) -> bool:
        return not self.calm and self.rng.random() < self.loss

    async def call(
        self, handle: Callable[[Hub, Callable[[Any], None]], None], *, lease: int = 0, delay: float | None = None
    ) -> Any:
        """One request: ``handle(hub, answer)`` runs in the registry's process. Raises Lost.

        ``lease``: it is a renewal, so its arrival is noted even while the registry cannot read it.
        """
        loop = self.loop
        if self.hub is None:
            await asyncio.sleep(self.delay())
            raise Lost
        future: asyncio.Future[Any] = loop.create_future()
        client = contextvars.copy_context()
        delay = self.delay() if delay is None else delay
        arrival = Arrival(loop.now + delay, self.life, self.record.renewals[lease].waiting if lease else [])

        def deliver() -> None:
            arrival.handle()
            if self.hub is not None:
                handle(self.hub, answer)

        def answer(value: Any) -> None:
            if not self.lossy():
                loop.call_later(self.delay(), arrive, value, context=client)

        def arrive(value: Any) -> None:
            if not future.done():
                future.set_result(value)

        if not self.lossy():
            loop.call_later(delay, deliver, context=loop.context(self.name))
            loop.call_later(delay, self._note_arrival, arrival, context=loop.context("network"))
        try:
            return await asyncio.wait_for(future, REQUEST_TIMEOUT_S + delay)
        except TimeoutError:
            raise Lost from None

    def _note_arrival(self, arrival: Arrival) -> None:
        if not arrival.handled and arrival.life == self.life and self.hub is not None:
            arrival.waiting.append(arrival.at)

    async def submit(self, command: Command, *, delay: float | None = None) -> Outcome:
        """A write. Raises Lost, and what the registry refuses it with."""
        if isinstance(command, Deregister):
            self.deregistrations.setdefault((command.key, command.id), set()).add(command.claim)

        def handle(hub: Hub, answer: Callable[[Any], None]) -> None:
            def done(result: Outcome | TownhallError) -> None:
                granted = result.result if isinstance(result, Outcome) else None
                if isinstance(granted, Registration):
                    self._granted(granted.lease, granted.ttl_ms)
                elif isinstance(granted, LeaseGrant):
                    self._granted(granted.id, granted.ttl_ms)
                answer(result)

            hub.submit(command, INTERNAL, done)

        result = await self.call(handle, delay=delay)
        if isinstance(result, TownhallError):
            raise result
        assert isinstance(result, Outcome)
        if result.facts:
            self.record.acknowledged.append((result.position, result.facts))
        return result

    def _granted(self, lease: int, ttl_ms: int) -> None:
        self.record.renewals.setdefault(lease, Renewals(ttl_ms / 1000)).heard.append(self.loop.now)

    async def renew(self, lease: int, *, delay: float | None = None) -> bool:
        """One heartbeat; False when the registry does not know the lease. Raises Lost."""

        def handle(hub: Hub, answer: Callable[[Any], None]) -> None:
            missing = hub.renew([lease])
            if not missing:
                self.record.renewals[lease].heard.append(self.loop.now)
            answer(not missing)

        return bool(await self.call(handle, lease=lease, delay=delay))
