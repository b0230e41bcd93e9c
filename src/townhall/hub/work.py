"""Slow computations beside the loop: one thread, one piece of work at a time, in turn among the addresses that ask.

Only pure functions of their own arguments go there, such as hashing a password: ``hashlib`` lets the loop run
meanwhile. Who asked waits with a cursor on the work's interest, like for any other change.

Everybody may ask for a password to be checked, so whoever asks for very much must not keep others waiting: each address
has a queue of its own and they take turns; and when there is no more room, the longest queue loses its last piece to
somebody who has fewer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple

from townhall.core import Interest
from townhall.core.live import Work
from townhall.model import limits
from townhall.model.errors import OverLimit, TownhallError

__all__ = ["WorkBench"]

_log = logging.getLogger(__name__)


class _Piece(NamedTuple):
    work: Work
    function: Callable[[], Any]


class WorkBench:
    """Hands functions to a thread that is made for the first of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, touch: Callable[[list[Interest]], None]) -> None:
        """``touch`` is called on the loop when a piece of work is done."""
        self._loop = loop
        self._touch = touch
        self._numbers = count(1)
        self._thread: ThreadPoolExecutor | None = None
        self._queues: dict[str, deque[_Piece]] = {}
        """By who asked, never empty; whose turn it is comes first."""
        self._busy = False
        self.waiting = 0
        """Pieces of work that are not done."""

    def start(self, function: Callable[[], Any], asker: str = "") -> Work:
        """See ``core.live.Live.work``."""
        share = _share(asker)
        queue = self._queues.get(share)
        there = len(queue) if queue is not None else 0
        if there >= limits.WORK_PER_ADDRESS_MAX:
            raise _too_much(limits.WORK_PER_ADDRESS_MAX)
        if self.waiting >= limits.WORK_COUNT_MAX and not self._make_room(there):
            raise _too_much(limits.WORK_COUNT_MAX)
        work = Work(("work", next(self._numbers)))
        self.waiting += 1
        self._queues.setdefault(share, deque()).append(_Piece(work, function))
        self._go_on()
        return work

    def _make_room(self, there: int) -> bool:
        """Drop what the longest queue asked for last, when it stays longer than one of ``there`` and one more."""
        longest = max(self._queues, key=lambda share: len(self._queues[share]), default=None)
        if longest is None or len(self._queues[longest]) <= there + 1:
            return False
        self._end(self._queues[longest].pop().work, _too_much(limits.WORK_COUNT_MAX))
        return True

    def _next(self) -> _Piece | None:
        """Whose turn it is; those behind whom nobody waits any more lose it."""
        while self._queues:
            share = next(iter(self._queues))
            queue = self._queues.pop(share)
            piece = queue.popleft()
            if queue:
                self._queues[share] = queue
            if not piece.work.unwanted:
                return piece
            self._end(piece.work, _too_much(limits.WORK_COUNT_MAX))
        return None

    def _go_on(self) -> None:
        piece = None if self._busy else self._next()
        if piece is None:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="townhall-work")
        self._busy = True
        # Its own callback runs in the thread; what it does to the work must happen on the loop.
        self._thread.submit(piece.function).add_done_callback(lambda future: self._tell(piece.work, future))

    def _tell(self, work: Work, future: Future[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finish, work, future)
        except RuntimeError:
            return  # The loop is closed: nobody waits any more.

    def _finish(self, work: Work, future: Future[Any]) -> None:
        self._busy = False
        error = future.exception()
        if error is None:
            work.result = future.result()
        elif not isinstance(error, TownhallError):
            _log.error("a piece of slow work failed", exc_info=error)
            error = TownhallError("an internal error", advice="it is logged; report it")
        self._end(work, error)
        self._go_on()

    def _end(self, work: Work, error: TownhallError | None) -> None:
        self.waiting -= 1
        work.error, work.done = error, True
        self._touch([work.interest])

    def stop(self) -> None:
        """Drop what waits; what has begun ends by itself."""
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            for piece in queue:
                self._end(piece.work, OverLimit("the registry is shutting down"))
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None


def _share(asker: str) -> str:
    """Who asks, ``host:port``, as one of those who take turns: an address, or the network of one of IPv6, of which a
    single machine has as many as it likes.
    """
    host = asker.rpartition(":")[0].strip("[]")
    if ":" not in host:
        return host
    try:
        return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host


def _too_much(limit: int) -> OverLimit:
    return OverLimit("too much slow work waits", advice="try again in a moment", limit=limit)
