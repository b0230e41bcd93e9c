"""When snapshots are written, what stays of the journal, and that a failed one costs nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from running_hub import WEB, Running, register, running, until

from townhall.core.codec import load_state
from townhall.core.state import State
from townhall.engine.memory import MemoryEngine
from townhall.hub import snapshots as module
from townhall.hub.hub import HubOptions
from townhall.hub.snapshots import InlineCompactor, Snapshots
from townhall.model.errors import Compacted


class FakeCompactor:
    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.calls = 0
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    async def compact(self) -> int:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.engine.save(self.engine.tail(), [b"snapshot"])
        return self.engine.tail()


async def fill(engine: MemoryEngine, count: int) -> None:
    await engine.append([b"x"] * count, engine.tail())


def policy(body: Callable[[MemoryEngine, FakeCompactor, Snapshots], object], **options: int) -> None:
    async def main() -> None:
        engine = MemoryEngine()
        engine.open()
        await fill(engine, 1)
        compactor = FakeCompactor(engine)
        snapshots = Snapshots(engine=engine, compactor=compactor, position=0, **options)
        await body(engine, compactor, snapshots)  # type: ignore[misc]
        await snapshots.stop()

    asyncio.run(main())


def test_it_is_time_after_so_many_commits_or_bytes() -> None:
    async def body(engine: MemoryEngine, compactor: FakeCompactor, snapshots: Snapshots) -> None:
        snapshots.note(9, 99)
        await asyncio.sleep(0)
        assert compactor.calls == 0
        snapshots.note(1, 0)
        await until(lambda: snapshots.saved == 1)
        snapshots.note(1, 100)
        await until(lambda: snapshots.saved == 2)
        assert not snapshots.busy

    policy(body, commits_max=10, size_max=100)


def test_one_at_a_time_and_what_comes_meanwhile_counts_for_the_next() -> None:
    async def body(engine: MemoryEngine, compactor: FakeCompactor, snapshots: Snapshots) -> None:
        compactor.gate = asyncio.Event()
        snapshots.note(10, 0)
        await asyncio.sleep(0)
        snapshots.note(15, 0)
        await asyncio.sleep(0)
        assert snapshots.busy
        assert compactor.calls == 1
        compactor.gate.set()
        await until(lambda: snapshots.saved == 1)
        snapshots.note(1, 0)
        await until(lambda: snapshots.saved == 2)

    policy(body, commits_max=10, size_max=10**9)


def test_some_journal_stays_behind_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HISTORY_COMMITS_KEPT", 5)

    async def body(engine: MemoryEngine, compactor: FakeCompactor, snapshots: Snapshots) -> None:
        await fill(engine, 3)
        await snapshots.save()
        assert len(list(engine.follow(0))) == 4, "fewer than are kept anyway"
        await fill(engine, 16)
        await snapshots.save()
        assert snapshots.position == 20
        assert [entry.position for entry in engine.follow(15)] == [16, 17, 18, 19, 20]
        with pytest.raises(Compacted):
            engine.follow(14)

    policy(body)


def test_a_failed_snapshot_costs_nothing_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_COMMITS", 3)

    async def body(engine: MemoryEngine, compactor: FakeCompactor, snapshots: Snapshots) -> None:
        compactor.error = OSError("no space")
        snapshots.note(10, 0)
        await until(lambda: snapshots.failures == 1)
        assert snapshots.position == 0
        compactor.error = None
        snapshots.note(2, 0)
        await asyncio.sleep(0)
        assert compactor.calls == 1
        snapshots.note(1, 0)
        await until(lambda: snapshots.saved == 1)

    with caplog.at_level(logging.ERROR):
        policy(body, commits_max=10, size_max=10**9)
    assert "the journal grows on" in caplog.text


def test_stopping_gives_up_a_snapshot() -> None:
    async def body(engine: MemoryEngine, compactor: FakeCompactor, snapshots: Snapshots) -> None:
        compactor.gate = asyncio.Event()
        snapshots.note(10, 0)
        await asyncio.sleep(0)
        await asyncio.wait_for(snapshots.stop(), 120)
        assert not snapshots.busy
        assert snapshots.saved == 0

    policy(body, commits_max=10, size_max=10**9)


def test_the_inline_one_shows_one_position_while_commits_go_on() -> None:
    engine = MemoryEngine()

    async def body(bench: Running) -> None:
        for number in range(10):
            await bench.done(register(f"i{number}"))
        saving = asyncio.ensure_future(InlineCompactor(engine, bench.hub.state).compact())
        await asyncio.sleep(0)
        await bench.done(register("late"))
        assert await asyncio.wait_for(saving, 120) == 10
        state = load_state(engine.snapshot())
        assert state.position == 10
        assert len(state.services[WEB].instances) == 10
        assert bench.hub.state.instance_count == 11

    running(body, engine)


def test_a_hub_writes_snapshots_by_itself_and_starts_from_them() -> None:
    engine = MemoryEngine()
    options = HubOptions(node="here", snapshot_every_commits=5)

    async def body(bench: Running) -> None:
        for number in range(12):
            await bench.done(register(f"i{number}"))
        await until(lambda: bench.hub.snapshots.position >= 10)
        assert bench.hub.snapshots.failures == 0

    async def after(bench: Running) -> None:
        assert bench.hub.recovered.snapshot >= 10
        assert bench.hub.state.instance_count == 12

    running(body, engine, options)
    running(after, engine, options)


def test_a_clean_stop_writes_a_last_snapshot_when_it_saves_a_long_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_COMMITS_MIN", 5)

    async def body(engine: MemoryEngine, compactor: FakeCompactor, snapshots: Snapshots) -> None:
        await snapshots.finish(compactor)
        assert compactor.calls == 0, "one commit is replayed sooner than a snapshot is written"
        await fill(engine, 5)
        compactor.error = TimeoutError()
        await snapshots.finish(compactor)
        assert (snapshots.position, snapshots.failures) == (0, 0), "too slow is not a failure"
        compactor.error = OSError("no space")
        await snapshots.finish(compactor)
        assert (snapshots.position, snapshots.failures) == (0, 1)
        compactor.error = None
        await snapshots.finish(compactor)
        assert (snapshots.position, snapshots.saved) == (6, 1)

    policy(body)


def test_a_dump_that_takes_too_long_is_given_up() -> None:
    async def main() -> None:
        engine = MemoryEngine()
        engine.open()
        with pytest.raises(TimeoutError):
            await InlineCompactor(engine, State(), within_s=-1).compact()

    asyncio.run(main())
