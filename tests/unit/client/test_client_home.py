"""What belongs to an event loop notices that it is used in another one."""

from __future__ import annotations

import asyncio
import threading

import pytest

from townhall.client import home
from townhall.client.home import Home
from townhall.model.errors import Misuse


def test_it_belongs_to_the_loop_that_it_was_entered_in_last() -> None:
    mine = Home()
    assert not mine.lost

    async def enter() -> tuple[bool, bool]:
        return mine.enter("it"), mine.enter("it")

    assert asyncio.run(enter()) == (False, True)
    assert mine.lost
    assert not mine.inherited
    assert asyncio.run(enter()) == (False, True), "another loop, after the first has ended"


def test_a_loop_that_runs_in_another_thread_keeps_it() -> None:
    mine = Home()

    async def enter() -> None:
        mine.enter("the lamp")

    async def main() -> None:
        mine.enter("the lamp")

        def elsewhere() -> None:
            with pytest.raises(Misuse, match="the lamp belongs to an event loop that runs in another thread"):
                asyncio.run(enter())

        await asyncio.to_thread(elsewhere)
        assert mine.enter("the lamp")
        assert threading.current_thread() is threading.main_thread()

    asyncio.run(main())


def test_in_a_forked_process_the_loop_is_the_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Home()
    loop = asyncio.new_event_loop()

    async def enter() -> bool:
        return mine.enter("it")

    loop.run_until_complete(enter())
    assert not mine.lost
    parent = home.os.getpid()
    monkeypatch.setattr(home.os, "getpid", lambda: parent + 1)
    assert mine.inherited
    assert mine.lost
    assert asyncio.run(enter()) is False
    assert not mine.inherited
    loop.close()
