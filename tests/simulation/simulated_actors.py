"""Those who use the registry in a simulation: providers, watchers, lock holders and writers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulated_world import Lost, World

from townhall.core.commands import Deregister, GrantLease, PatchInstance, Register, SetConnection, Transact
from townhall.core.live import Subscriber
from townhall.hub import Subscription, Ticket
from townhall.hub.hub import INTERNAL, Hub
from townhall.model.errors import Compacted, Fenced, NotFound, TownhallError
from townhall.model.instance import Instance, ServiceKey
from townhall.model.keys import Compare, CompareTarget, Delete, Put, Relation, Transaction
from townhall.model.lease import LeaseKind

SPACE = "native"


class Provider:
    """A process that keeps one instance registered, and lives through what processes live through."""

    def __init__(self, world: World, key: ServiceKey, id_: str, ttl_ms: int) -> None:
        self.world = world
        self.key = key
        self.id = id_
        self.ttl_ms = ttl_ms
        self.life = 0
        self.lease = 0
        self.up = False
        """Running and registered as far as it knows."""
        self.wanted = True
        """It means to be registered."""

    @property
    def claim(self) -> str:
        return f"{self.id}/{self.life}"

    @property
    def process(self) -> str:
        return f"provider-{self.claim}"

    def begin(self) -> None:
        """A new life: another process, another claim."""
        self.life += 1
        self.lease = 0
        self.up = False
        self.wanted = True
        self.world.loop.spawn(self.process, self._serve())

    async def _serve(self) -> None:
        while True:
            if not self.up and not await self._register():
                await asyncio.sleep(self.world.rng.uniform(0.05, 0.5))
                continue
            await asyncio.sleep(self.ttl_ms / 3000 * self.world.rng.uniform(0.8, 1.0))
            try:
                self.up = await self.world.renew(self.lease)
            except Lost:
                continue
            if self.up and not self.world.calm and self.world.rng.random() < 0.05:
                await self._patch()

    async def _register(self) -> bool:
        command = Register(
            key=self.key, id=self.id, address="127.0.0.1", port=80, ttl_ms=self.ttl_ms, claim=self.claim,
            metadata={"life": str(self.life)},
        )  # fmt: skip
        try:
            outcome = await self.world.submit(command)
        except (Lost, TownhallError):
            return False
        self.lease = outcome.result.lease  # type: ignore[attr-defined]
        self.up = True
        return True

    async def _patch(self) -> None:
        try:
            await self.world.submit(
                PatchInstance(key=self.key, id=self.id, weight=float(self.world.rng.randrange(1, 10)))
            )
        except (Lost, TownhallError):
            return

    # --- what happens to it; called from outside

    async def pause(self, seconds: float) -> None:
        """SIGSTOP, later SIGCONT."""
        process = self.process
        self.world.loop.freeze(process)
        await asyncio.sleep(seconds)
        self.world.loop.thaw(process)

    def crash(self, *, noticed: bool) -> None:
        """SIGKILL; ``noticed``: its connection breaks and the registry hears of it at once."""
        lease = self.lease
        self.world.loop.kill(self.process)
        self.up = self.wanted = False
        if noticed and lease:
            self.world.loop.spawn("network", self._break(lease))

    async def _break(self, lease: int) -> None:
        try:
            await self.world.submit(SetConnection(leases=(lease,), up=False))
        except (Lost, TownhallError):
            return

    async def leave(self) -> None:
        """It deregisters, tries that for a while, and ends."""
        claim, process = self.claim, self.process
        self.world.loop.kill(process)
        self.up = self.wanted = False
        for _ in range(5):
            try:
                await self.world.submit(Deregister(key=self.key, id=self.id, claim=claim))
            except NotFound:
                return
            except (Lost, TownhallError):
                await asyncio.sleep(0.3)
            else:
                return

    async def late_deregistration(self, claim: str, seconds: float) -> None:
        """What an old life sent arrives when a new one has long registered."""
        try:
            await self.world.submit(Deregister(key=self.key, id=self.id, claim=claim), delay=seconds)
        except (Lost, NotFound, Fenced, TownhallError):
            return


@dataclass
class Mirror:
    """What a watcher holds."""

    revision: int = 0
    instances: dict[str, tuple[int, str, bool]] = field(default_factory=dict)
    """Id to (revision, verdict, callable)."""


def seen(instance: Instance) -> tuple[int, str, bool]:
    return instance.revision, str(instance.verdict), instance.callable


class Watcher:
    """A consumer that mirrors one service over a stream, and takes the stream up again where it broke."""

    def __init__(self, world: World, key: ServiceKey, name: str) -> None:
        self.world = world
        self.key = key
        self.name = name
        self.mirror = Mirror()
        self.history: list[tuple[int, dict[str, tuple[int, str, bool]]]] = []
        """Each state it went through, with its revision."""
        self.lists = 0
        self._connection = 0
        self._silent_since = 0.0

    def begin(self) -> None:
        self.world.loop.spawn(f"watcher-{self.name}", self._follow())

    async def _follow(self) -> None:
        while True:
            self._connection += 1
            try:
                await self.world.call(self._opening(self._connection, self.mirror.revision))
            except Lost:
                await asyncio.sleep(self.world.rng.uniform(0.05, 0.5))
                continue
            # The stream carries a sign of life every second; without one for three it is opened anew.
            self._silent_since = self.world.loop.now
            while self.world.loop.now - self._silent_since < 3:
                await asyncio.sleep(0.5)
                if self.world.lossy():
                    break

    def _opening(self, connection: int, after: int) -> Callable[[Hub, Callable[[Any], None]], None]:
        """The request, with what it said when it was sent."""

        def handle(hub: Hub, answer: Callable[[Any], None]) -> None:
            ServedStream(self, hub, connection, after).begin()
            answer(True)

        return handle

    def receive(self, connection: int, delta: tuple[int, bool, Sequence[Instance], Sequence[str]] | None) -> None:
        """A message arrives, in this watcher's process."""
        if connection != self._connection:
            return  # From a stream that this watcher has given up.
        self._silent_since = self.world.loop.now
        if delta is None:
            return
        revision, whole, changed, removed = delta
        violations = self.world.record.violations
        if revision < self.mirror.revision or (revision == self.mirror.revision and not whole):
            violations.append(f"repeat: {self.name} is at {self.mirror.revision} and was sent {revision}")
        if whole:
            self.lists += 1
            self.mirror.instances.clear()
        for instance in changed:
            self.mirror.instances[instance.id] = seen(instance)
        for id_ in removed:
            self.mirror.instances.pop(id_, None)
        self.mirror.revision = revision
        self.history.append((revision, dict(self.mirror.instances)))


class ServedStream:
    """What a face does for one watcher: push a delta, arm the ticket, push again when woken."""

    def __init__(self, watcher: Watcher, hub: Hub, connection: int, after: int) -> None:
        self.watcher = watcher
        self.hub = hub
        self.connection = connection
        self.after = after
        self.ticket: Ticket | None = None
        self.row: Subscription | None = None
        self._delivered_at = 0.0
        self._client = watcher.world.loop.context(f"watcher-{watcher.name}")

    def begin(self) -> None:
        watcher = self.watcher
        subscriber = Subscriber(watcher.name, watcher.name, "", "native", 0)
        self.row = self.hub.subscribe(subscriber, [watcher.key])
        self.ticket = self.hub.watch([watcher.key], self._woken)
        self._push()
        self._beat()

    def _beat(self) -> None:
        loop = self.watcher.world.loop
        if self.connection != self.watcher._connection:
            # The watcher has hung up; a real socket would say so too.
            assert self.ticket is not None
            assert self.row is not None
            self.ticket.cancel()
            self.row.close()
            return
        self._send(None)
        loop.call_later(1.0, self._beat)

    def _woken(self) -> None:
        world = self.watcher.world
        self._push()
        assert self.ticket is not None
        if world.rng.random() < 0.8:
            self.ticket.arm()
        else:
            # A slow reader: the stream is pulled again when its socket takes bytes.
            world.loop.call_later(world.rng.uniform(0, 2), self._writable)

    def _writable(self) -> None:
        assert self.ticket is not None
        self.ticket.arm()

    def _push(self) -> None:
        reader = self.hub.reader(INTERNAL)
        key = self.watcher.key
        assert self.row is not None
        try:
            delta = reader.changes(key, self.after)
        except Compacted:
            if self.after > reader.position:
                self.watcher.world.record.violations.append(
                    f"journal went back: {self.watcher.name} has {self.after}, the registry {reader.position}"
                )
            self.after = reader.service_revision(key)
            self._send((self.after, True, reader.instances(key), ()))
        else:
            if delta.revision <= self.after:
                return
            self.after = delta.revision
            self._send((delta.revision, False, delta.changed, delta.removed))
        self.row.sent({key: self.after})

    def _send(self, delta: tuple[int, bool, Sequence[Instance], Sequence[str]] | None) -> None:
        """In order, as TCP does."""
        world = self.watcher.world
        self._delivered_at = max(self._delivered_at + 1e-6, world.loop.now + world.delay())
        world.loop.call_at(self._delivered_at, self.watcher.receive, self.connection, delta, context=self._client)


class LockHolder:
    """Takes a lock with a lease, holds it while it can be sure of it, and lets go."""

    def __init__(self, world: World, name: str, lock: bytes, ttl_ms: int) -> None:
        self.world = world
        self.name = name
        self.lock = lock
        self.ttl_ms = ttl_ms
        self.held: list[tuple[float, float]] = []
        """When it was sure to hold the lock."""

    def begin(self) -> None:
        self.world.loop.spawn(f"holder-{self.name}", self._run())

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(Lost, TownhallError):
                await self._once()
            await asyncio.sleep(self.world.rng.uniform(0.2, 2))

    async def _once(self) -> None:
        world, loop = self.world, self.world.loop
        asked = loop.now
        granted = await world.submit(GrantLease(ttl_ms=self.ttl_ms, kind=LeaseKind.KEYS))
        lease = granted.result.id  # type: ignore[attr-defined]
        sure_until = asked + self.ttl_ms / 1000
        free = Compare(self.lock, CompareTarget.VERSION, Relation.EQUAL, 0)
        taken = await world.submit(
            Transact(
                space=SPACE,
                transaction=Transaction(compares=(free,), success=(Put(self.lock, self.name.encode(), lease=lease),)),
            )
        )
        if not taken.result.succeeded:  # type: ignore[attr-defined]
            return
        began = loop.now
        wants_until = began + world.rng.uniform(0.5, 6)
        while loop.now < min(sure_until, wants_until):
            # Some renew in good time, some cut it so fine that the lease may be over when the renewal arrives.
            pause_s = self.ttl_ms / 1000 * world.rng.choice([0.33, 0.33, world.rng.uniform(0.9, 1.0)])
            await asyncio.sleep(min(pause_s, max(0.0, sure_until - loop.now - 1e-6)))
            asked = loop.now
            try:
                if not await world.renew(lease, delay=world.rng.choice([None, world.rng.uniform(0.03, 0.2)])):
                    break
            except Lost:
                continue
            # From the moment it asked: the registry heard it then at the earliest.
            sure_until = asked + self.ttl_ms / 1000
        until = min(loop.now, sure_until)
        if until > began:
            self.held.append((began, until))
        if loop.now < sure_until:
            mine = Compare(self.lock, CompareTarget.LEASE, Relation.EQUAL, lease)
            await world.submit(
                Transact(space=SPACE, transaction=Transaction(compares=(mine,), success=(Delete(self.lock),)))
            )


class Writer:
    """Counts up in one key, and knows the last number that was acknowledged."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.acknowledged = -1
        self.tried = -1

    @property
    def key(self) -> bytes:
        return f"count/{self.name}".encode()

    def begin(self) -> None:
        self.world.loop.spawn(f"writer-{self.name}", self._run())

    async def _run(self) -> None:
        while True:
            self.tried += 1
            number = self.tried
            try:
                put = Put(self.key, str(number).encode())
                await self.world.submit(Transact(space=SPACE, transaction=Transaction(success=(put,))))
            except (Lost, TownhallError):
                pass
            else:
                self.acknowledged = number
            await asyncio.sleep(self.world.rng.expovariate(2))
