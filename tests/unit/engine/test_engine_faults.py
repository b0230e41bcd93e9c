import asyncio
import random
import time
from collections import Counter

import pytest
from engine_cases import append, entries

from townhall.engine import Entry, Opened
from townhall.engine.faults import Fault, FaultPlan, FaultyEngine
from townhall.engine.file import FileEngine
from townhall.engine.memory import MemoryEngine
from townhall.model.errors import EngineFailed, EngineFull, OutcomeUnknown, TownhallError


def faulty(plan, *, seed=0, inner=None):
    engine = FaultyEngine(inner or MemoryEngine(), plan, random.Random(seed))
    engine.open()
    return engine


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        (Fault.UNKNOWN_DURABLE, {True}),
        (Fault.UNKNOWN_LOST, {False}),
        (Fault.TORN, {False}),
        (Fault.SYNC_FAILED, {True, False}),
    ],
)
def test_an_unknown_outcome_shows_only_after_reopening(fault, shows):
    seen = set()
    for seed in range(20):
        engine = faulty(FaultPlan(script={2: fault}), seed=seed)
        append(engine, [b"a"])
        with pytest.raises(OutcomeUnknown):
            append(engine, [b"b", b"c"])
        with pytest.raises(EngineFailed):
            append(engine, [b"d"])
        assert (engine.tail(), entries(engine)) == (1, [Entry(1, b"a")])
        engine.close()
        tail = engine.open().tail
        assert len(entries(engine)) == engine.tail() == tail
        assert append(engine, [b"d"]) == tail + 1
        assert tail in {1, 3}
        seen.add(tail == 3)
    assert seen == shows


def test_a_full_disk_passes():
    engine = faulty(FaultPlan(script={1: Fault.FULL, 2: Fault.FULL}))
    for _ in range(2):
        with pytest.raises(EngineFull):
            append(engine, [b"a"])
    assert append(engine, [b"a"]) == 1
    assert engine.happened == [(1, Fault.FULL), (2, Fault.FULL)]


def test_a_delay_delays_and_succeeds(monkeypatch):
    waited = []
    real = asyncio.sleep

    async def sleep(delay):
        waited.append(delay)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    engine = faulty(FaultPlan(script={1: Fault.DELAYED}, delay_ms_max=40_000))
    started = time.monotonic()
    assert append(engine, [b"a"]) == 1
    assert time.monotonic() - started < 30
    assert 0 < max(waited) <= 40


def outcomes(seed, rates, count=200):
    engine = faulty(FaultPlan(rates=rates, delay_ms_max=0), seed=seed)
    found = []
    for _ in range(count):
        try:
            found.append(append(engine, [b"x"]))
        except TownhallError as error:
            found.append(error.code)
            engine.close()
            engine.open()
    return found, engine.happened


def test_the_same_dice_give_the_same_faults():
    rates = {Fault.FULL: 0.1, Fault.SYNC_FAILED: 0.1, Fault.DELAYED: 0.1}
    assert outcomes(3, rates) == outcomes(3, rates)
    assert outcomes(3, rates) != outcomes(4, rates)
    counted = Counter(fault for _, fault in outcomes(3, rates)[1])
    assert all(5 <= counted[fault] <= 45 for fault in rates)


def test_rates_over_one_are_a_mistake():
    with pytest.raises(AssertionError):
        FaultyEngine(MemoryEngine(), FaultPlan(rates={Fault.FULL: 0.7, Fault.TORN: 0.7}), random.Random(0))


def test_it_wraps_the_file_engine_too(tmp_path):
    engine = faulty(FaultPlan(script={2: Fault.UNKNOWN_DURABLE}), inner=FileEngine(tmp_path))
    append(engine, [b"a"])
    with pytest.raises(OutcomeUnknown):
        append(engine, [b"b"])
    engine.close()
    assert engine.open() == Opened(0, 2)
    engine.close()
