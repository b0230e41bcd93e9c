"""The application's own word on its health: asked before the first registration, then again and again.

``health`` is a function or coroutine function: anything but False means healthy, False or an exception not. Before the
first registration it is the gate: nobody is sent to an instance that is not ready. Afterwards a failure takes the
instance out of service (not ready) while it stays registered, and the next success puts it back: a process that lives
but does not serve gets no calls although its heartbeats go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from townhall.client.callbacks import Callback, call
from townhall.model import limits
from townhall.model.errors import TownhallError, Unavailable

__all__ = ["SelfCheck"]

_log = logging.getLogger("townhall.client")
_GATE_PAUSE_S = 0.2
"""Between two looks while nothing is registered yet: a start should not wait for a full interval."""


class SelfCheck:
    """Asks ``health`` every ``interval_s``, and ``tell``s of each change, with the reason."""

    def __init__(
        self,
        health: Callback,
        tell: Callable[[bool, str], Awaitable[None]],
        *,
        interval_s: float,
    ) -> None:
        self._health = health
        self._tell = tell
        self._interval_s = interval_s
        self.healthy = False

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
        told = ever = self.healthy
        while True:
            await asyncio.sleep(self._interval_s if ever else min(_GATE_PAUSE_S, self._interval_s))
            reason = await self._reason()
            self.healthy = not reason
            if self.healthy is told:
                continue
            try:
                await self._tell(self.healthy, reason)
            except TownhallError as error:
                _log.warning("could not tell the registry that the service is %s: %s", reason or "healthy", error)
            else:
                told = self.healthy
                ever = ever or told
                _log.log(
                    logging.INFO if told else logging.WARNING,
                    "the service is %s",
                    "healthy" if told else f"out of service: {reason}",
                )

    async def _reason(self) -> str:
        """Why it is not healthy; '' when it is."""
        # In a task of its own, so that whatever the application raises is seen here and stops nothing.
        task = asyncio.get_running_loop().create_task(call(self._health), name="townhall-health")
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
            return f"{type(error).__name__}: {error}"
        return "health() says no" if task.result() is False else ""
