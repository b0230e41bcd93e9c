"""The application's own word on its health: asked before the first registration, then again and again.

``health`` is a function or coroutine function: anything but False means healthy, False or an exception not. Before the
first registration it is the gate: nobody is sent to an instance that is not ready. Afterwards a failure takes the
instance out of service, with the reason, while it stays registered, and the next success puts it back: a process that
lives but does not serve gets no calls although its heartbeats go on.

A plain function runs in a thread of its own, so that one that waits for a database, or for ever, holds up no heartbeat.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from townhall.client.callbacks import Callback, call
from townhall.model import limits
from townhall.model.errors import TownhallError, Unavailable

__all__ = ["SelfCheck"]

_log = logging.getLogger("townhall.client")
_GATE_PAUSE_S = 0.2
"""Between two looks while nothing is registered yet: a start should not wait for a full interval."""


class SelfCheck:
    """Asks ``health`` every ``interval_s``, and ``tell``s each change: the reason why it is ill, or ''."""

    def __init__(
        self,
        health: Callback,
        tell: Callable[[str], Awaitable[None]],
        *,
        interval_s: float,
    ) -> None:
        self._health = health
        self._tell = tell
        self._interval_s = interval_s
        self.healthy = False
        self._answer: asyncio.Future[object] | None = None
        """Of a plain function that has not answered yet. It cannot be cancelled, so it is not asked again until it has."""

    async def gate(self, *, budget_s: float) -> None:
        """Returns when the application is healthy. Raises ``Unavailable`` with its last reason after ``budget_s``."""
        reason = "not asked yet"
        try:
            async with asyncio.timeout(budget_s):
                while True:
                    reason = await self._reason()
                    if not reason:
                        break
                    await asyncio.sleep(min(_GATE_PAUSE_S, self._interval_s))
        except TimeoutError:
            raise Unavailable(
                f"the service was not ready within {budget_s:g} s: {reason}",
                advice="see why health() fails, or allow a longer ready_timeout",
            ) from None
        self.healthy = True

    async def run(self) -> None:
        """Ask until cancelled, often while it never was healthy yet. What could not be told is told again next time."""
        told = "" if self.healthy else None
        ever = self.healthy
        while True:
            await asyncio.sleep(self._interval_s if ever else min(_GATE_PAUSE_S, self._interval_s))
            reason = await self._reason()
            self.healthy = not reason
            if reason == told or (reason and not ever):
                continue
            try:
                await self._tell(reason)
            except TownhallError as error:
                _log.warning("could not tell the registry that the service is %s: %s", reason or "healthy", error)
            else:
                told = reason
                ever = ever or not reason
                if reason:
                    _log.warning("the service is out of service: %s", reason)
                else:
                    _log.info("the service is healthy")

    async def _reason(self) -> str:
        """Why it is not healthy; '' when it is."""
        # In a task of its own, so that whatever the application raises is seen here and stops nothing.
        task = asyncio.get_running_loop().create_task(self._ask(), name="townhall-health")
        try:
            _, late = await asyncio.wait({task}, timeout=limits.CLIENT_HEALTH_TIMEOUT_MS / 1000)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if late:
            task.cancel()
            return "health() does not answer"
        if task.cancelled():
            return "health() was cancelled"
        error = task.exception()
        if error is not None:
            return _shown(f"{type(error).__name__}: {error}")
        return "health() says no" if task.result() is False else ""

    async def _ask(self) -> object:
        if _waits(self._health):
            return await call(self._health)
        if self._answer is None:
            self._answer = asyncio.wrap_future(_in_thread(self._health))
        answer = self._answer
        try:
            result = await asyncio.shield(answer)
        finally:
            if answer.done():
                self._answer = None
        return await result if inspect.isawaitable(result) else result


def _waits(callback: Callback) -> bool:
    """Whether it is a coroutine function, or an object that is called like one."""
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__)


def _in_thread(callback: Callback) -> Future[object]:
    """What it returns or raises, from a thread that does not hold up the end of the process."""
    future: Future[object] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(callback())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="townhall-health", daemon=True).start()
    return future


def _shown(reason: str) -> str:
    """On one line, as the registry takes it and tables show it."""
    line = "".join(sign if sign.isprintable() else " " for sign in reason)
    return line if len(line) <= limits.AGENT_REASON_SIZE_MAX else line[: limits.AGENT_REASON_SIZE_MAX - 1] + "…"
