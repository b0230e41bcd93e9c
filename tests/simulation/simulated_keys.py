"""Those who use keys that are instances: providers that register by a key, and watchers of keys that show instances."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from simulated_world import Lost, World

from townhall.core import KeyRange
from townhall.core.commands import CompactSpace, Deregister, GrantLease, PutLayouts, Transact
from townhall.hub import Ticket
from townhall.hub.hub import INTERNAL, Hub
from townhall.model.errors import Compacted, NotFound, TownhallError
from townhall.model.instance import ServiceKey
from townhall.model.keys import Delete, KeyEvent, Put, Transaction
from townhall.model.lease import LeaseKind
from townhall.model.tie import Direction, Tie

SPACE: Final = "etcd"
KEYED: Final = ServiceKey("default", "default", "keyed")
"""Its instances are keys, so silence takes them at once and no floor holds them."""
SHOWN: Final = (b"all/", b"all0")
IMPORT: Final = Tie(SPACE, b"service/", "naming", Direction.IMPORT)
EXPORT: Final = Tie(SPACE, SHOWN[0], "naming", Direction.EXPORT)


class KeyProvider:
    """A process that keeps one instance registered by a key on a lease of its own, as etcd's clients do."""

    def __init__(self, world: World, number: int, ttl_ms: int) -> None:
        self.world = world
        self.key = f"service/{KEYED.name}/{number}".encode()
        self.id = f"{SPACE}:{self.key.decode()}"
        self.ttl_ms = ttl_ms
        self.life = 0
        self.up = False
        """Running and registered as far as it knows."""
        self.wanted = True
        """It means to be registered."""
        self._lease = 0

    @property
    def process(self) -> str:
        return f"{self.id}/{self.life}"

    @property
    def value(self) -> bytes:
        return json.dumps({"Op": 0, "Addr": f"127.0.0.1:{1_000 + self.life}", "Metadata": None}).encode()

    def begin(self) -> None:
        """A new life: another process, another lease."""
        self.life += 1
        self.up, self.wanted = False, True
        self.world.loop.spawn(self.process, self._serve())

    async def _serve(self) -> None:
        while True:
            try:
                if not self.up:
                    await self._register()
                await asyncio.sleep(self.ttl_ms / 3000 * self.world.rng.uniform(0.8, 1.0))
                self.up = await self.world.renew(self._lease)
            except (Lost, TownhallError):
                await asyncio.sleep(self.world.rng.uniform(0.01, 0.3))

    async def _register(self) -> None:
        granted = await self.world.submit(GrantLease(ttl_ms=self.ttl_ms, kind=LeaseKind.KEYS))
        self._lease = granted.result.id  # type: ignore[attr-defined]
        await self._write(Put(self.key, self.value, lease=self._lease))
        self.up = True

    async def _write(self, operation: Put | Delete) -> None:
        await self.world.submit(Transact(space=SPACE, transaction=Transaction(success=(operation,))))

    def crash(self) -> None:
        """SIGKILL: nobody renews any more."""
        self.world.loop.kill(self.process)
        self.up = self.wanted = False

    async def leave(self, *, by_key: bool) -> None:
        """It deletes its key, or deregisters the instance, which deletes the key; tries that for a while, and ends."""
        self.crash()
        for _ in range(5):
            try:
                if by_key:
                    await self._write(Delete(self.key))
                else:
                    await self.world.submit(Deregister(key=KEYED, id=self.id))
            except NotFound:
                return  # Nobody is there, or nothing is tied just now and the key stands until its lease ends.
            except (Lost, TownhallError):
                await asyncio.sleep(0.3)
            else:
                return


class KeyWatcher:
    """Mirrors the keys that show instances by their events alone, and takes them up again where they broke off."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.revision = 0
        self.keys: dict[bytes, bytes] = {}
        self.history: list[tuple[int, dict[bytes, bytes]]] = []
        """Each state it went through, with its revision of the space."""
        self.connection = 0
        self._heard = 0.0

    def begin(self) -> None:
        self.world.loop.spawn(f"keywatcher-{self.name}", self._follow())

    async def _follow(self) -> None:
        while True:
            self.connection += 1
            try:
                await self.world.call(partial(self._open, self.connection, self.revision))
            except Lost:
                await asyncio.sleep(self.world.rng.uniform(0.05, 0.5))
                continue
            self._heard = self.world.loop.now
            while self.world.loop.now - self._heard < 3:
                await asyncio.sleep(0.5)
                if self.world.lossy():
                    break

    def _open(self, connection: int, after: int, hub: Hub, answer: Callable[[Any], None]) -> None:
        ServedKeys(self, hub, connection, after).begin()
        answer(True)

    def list(self, connection: int, revision: int, keys: Mapping[bytes, bytes]) -> None:
        """What stood at a revision arrives, because the events since the last one are forgotten."""
        if connection == self.connection:
            self._heard = self.world.loop.now
            self._came(revision, dict(keys))

    def receive(self, connection: int, events: Sequence[KeyEvent]) -> None:
        """Events arrive; without any it is a sign of life."""
        if connection != self.connection:
            return
        self._heard = self.world.loop.now
        keys, revision = dict(self.keys), self.revision
        for place, event in enumerate(events):
            if event.revision < revision or (event.revision == revision and not place):
                self._wrong(f"repeat: it is at {revision} and was sent {event.revision}")
            if event.revision > revision and place:
                self._came(revision, dict(keys))
            revision = event.revision
            if event.after is None:
                if keys.pop(event.key, None) is None:
                    self._wrong(f"the delete of {event.key!r}, which was not there")
            else:
                keys[event.key] = event.after.value
        if events:
            self._came(revision, keys)

    def _came(self, revision: int, keys: dict[bytes, bytes]) -> None:
        if revision < self.revision:
            self._wrong(f"revisions went back from {self.revision} to {revision}")
        self.revision, self.keys = revision, keys
        self.history.append((revision, keys))

    def _wrong(self, what: str) -> None:
        self.world.record.violations.append(f"watcher {self.name} of keys: {what}")


class ServedKeys:
    """What a face does for one watch: push the events, arm the ticket, push again when woken."""

    def __init__(self, watcher: KeyWatcher, hub: Hub, connection: int, after: int) -> None:
        self.watcher, self.hub, self.connection, self.after = watcher, hub, connection, after
        self._ticket: Ticket | None = None
        self._delivered_at = 0.0
        self._client = watcher.world.loop.context(f"keywatcher-{watcher.name}")

    def begin(self) -> None:
        self._ticket = self.hub.watch([KeyRange(SPACE, *SHOWN)], self._woken)
        self._push()
        self._beat()

    def _beat(self) -> None:
        if self.connection != self.watcher.connection:
            assert self._ticket is not None
            self._ticket.cancel()
            return
        self._send(self.watcher.receive, ())
        self.watcher.world.loop.call_later(1.0, self._beat)

    def _woken(self) -> None:
        self._push()
        assert self._ticket is not None
        if self.watcher.world.rng.random() < 0.8:
            self._ticket.arm()
        else:
            self.watcher.world.loop.call_later(self.watcher.world.rng.uniform(0, 2), self._ticket.arm)

    def _push(self) -> None:
        reader = self.hub.reader(INTERNAL)
        revision = reader.space_revision(SPACE)
        if self.after > revision:
            self.watcher._wrong(f"it has {self.after}, the registry {revision}")
        try:
            events = reader.key_events(SPACE, *SHOWN, self.after)
        except Compacted:
            standing = {kv.key: kv.value for kv in reader.range(SPACE, *SHOWN).kvs}
            self._send(self.watcher.list, revision, standing)
        else:
            if events:
                self._send(self.watcher.receive, tuple(events))
        self.after = revision

    def _send(self, take: Callable[..., None], *message: object) -> None:
        """In order, as TCP does."""
        world = self.watcher.world
        self._delivered_at = max(self._delivered_at + 1e-6, world.loop.now + world.delay())
        world.loop.call_at(self._delivered_at, take, self.connection, *message, context=self._client)


async def tie(world: World, *ties: Tie) -> bool:
    """Put these in force; whether it is known that they are."""
    try:
        await world.submit(PutLayouts(ties))
    except (Lost, TownhallError):
        return False
    return True


async def compact(world: World) -> None:
    """Forget the past of the keys but the last few revisions."""
    if world.hub is not None:
        revision = world.hub.reader(INTERNAL).space_revision(SPACE) - world.rng.choice([0, 0, 5])
        try:
            await world.submit(CompactSpace(space=SPACE, revision=max(1, revision)))
        except (Lost, TownhallError):
            return
