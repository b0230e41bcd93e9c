"""Slow work beside the loop: results, failures, limits and the end."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

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


def test_addresses_take_turns() -> None:
    async def main() -> None:
        bench = WorkBench(asyncio.get_running_loop(), lambda interests: None)
        order: list[str] = []
        gate = threading.Event()
        last = bench.start(gate.wait, "127.0.0.1:1")
        askers = [*(f"127.0.0.1:{port}" for port in range(2, 6)), "127.0.0.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1"]
        for asker in askers:
            last = bench.start(partial(order.append, asker), asker)
        last = bench.start(partial(order.append, "nobody"))
        gate.set()
        await until(lambda: not bench.waiting)
        assert last.done
        # Both of one IPv6 network are one.
        assert order == ["127.0.0.1:2", "127.0.0.2:1", "[2001:db8::1]:1", "nobody", "127.0.0.1:3", "[2001:db8::2]:1",
                         "127.0.0.1:4", "127.0.0.1:5"]  # fmt: skip
        bench.stop()

    asyncio.run(main())


def test_a_flood_from_one_address_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WORK_COUNT_MAX", 8)
    monkeypatch.setattr(limits, "WORK_PER_ADDRESS_MAX", 5)

    async def main() -> None:
        touched: list[object] = []
        bench = WorkBench(asyncio.get_running_loop(), touched.extend)
        begun, gate = threading.Event(), threading.Event()
        bench.start(lambda: begun.set() or gate.wait(), "127.0.0.9:1")
        await until(begun.is_set)
        flood = [bench.start(lambda: 1, f"127.0.0.1:{port}") for port in range(5)]
        with pytest.raises(OverLimit) as refused:
            bench.start(lambda: 1, "127.0.0.1:7")
        assert refused.value.fields["limit"] == 5
        others = [bench.start(lambda: 1, f"127.0.0.{host}:1") for host in (2, 3)]
        assert bench.waiting == limits.WORK_COUNT_MAX
        late = [bench.start(lambda: 1, f"127.0.0.{host}:1") for host in (4, 5, 6, 7)]
        assert [isinstance(work.error, OverLimit) for work in flood] == [False, True, True, True, True]
        assert touched == [work.interest for work in reversed(flood[1:])], "they are told"
        with pytest.raises(OverLimit):
            bench.start(lambda: 1, "127.0.0.8:1")
        gate.set()
        await until(lambda: not bench.waiting)
        assert all(work.result == 1 for work in [flood[0], *others, *late])
        bench.stop()

    asyncio.run(main())


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    async def main() -> None:
        bench = WorkBench(asyncio.get_running_loop(), lambda interests: None)
        gate, order = threading.Event(), list[int]()
        bench.start(gate.wait)
        works = [bench.start(partial(order.append, number)) for number in range(4)]
        works[0].unwanted = works[2].unwanted = True
        gate.set()
        await until(lambda: not bench.waiting)
        assert order == [1, 3]
        assert [work.error is None for work in works] == [False, True, False, True]
        bench.stop()

    asyncio.run(main())


def test_an_address_that_is_none_has_a_share_of_its_own() -> None:
    async def main() -> None:
        bench = WorkBench(asyncio.get_running_loop(), lambda interests: None)
        works = [bench.start(lambda: 1, asker) for asker in ("x", "[::x]:5", "[fe80::1%eth0]:6", "")]
        await until(lambda: not bench.waiting)
        assert all(work.result == 1 for work in works)
        bench.stop()

    asyncio.run(main())


def test_a_hub_wakes_who_waits_for_it() -> None:
    async def body(bench: Running) -> None:
        work = bench.hub.work(lambda: "done", "127.0.0.1:5")
        woken: list[bool] = []
        bench.hub.watch([work.interest], lambda: woken.append(work.done))
        await until(lambda: bool(woken))
        assert (woken, work.result) == ([True], "done")

    running(body)
