"""The thread that does one blocking thing after another for the loop: the file engine's writes.

To hand something to a thread and to be told by it through the loop costs more than a quick disk takes for a sync. So the
loop's thread waits for the thread, but never for longer than that hand-over would have taken (``SYNC_WAIT_US``). What takes
longer is awaited while the loop goes on, and then so are the next ones: a slow disk stalls nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Generic, ParamSpec, TypeVar, cast

from townhall.model.limits import SYNC_WAIT_PAUSE_COUNT, SYNC_WAIT_US

__all__ = ["Scribe"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_WAIT_S: Final = SYNC_WAIT_US / 1_000_000


class _Job(Generic[_T]):
    """One thing to do, and what came of it."""

    __slots__ = ("done", "error", "finished", "result", "told", "work")

    def __init__(self, work: Callable[[], _T]) -> None:
        self.work = work
        self.result: _T | None = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        """Released when it is finished."""
        self.done.acquire()
        self.finished = False
        self.told: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        """Who awaits it; read and set under the scribe's lock."""

    def set_exception(self, error: BaseException) -> None:
        """It failed: who waits for it is told why."""
        self.error = error


class Scribe(Generic[_P, _T]):
    """Does ``function`` in its thread, one call after the other."""

    def __init__(self, function: Callable[_P, _T], name: str) -> None:
        self._function = function
        self._jobs: SimpleQueue[_Job[_T] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self.pause = 0
        """Calls that are not waited for on the spot, because one took too long."""
        # Who leaves without ``close`` leaves as by a kill, which the journal survives.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def call(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call the function in the thread; returns what it returns and raises what it raises."""
        job = _Job(lambda: self._function(*args, **kwargs))
        self._jobs.put(job)
        if self.pause:
            self.pause -= 1
            await self._finished(job)
        elif not job.done.acquire(timeout=_WAIT_S):
            self.pause = SYNC_WAIT_PAUSE_COUNT
            await self._finished(job)
        if job.error is not None:
            raise job.error
        return cast("_T", job.result)

    def close(self) -> None:
        """Wait for what has been begun; nothing may be called any more."""
        self._jobs.put(None)
        self._thread.join()

    async def _finished(self, job: _Job[_T]) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            if job.finished:
                return
            job.told = loop, future
        await future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job)
            del job  # While it waits for the next one, nothing of this one is kept.

    def _do(self, job: _Job[_T]) -> None:
        try:
            job.result = job.work()
        except BaseException as error:
            job.set_exception(error)
        with self._lock:
            job.finished = True
            told = job.told
        job.done.release()
        if told is not None:
            loop, future = told
            # When the loop was closed, nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, future)


def _tell(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
