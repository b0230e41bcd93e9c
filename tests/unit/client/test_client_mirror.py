"""A mirror shows what the registry says, through breaks, restarts, refusals and compaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from fake_registry import FakeRegistry, Refusal, until

from townhall.client.api import Registry, watch_name
from townhall.client.mirror import Mirror, MirrorState
from townhall.client.picture import Change
from townhall.client.snapshot_file import SnapshotFiles
from townhall.model import limits
from townhall.model.errors import Denied, NoInstance, OverLimit
from townhall.model.instance import ServiceKey

USER = ServiceKey("default", "default", "user")
OTHER = ServiceKey("default", "default", "other")
Scene = Callable[[FakeRegistry, Mirror], Awaitable[None]]


def play(scene: Scene, directory: Path | None = None) -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            files = SnapshotFiles(directory, [registry.transport.preferred]) if directory else None
            mirror = Mirror(registry, name="me", files=files)
            task = asyncio.get_running_loop().create_task(mirror.run())
            try:
                async with asyncio.timeout(120):
                    await scene(fake, mirror)
                assert not task.done()
            finally:
                task.cancel()
                await asyncio.wait({task})

    asyncio.run(main())


async def follow(mirror: Mirror, *keys: ServiceKey) -> None:
    for key in keys:
        mirror.follow(key)
        await mirror.ready(key, budget_s=10)


def shown(mirror: Mirror, key: ServiceKey = USER) -> set[str]:
    picture = mirror.picture(key)
    return set(picture.by_id) if picture is not None else set()


def connected(mirror: Mirror) -> bool:
    return mirror.state is MirrorState.CONNECTED


def test_first_picture_then_changes() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        await fake.put("user", "a")
        assert mirror.picture(USER) is None
        await follow(mirror, USER)
        assert shown(mirror) == {"a"}
        changes: list[Change] = []
        end = mirror.listen(USER, changes.append)
        await until(lambda: connected(mirror))
        assert mirror.age_s(USER) == 0
        await fake.put("user", "b")
        await until(lambda: shown(mirror) == {"a", "b"})
        await fake.remove("user", "a")
        await until(lambda: shown(mirror) == {"b"})
        assert [([one.id for one in change.changed], change.removed) for change in changes] == [
            (["b"], ()),
            ([], ("a",)),
        ]
        end()
        await fake.put("user", "c")
        await until(lambda: "c" in shown(mirror))
        assert len(changes) == 2

    play(scene)


def test_services_join_a_running_stream_without_missing_anything() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        keys = [ServiceKey("default", "default", f"s{n}") for n in range(8)]
        for key in keys:
            await follow(mirror, key)
            # A change between the fetch and the stream's reopening belongs to the new service.
            await fake.put(key.name, "a")
            await fake.put("s0", key.name)
        await until(lambda: connected(mirror) and all("a" in shown(mirror, key) for key in keys))
        await until(lambda: shown(mirror, keys[0]) == {"a", *(key.name for key in keys)})
        assert fake.asked[-1].path != "/watch" or len(fake.asked[-1].all("service")) == 8

    play(scene)


def test_several_that_join_together_cause_few_streams() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        keys = [ServiceKey("default", "default", f"s{n}") for n in range(2 * limits.CLIENT_FETCHES_MAX)]
        for key in keys:
            mirror.follow(key)
        await asyncio.gather(*(mirror.ready(key, budget_s=20) for key in keys))
        await until(lambda: connected(mirror) and fake.asked[-1].path.endswith("/ack"))
        for key in keys:
            await fake.put(key.name, "a")
        await until(lambda: all(shown(mirror, key) == {"a"} for key in keys))
        assert sum(asked.path == "/watch" for asked in fake.asked) <= 6

    play(scene)


def test_breaks_are_resumed_without_gap() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        await follow(mirror, USER, OTHER)
        rng = Random(3)
        states: list[MirrorState] = []
        mirror.on_state(states.append)
        for step in range(60):
            name = rng.choice("abcdef")
            service = rng.choice(["user", "other"])
            await (fake.put(service, name) if rng.random() < 0.7 else fake.remove(service, name))
            if step % 7 == 0:
                fake.break_streams()
            await asyncio.sleep(rng.random() * 0.01)
        for key in (USER, OTHER):
            truth = set(fake.instances.get(key, {}))
            await until(lambda key=key, truth=truth: shown(mirror, key) == truth)  # type: ignore[misc]
        await until(lambda: connected(mirror))
        resumed = [asked for asked in fake.asked if asked.path == "/watch" and "last-event-id" in asked.headers]
        assert resumed
        assert {MirrorState.CONNECTED, MirrorState.SUSPENDED} <= set(states)

    play(scene)


def test_without_a_registry_the_last_picture_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_LOST_MS", 100)

    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        await fake.put("user", "a")
        await follow(mirror, USER)
        await until(lambda: connected(mirror))
        states: list[MirrorState] = []
        end = mirror.on_state(states.append)
        await fake.stop()
        await until(lambda: mirror.state is MirrorState.LOST)
        assert shown(mirror) == {"a"}
        assert mirror.age_s(USER) > 0.05
        await fake.put("user", "b")
        await fake.start()
        await until(lambda: connected(mirror))
        assert states == [MirrorState.SUSPENDED, MirrorState.LOST, MirrorState.CONNECTED]
        await until(lambda: shown(mirror) == {"a", "b"})
        end()

    play(scene)


@pytest.mark.parametrize("history", ["", "new"])
def test_a_registry_that_lost_everything_is_believed_in_the_end(history: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_UNCONFIRMED_MS", 200)

    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        fake.history = "old" if history else ""
        for name in "abc":
            await fake.put("user", name)
        await follow(mirror, USER)
        await until(lambda: connected(mirror))
        await fake.stop()
        await fake.forget_everything()
        fake.history = history
        # With a name for its history it is told apart even when its positions have caught up with the old ones.
        for _ in range(5 if history else 1):
            await fake.put("user", "z")
        if history:
            fake.instances[USER]["z"]["revision"] = 1
        await fake.start()
        await until(lambda: shown(mirror) == {"z"})
        await fake.put("user", "y")
        await until(lambda: shown(mirror) == {"z", "y"})

    play(scene)


def test_what_a_registry_that_lost_everything_does_not_know_yet_stays() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        fake.history = "old"
        for port, name in enumerate("abc", 1):
            await fake.put("user", name, port=port)
        await follow(mirror, USER)
        await until(lambda: connected(mirror))
        seen: list[set[str]] = []
        mirror.listen(USER, lambda change: seen.append(set(change.picture.by_id)))
        await fake.stop()
        await fake.forget_everything()
        fake.history = "new"
        await fake.start()
        await until(lambda: connected(mirror))
        await fake.put("user", "a", port=1, weight=5.0)
        await until(lambda: mirror.picture(USER).by_id["a"].weight == 5.0)
        assert shown(mirror) == {"a", "b", "c"}
        # What it knew again and took away is gone at once, also while others are still missing.
        await fake.remove("user", "a")
        await until(lambda: shown(mirror) == {"b", "c"})
        assert all({"b", "c"} <= names for names in seen), seen

    play(scene)


def test_one_that_is_forbidden_hinders_no_other() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        fake.faults.refuse = lambda asked: Refusal(403, "denied") if "/other/" in asked.path else None
        await fake.put("user", "a")
        mirror.follow(OTHER)
        with pytest.raises(Denied):
            await mirror.ready(OTHER, budget_s=10)
        await follow(mirror, USER)
        await until(lambda: connected(mirror))
        assert shown(mirror) == {"a"}
        assert mirror.picture(OTHER) is None
        mirror.unfollow(OTHER)

    play(scene)


def test_it_acknowledges_at_ready_and_when_asked() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        await fake.put("user", "a")
        await follow(mirror, USER)
        await until(lambda: fake.acknowledged)
        assert fake.acknowledged == [{"user": 1}]
        await fake.put("user", "b")
        await until(lambda: "b" in shown(mirror))
        await fake.put("user", "a", verdict="draining", callable=False)
        await until(lambda: len(fake.acknowledged) == 2)
        assert fake.acknowledged[1] == {"user": 3}
        watched = next(asked for asked in fake.asked if asked.path == "/watch")
        assert (watched.one("ack"), watched.one("subscriber")) == ("explicit", "me")

    play(scene)


def test_snapshots_go_to_disk_and_help_a_cold_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_SNAPSHOT_INTERVAL_MS", 10)

    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        await fake.put("user", "a")
        await follow(mirror, USER)
        await until(lambda: list(tmp_path.rglob("user.json")))
        await fake.put("user", "b")
        files = SnapshotFiles(tmp_path, [mirror.registry.transport.preferred])
        await until(lambda: (loaded := files.load(USER)) and len(loaded.picture.instances) == 2)
        await fake.stop()
        cold = Mirror(mirror.registry, name="cold", files=files)
        cold.follow(USER)
        changes: list[Change] = []
        cold.listen(USER, changes.append)
        await cold.ready(USER, budget_s=1)
        assert shown(cold) == {"a", "b"}
        assert len(changes) == 1
        assert 0 < cold.age_s(USER) < 60
        cold.follow(OTHER)
        with pytest.raises(NoInstance) as caught:
            await cold.ready(OTHER, budget_s=1)
        told = f"{mirror.registry.transport.preferred}: nothing listens there"
        assert caught.value.fields == {"service": "other", "why": "registry_unreachable", "told": told}
        assert told in caught.value.message
        await fake.remove("user", "a")
        await fake.start()
        task = asyncio.get_running_loop().create_task(cold.run())
        await until(lambda: connected(cold) and shown(cold) == {"b"})
        assert cold.age_s(USER) == 0
        assert cold.picture(OTHER) is not None
        task.cancel()
        await asyncio.wait({task})

    play(scene, tmp_path)


class ColdStart:
    """A snapshot of a, b and c under the history ``old``, then a mirror that begins with it while nobody answers."""

    def __init__(self, fake: FakeRegistry, mirror: Mirror, directory: Path) -> None:
        self.fake = fake
        self.files = SnapshotFiles(directory, [mirror.registry.transport.preferred])
        self.mirror = Mirror(mirror.registry, name="cold", files=self.files)
        self.seen: list[set[str]] = []
        self._first = mirror

    async def begin(self) -> asyncio.Task[None]:
        self.fake.history = "old"
        for port, name in enumerate("abc", 1):
            await self.fake.put("user", name, port=port)
        await follow(self._first, USER)
        await until(lambda: self.saved() == ({"a", "b", "c"}, "old"))
        await self.fake.stop()
        self._first.unfollow(USER)
        self.mirror.follow(USER)
        self.mirror.listen(USER, lambda change: self.seen.append(set(change.picture.by_id)))
        await self.mirror.ready(USER, budget_s=0.2)
        assert shown(self.mirror) == {"a", "b", "c"}
        return asyncio.get_running_loop().create_task(self.mirror.run())

    def saved(self) -> tuple[set[str], str] | None:
        loaded = self.files.load(USER)
        return (set(loaded.picture.by_id), loaded.history) if loaded is not None else None


@pytest.mark.parametrize("lost", ["everything", "some"])
def test_a_cold_start_is_protected_from_a_registry_that_lost_its_memory(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLIENT_SNAPSHOT_INTERVAL_MS", 10)

    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        cold = ColdStart(fake, mirror, tmp_path)
        task = await cold.begin()
        await fake.forget_everything()
        # Put back to an earlier time, it has the name that we know, and cannot know whom it has forgotten.
        fake.history = "new" if lost == "everything" else "old"
        if lost == "some":
            await fake.put("user", "c", port=3)
        await fake.start()
        await until(lambda: connected(cold.mirror))
        assert cold.mirror.age_s(USER) == 0
        # Another stream, and a change, are no reason to forget them.
        await follow(cold.mirror, OTHER)
        await fake.put("user", "d", port=4)
        await until(lambda: "d" in shown(cold.mirror))
        assert shown(cold.mirror) == {"a", "b", "c", "d"}
        assert cold.saved() == ({"a", "b", "c"}, "old"), "what the next start of this process may need"
        for port, name in enumerate("abc", 1):
            await fake.put("user", name, port=port)
        await fake.remove("user", "a")
        await until(lambda: shown(cold.mirror) == {"b", "c", "d"})
        assert all({"b", "c"} <= names for names in cold.seen), cold.seen
        await until(lambda: cold.saved() == ({"b", "c", "d"}, fake.history))
        task.cancel()
        await asyncio.wait({task})

    play(scene, tmp_path)


def test_a_cold_start_believes_the_registry_that_it_knows(tmp_path: Path) -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        cold = ColdStart(fake, mirror, tmp_path)
        task = await cold.begin()
        for name in "ab":
            await fake.remove("user", name)
        await fake.start()
        await until(lambda: shown(cold.mirror) == {"c"})
        task.cancel()
        await asyncio.wait({task})

    play(scene, tmp_path)


def test_what_does_not_come_back_is_given_up_once_the_registry_has_had_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLIENT_UNCONFIRMED_MS", 50)

    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        cold = ColdStart(fake, mirror, tmp_path)
        task = await cold.begin()
        await fake.forget_everything()
        fake.history = "new"
        fake.faults.refuse = lambda asked: Refusal(503, "unavailable") if asked.path == "/watch" else None
        await fake.start()
        await until(lambda: cold.mirror._entries[USER].position is not None)
        await asyncio.sleep(0.2)
        assert shown(cold.mirror) == {"a", "b", "c"}, "it is away again"
        fake.faults.refuse = lambda asked: None
        await until(lambda: shown(cold.mirror) == set())
        task.cancel()
        await asyncio.wait({task})

    play(scene, tmp_path)


def test_a_slow_registry_is_not_waited_for_longer_than_said() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        fake.faults.delay_s = 30
        mirror.follow(USER)
        began = time.monotonic()
        with pytest.raises(NoInstance, match=r"127\.0\.0\.1:\d+ did not answer within 0\.1 s"):
            await mirror.ready(USER, budget_s=0.1)
        assert time.monotonic() - began < 15

    play(scene)


def test_there_is_a_limit_on_what_one_watch_names() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        await fake.stop()
        for n in range(limits.TARGET_SIZE_MAX):
            try:
                mirror.follow(ServiceKey("default", "default", f"service-{n}"))
            except OverLimit:
                break
        size = sum(len("&service=") + len(watch_name(key)) for key in mirror._entries)
        assert 0.9 * limits.TARGET_SIZE_MAX < size < limits.TARGET_SIZE_MAX
        for key in list(mirror._entries):
            mirror.unfollow(key)
        assert not mirror._entries
        await fake.start()

    play(scene)


def test_following_is_counted() -> None:
    async def scene(fake: FakeRegistry, mirror: Mirror) -> None:
        await fake.put("user", "a")
        await follow(mirror, USER, USER)
        mirror.unfollow(USER)
        assert shown(mirror) == {"a"}
        mirror.unfollow(USER)
        mirror.unfollow(USER)
        assert mirror.picture(USER) is None
        await follow(mirror, USER)
        await fake.put("user", "b")
        await until(lambda: shown(mirror) == {"a", "b"})

    play(scene)
