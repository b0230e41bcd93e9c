"""The background loop: results and errors come through, and it ends cleanly."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from townhall.client import loop_thread
from townhall.client.loop_thread import LoopThread, shared_thread
from townhall.model.errors import Misuse


def test_results_and_errors_come_through() -> None:
    thread = LoopThread()

    async def answer() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise LookupError("no")

    async def inside() -> None:
        thread.run(answer())

    assert thread.run(answer()) == "townhall"
    with pytest.raises(LookupError):
        thread.run(fail())
    with pytest.raises(RuntimeError, match="wait for itself"):
        thread.run(inside())
    thread.stop()
    assert not thread.usable
    thread.stop()


def test_stopping_cancels_what_runs() -> None:
    thread = LoopThread()
    ended = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(wait(), thread.loop)
    thread.run(asyncio.sleep(0))
    thread.stop()
    assert ended.is_set()
    assert future.cancelled()


def test_one_per_process_and_a_new_one_when_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = shared_thread()
    assert shared_thread() is first
    first.stop()
    second = shared_thread()
    assert second is not first
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    child = shared_thread()
    assert child is not second, "a forked child has no such thread"
    child.stop()
    monkeypatch.undo()
    second.stop()
    assert loop_thread._thread is child


def test_one_that_has_ended_says_so() -> None:
    thread = LoopThread()
    thread.stop()
    with pytest.raises(Misuse, match="after the fork"):
        thread.run(asyncio.sleep(0))


def test_it_stands_still_while_the_process_forks() -> None:
    thread = LoopThread()
    ran = threading.Event()
    thread.stand_still()
    thread.loop.call_soon_threadsafe(ran.set)
    assert not ran.wait(0.05)
    thread.go_on()
    assert ran.wait(30)

    async def inside() -> None:
        thread.stand_still()

    thread.run(inside())
    thread.stop()
    thread.stand_still()
    thread.go_on()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_child_begins_a_thread_of_its_own() -> None:
    thread = shared_thread()

    async def answer() -> str:
        return "answer"

    with loop_thread._lock:
        child = os.fork()
        if not child:
            # The child: no assertion may leave it, so its exit code is the answer.
            own = shared_thread()
            os._exit(0 if own is not thread and own.run(answer()) == "answer" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert thread.run(answer()) == "answer"
    thread.stop()
