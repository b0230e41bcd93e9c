"""SIGTERM and SIGINT, where the platform and the thread allow it.

Plain handlers rather than asyncio's: those do not exist on Windows. A plain handler runs in the main thread between
two steps of the loop, which it wakes up by ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["StopSignals"]

_log = logging.getLogger("townhall.client")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Calls back on the first signal, then gives the signals back, so that a second one goes to whoever had them before.

    Before was usually nobody, and the process ends.
    """

    def __init__(self, on_signal: Callable[[int], None]) -> None:
        self._on_signal = on_signal
        self._loop: asyncio.AbstractEventLoop | None = None
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def install(self) -> None:
        """Take the signals. Outside the main thread, where Python allows no handlers, this does nothing but log."""
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            try:
                self._previous[number] = signal.signal(number, self._received)
            except ValueError:
                _log.warning("signals are not handled: the event loop does not run in the main thread")
                return

    def remove(self) -> None:
        """Give the signals back; idempotent."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._received:
                signal.signal(number, previous if previous is not None else signal.SIG_DFL)
        self._previous.clear()

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.remove()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_signal, number)
