"""Hedging: the first good answer counts, the loser is cancelled, and a failure alone decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from townhall.client.hedging import hedged

Attempt = Callable[[], Awaitable[str]]


class Attempts:
    """Attempts that end when they are told, and remember that they were cancelled."""

    def __init__(self) -> None:
        self.ends: dict[str, asyncio.Future[str]] = {}
        self.more = asyncio.Event()
        self.cancelled: list[str] = []

    def make(self, name: str) -> Attempt:
        async def attempt() -> str:
            self.ends[name] = asyncio.get_running_loop().create_future()
            self.more.set()
            try:
                return await self.ends[name]
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise

        return attempt

    async def begun(self, name: str) -> asyncio.Future[str]:
        async with asyncio.timeout(10):
            while name not in self.ends:
                self.more.clear()
                await self.more.wait()
        return self.ends[name]


def test_a_quick_answer_needs_no_second() -> None:
    async def main() -> None:
        attempts = Attempts()
        task = asyncio.create_task(hedged(attempts.make("a"), lambda: pytest.fail("asked"), delay_s=60))
        (await attempts.begun("a")).set_result("first")
        assert await task == "first"

    asyncio.run(main())


@pytest.mark.parametrize("winner", ["a", "b"])
def test_whoever_answers_first_wins(winner: str) -> None:
    async def main() -> None:
        attempts = Attempts()
        task = asyncio.create_task(hedged(attempts.make("a"), lambda: attempts.make("b"), delay_s=0))
        await attempts.begun("a")
        await attempts.begun("b")
        attempts.ends[winner].set_result(winner)
        assert await task == winner
        assert attempts.cancelled == [{"a": "b", "b": "a"}[winner]]

    asyncio.run(main())


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_failure_lets_the_other_go_on(first: str) -> None:
    async def main() -> None:
        attempts = Attempts()
        task = asyncio.create_task(hedged(attempts.make("a"), lambda: attempts.make("b"), delay_s=0))
        other = {"a": "b", "b": "a"}[first]
        await attempts.begun("a")
        await attempts.begun("b")
        attempts.ends[first].set_exception(OSError(first))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        attempts.ends[other].set_exception(OSError(other))
        with pytest.raises(OSError, match=other):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("good", ["a", "b"])
def test_of_two_that_end_together_the_good_one_counts(good: str) -> None:
    async def main() -> None:
        attempts = Attempts()
        task = asyncio.create_task(hedged(attempts.make("a"), lambda: attempts.make("b"), delay_s=0))
        await attempts.begun("a")
        await attempts.begun("b")
        attempts.ends[{"a": "b", "b": "a"}[good]].set_exception(OSError())
        attempts.ends[good].set_result(good)
        assert await task == good

    asyncio.run(main())


def test_without_a_second_the_first_decides() -> None:
    async def main() -> None:
        attempts = Attempts()
        task = asyncio.create_task(hedged(attempts.make("a"), lambda: None, delay_s=0))
        (await attempts.begun("a")).set_exception(ConnectionResetError())
        with pytest.raises(ConnectionResetError):
            await task

    asyncio.run(main())


def test_cancelling_the_call_cancels_both() -> None:
    async def main() -> None:
        attempts = Attempts()
        task = asyncio.create_task(hedged(attempts.make("a"), lambda: attempts.make("b"), delay_s=0))
        await attempts.begun("a")
        await attempts.begun("b")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(attempts.cancelled) == ["a", "b"]

    asyncio.run(main())
