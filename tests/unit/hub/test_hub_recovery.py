"""Recovery: snapshot plus journal gives the state that was, and damage is never passed over."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from running_hub import WEB, Running, put, register, running

from townhall.core.codec import dump_state
from townhall.core.state import State
from townhall.engine import Entry, Opened
from townhall.engine.memory import MemoryEngine
from townhall.hub import recovery as module
from townhall.hub.recovery import recover
from townhall.model.errors import Damaged


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def filled(count: int = 20, *, snapshot: int = 0) -> tuple[MemoryEngine, list[bytes]]:
    """An engine that holds ``count`` commits, and the state they give."""
    engine = MemoryEngine()
    dumps: list[bytes] = []

    async def body(bench: Running) -> None:
        for number in range(count):
            await bench.done(register(f"i{number}") if number % 2 else put(b"%d" % number, b"v"))
            if number + 1 == snapshot:
                engine.save(snapshot, list(dump_state(bench.hub.state)))
        dumps.extend(dump_state(bench.hub.state))

    running(body, engine)
    return engine, dumps


@pytest.mark.parametrize("snapshot", [0, 7, 20])
def test_what_was_is_there_again(snapshot: int) -> None:
    engine, dump = filled(20, snapshot=snapshot)
    recovered = recover(engine)
    assert list(dump_state(recovered.state)) == dump
    assert (recovered.snapshot, recovered.replayed) == (snapshot, 20 - snapshot)
    assert (recovered.replayed_size > 0) == (snapshot < 20)
    recovered.state.check()


def test_a_trimmed_journal_behind_a_snapshot() -> None:
    engine, dump = filled(20, snapshot=10)
    engine.trim(10)
    assert list(dump_state(recover(engine).state)) == dump


def test_an_empty_engine() -> None:
    recovered = recover(MemoryEngine())
    assert recovered.state.position == recovered.replayed == 0


def test_long_loads_tell_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_EVERY_COUNT", 6)
    engine, _ = filled(20, snapshot=2)
    told: list[tuple[int, int]] = []
    recover(engine, progress=lambda done, total: told.append((done, total)))
    assert told == [(6, 18), (12, 18), (18, 18), (18, 18)]


def test_collection_is_off_while_loading_and_on_again_after(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = filled(4)
    seen: list[bool] = []
    decode = module.decode_commit

    def watching(blob: bytes, position: int) -> object:
        seen.append(gc.isenabled())
        return decode(blob, position)

    monkeypatch.setattr(module, "decode_commit", watching)
    recover(engine)
    assert seen == [False] * 4
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


class Lying(MemoryEngine):
    """Says something that is not so."""

    def __init__(self, inner: MemoryEngine, *, opened: Opened, change: Callable[[list[Entry]], list[Entry]]) -> None:
        super().__init__()
        self.inner = inner
        self.opened = opened
        self.change = change
        self.closed = False

    def open(self) -> Opened:
        self.inner.open()
        return self.opened

    def snapshot(self) -> Iterator[bytes]:
        return self.inner.snapshot()

    def follow(self, after: int) -> Iterator[Entry]:
        return iter(self.change(list(self.inner.follow(after))))

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("opened", "change", "position"),
    [
        (Opened(0, 8), lambda entries: entries[:3] + entries[4:], 4),
        (Opened(0, 8), lambda entries: entries[:3] + entries[2:], 4),
        (Opened(0, 8), lambda entries: entries[:-1], 7),
        (Opened(0, 8), lambda entries: [*entries[:5], Entry(6, b"not a commit"), *entries[6:]], 6),
        (Opened(5, 8), lambda entries: entries, 5),
    ],
    ids=["gap", "repeat", "short", "garbage", "another snapshot"],
)
def test_damage_is_told_with_its_position_and_the_engine_is_closed(
    opened: Opened, change: Callable[[list[Entry]], list[Entry]], position: int
) -> None:
    inner, _ = filled(8, snapshot=4)
    engine = Lying(inner, opened=opened, change=change)
    with pytest.raises(Damaged) as caught:
        recover(engine)
    assert caught.value.fields["position"] == position
    assert engine.closed
    assert gc.isenabled()


def test_recovering_twice_gives_states_of_their_own() -> None:
    engine, _ = filled(4)
    first = recover(engine).state
    engine.close()
    second = recover(engine).state
    assert isinstance(first, State)
    assert first is not second
    assert first.services[WEB] is not second.services[WEB]
