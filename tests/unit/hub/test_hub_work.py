"""Slow work beside the loop: results, failures, limits and the end."""

from __future__ import annotations

import asyncio
import threading

import pytest
from running_hub import Running, running, until

from townhall.hub.work import WorkBench
from townhall.model import limits
from townhall.model.errors import Misuse, OverLimit, TownhallError


def refuse() -> None:
    raise Misuse("no")


def test_results_and_failures() -> None:
    async def main() -> None:
        touched: list[object] = []
        bench = WorkBench(asyncio.get_running_loop(), touched.extend)
        good, refused, broken = bench.start(lambda: 6 * 7), bench.start(refuse), bench.start(lambda: 1 // 0)
        await until(lambda: broken.done)
        assert (good.done, good.result, good.error) == (True, 42, None)
        assert isinstance(refused.error, Misuse)
        assert type(broken.error) is TownhallError
        assert touched == [good.interest, refused.interest, broken.interest]
        assert bench.waiting == 0
        bench.stop()

    asyncio.run(main())


def test_it_is_bounded_and_what_waits_at_the_end_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WORK_COUNT_MAX", 2)

    async def main() -> None:
        bench = WorkBench(asyncio.get_running_loop(), lambda interests: None)
        begun, gate = threading.Event(), threading.Event()
        first = bench.start(lambda: begun.set() or gate.wait())
        await until(begun.is_set)
        second = bench.start(lambda: 1)
        with pytest.raises(OverLimit):
            bench.start(lambda: 2)
        bench.stop()
        gate.set()
        await until(lambda: first.done and second.done)
        assert (first.result, second.result) == (True, None)
        assert isinstance(second.error, OverLimit)

    asyncio.run(main())


def test_a_hub_wakes_who_waits_for_it() -> None:
    async def body(bench: Running) -> None:
        work = bench.hub.work(lambda: "done")
        woken: list[bool] = []
        bench.hub.watch([work.interest], lambda: woken.append(work.done))
        await until(lambda: bool(woken))
        assert (woken, work.result) == ([True], "done")

    running(body)
