"""The thread behind the file engine: quick calls are waited for, slow ones awaited, in either case with the same result."""

from __future__ import annotations

import asyncio
import threading
import weakref

import pytest

from townhall.engine import scribe as scribes
from townhall.engine.scribe import Scribe
from townhall.model.limits import STALL_MIN_MS, SYNC_WAIT_PAUSE_COUNT, SYNC_WAIT_US


@pytest.fixture(params=["waited for", "awaited", "paused"])
def wait_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How long the loop waits: for ever, not at all, or it does not try to."""
    how: str = request.param
    monkeypatch.setattr(scribes, "_WAIT_S", 60 if how == "waited for" else 0)
    return how


def test_results_and_errors_come_back_in_order(wait_s: str) -> None:
    def double(number: int) -> int:
        if number % 3 == 0:
            raise ValueError(f"not {number}")
        return number * 2

    async def one(scribe: Scribe[[int], int], number: int) -> int | str:
        try:
            return await scribe.call(number)
        except ValueError as error:
            return str(error)

    async def test() -> list[int | str]:
        scribe = Scribe(double, "test")
        scribe.pause = 1_000 if wait_s == "paused" else 0
        try:
            alone = [await one(scribe, number) for number in range(6)]
            return [*alone, *await asyncio.gather(*(one(scribe, number) for number in range(6)))]
        finally:
            scribe.close()

    assert asyncio.run(test()) == ["not 0", 2, 4, "not 3", 8, 10] * 2


def test_the_wait_is_no_stall() -> None:
    assert scribes._WAIT_S * 1_000_000 == SYNC_WAIT_US
    assert SYNC_WAIT_US * 100 < STALL_MIN_MS * 1_000


def test_the_loop_goes_on_while_a_call_is_slow_and_waits_for_none_of_the_next_ones() -> None:
    async def test() -> None:
        gate = threading.Event()
        scribe = Scribe(gate.wait, "test")
        slow = asyncio.ensure_future(scribe.call())
        await asyncio.sleep(0)
        assert scribe.pause == SYNC_WAIT_PAUSE_COUNT
        assert not slow.done()
        next_one = asyncio.ensure_future(scribe.call())
        await asyncio.sleep(0)
        assert scribe.pause == SYNC_WAIT_PAUSE_COUNT - 1
        gate.set()
        assert await slow
        assert await next_one
        scribe.close()

    asyncio.run(test())


def test_a_call_goes_on_when_nobody_awaits_it_any_more() -> None:
    async def test() -> None:
        gate, begun = threading.Event(), threading.Event()
        done: list[int] = []

        def work(number: int) -> int:
            begun.set()
            gate.wait()
            done.append(number)
            return number

        scribe = Scribe(work, "test")
        scribe.pause = 10
        given_up = asyncio.ensure_future(scribe.call(1))
        await asyncio.sleep(0)
        begun.wait()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        gate.set()
        assert await scribe.call(2) == 2
        scribe.close()
        assert done == [1, 2]

    asyncio.run(test())


def test_nothing_of_a_call_is_kept_when_it_is_over() -> None:
    async def test() -> None:
        scribe = Scribe(len, "test")
        kept = set(b"blobs of a group")
        gone = weakref.ref(kept)
        assert await scribe.call(kept)
        del kept
        async with asyncio.timeout(30):
            while gone() is not None:  # noqa: ASYNC110 - a thread lets go of it
                await asyncio.sleep(0.001)
        scribe.close()

    asyncio.run(test())


def test_closing_waits_for_what_has_begun_and_a_loop_may_be_gone_by_then() -> None:
    gate = threading.Event()
    done: list[bool] = []
    scribe = Scribe(lambda: done.append(gate.wait()), "test")
    scribe.pause = 1

    async def leave() -> None:
        asyncio.ensure_future(scribe.call())  # noqa: RUF006 - it is left behind on purpose
        await asyncio.sleep(0)

    asyncio.run(leave())
    gate.set()
    scribe.close()
    assert done == [True]
