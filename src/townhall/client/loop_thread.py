"""One event loop in a thread of its own, for programs that have none.

The thread belongs to the process: after a fork (gunicorn's workers, multiprocessing) the child has no such thread and
a new one is begun on first use, but objects that were made before the fork belong to the parent. Make them after it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["LoopThread", "shared_thread"]

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="townhall", daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        """Whether it runs, in this process."""
        return self.pid == os.getpid() and self._thread.is_alive() and not self.loop.is_closed()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; raises what it raises. An interrupt (Ctrl-C) cancels it."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a blocking call inside townhall's own event loop would wait for itself")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancel what still runs and end the thread; idempotent."""
        if self.usable:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        finally:
            self.loop.close()


_lock = threading.Lock()
_thread: LoopThread | None = None


def shared_thread() -> LoopThread:
    """The process's thread, begun when there is none."""
    global _thread  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _thread is None or not _thread.usable:
            _thread = LoopThread()
        return _thread
