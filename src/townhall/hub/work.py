"""Slow computations beside the loop: one thread, one piece of work at a time, in the order of asking.

Only pure functions of their own arguments go there, such as hashing a password: ``hashlib`` lets the loop run
meanwhile. Who asked waits with a cursor on the work's interest, like for any other change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

from townhall.core import Interest
from townhall.core.live import Work
from townhall.model import limits
from townhall.model.errors import OverLimit, TownhallError

__all__ = ["WorkBench"]

_log = logging.getLogger(__name__)


class WorkBench:
    """Hands functions to a thread that is made for the first of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, touch: Callable[[list[Interest]], None]) -> None:
        """``touch`` is called on the loop when a piece of work is done."""
        self._loop = loop
        self._touch = touch
        self._numbers = count(1)
        self._thread: ThreadPoolExecutor | None = None
        self.waiting = 0
        """Pieces of work that are not done."""

    def start(self, function: Callable[[], Any]) -> Work:
        """See ``core.live.Live.work``."""
        if self.waiting >= limits.WORK_COUNT_MAX:
            raise OverLimit("too much slow work waits", advice="try again in a moment", limit=limits.WORK_COUNT_MAX)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="townhall-work")
        work = Work(("work", next(self._numbers)))
        self.waiting += 1
        # Its own callback runs in the thread; what it does to the work must happen on the loop.
        self._thread.submit(function).add_done_callback(lambda future: self._tell(work, future))
        return work

    def _tell(self, work: Work, future: Future[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finish, work, future)
        except RuntimeError:
            return  # The loop is closed: nobody waits any more.

    def _finish(self, work: Work, future: Future[Any]) -> None:
        self.waiting -= 1
        error = None if future.cancelled() else future.exception()
        if future.cancelled():
            work.error = OverLimit("the registry is shutting down")
        elif isinstance(error, TownhallError):
            work.error = error
        elif error is not None:
            _log.error("a piece of slow work failed", exc_info=error)
            work.error = TownhallError("an internal error", advice="it is logged; report it")
        else:
            work.result = future.result()
        work.done = True
        self._touch([work.interest])

    def stop(self) -> None:
        """Drop what waits; what has begun ends by itself."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
