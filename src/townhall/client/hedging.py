"""Hedging: when an answer takes long, ask a second instance as well and take whichever answers first.

Dean and Barroso, «The Tail at Scale» (CACM 2013). Only for calls that may be acted on twice; the loser is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["hedged"]

T = TypeVar("T")


async def hedged(
    first: Callable[[], Awaitable[T]],
    second: Callable[[], Callable[[], Awaitable[T]] | None],
    *,
    delay_s: float,
    discard: Callable[[T], object] = lambda result: None,
) -> T:
    """What ``first()`` gives; when it has not after ``delay_s``, what it or the second gives, whichever succeeds first.

    ``second()`` is asked once, when it is time, for the other attempt, or None for no hedge (no instance, no budget).
    A failure of one lets the other go on. Raises what the last to fail raised (either, when both fail at once). No task
    outlives the call. ``discard`` is given what the loser had ready.
    """
    running = {asyncio.ensure_future(first())}
    try:
        done, running = await asyncio.wait(running, timeout=delay_s)
        if not done and (other := second()) is not None:
            running.add(asyncio.ensure_future(other()))
        while True:
            good = [task for task in done if task.exception() is None]
            if good or (done and not running):
                for late in good[1:]:
                    discard(late.result())
                return (good or list(done))[0].result()
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in running:
            task.cancel()
        if running:
            ended, _ = await asyncio.wait(running)
            for task in ended:
                # A task that was done before its cancellation came.
                if not task.cancelled() and task.exception() is None:
                    discard(task.result())
