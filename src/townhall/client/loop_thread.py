"""One event loop in a thread of its own, for programs that have none.

The thread belongs to the process: after a fork (workers of gunicorn and Celery, multiprocessing) the child has no such
thread and a new one is begun on first use. What belongs to the loop of the old one must begin anew there. While the
process forks, the shared loop stands still at a place where it holds no lock: a lock that it held would stay held in the
child, where nobody would ever release it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from townhall.model.errors import Misuse

__all__ = ["LoopThread", "shared_thread"]

T = TypeVar("T")
_STILL_S = 1.0
"""How long a fork waits for the event loop to stand still, and this for the fork. Neither can fail; only be unlucky."""


class LoopThread:
    """Runs coroutines for other threads."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._go_on = threading.Event()
        self._thread = threading.Thread(target=self._run, name="townhall", daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        """Whether it runs, in this process."""
        return self.pid == os.getpid() and self._thread.is_alive() and not self.loop.is_closed()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; raises what it raises. An interrupt (Ctrl-C) cancels it.

        Raises ``Misuse`` in a forked process, and after ``stop``.
        """
        if not self.usable:
            coroutine.close()
            raise Misuse("its thread has ended, or is the parent process's", advice="make it after the fork")
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a blocking call inside townhall's own event loop would wait for itself")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def disown(self) -> None:
        """In the child process: what it was doing is the parent's to finish, and nothing is to be said of it here.

        Sockets and the selector are shared with the parent. Something else is put into their places, so that taking the
        objects apart, at the end at the latest, harms nobody.
        """
        _parents.append(self)
        selector = getattr(self.loop, "_selector", None)
        if selector is not None and selector.get_map() is not None:
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in (
                [selector.fileno(), *selector.get_map()] if hasattr(selector, "fileno") else selector.get_map()
            ):
                os.dup2(nothing, number)
            os.close(nothing)
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does it

    def stop(self) -> None:
        """Cancel what still runs and end the thread; idempotent."""
        if self.usable:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def stand_still(self) -> None:
        """Hold the loop, in a callback of its own, until ``go_on``."""
        if not self.usable or threading.current_thread() is self._thread:
            return
        stands = threading.Event()
        self._go_on = go_on = threading.Event()

        def stand() -> None:
            stands.set()
            go_on.wait(_STILL_S)

        self.loop.call_soon_threadsafe(stand)
        stands.wait(_STILL_S)

    def go_on(self) -> None:
        """The end of ``stand_still``."""
        self._go_on.set()

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
_parents: list[LoopThread] = []


def _before_fork() -> None:
    if _thread is not None:
        _thread.stand_still()


def _in_parent() -> None:
    if _thread is not None:
        _thread.go_on()


def _in_child() -> None:
    """In the child process another thread of the parent may have held the lock for ever."""
    global _lock, _thread  # noqa: PLW0603 - one per process is the point
    _lock = threading.Lock()
    if _thread is not None:
        _thread.disown()
        _thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


def shared_thread() -> LoopThread:
    """The process's thread, begun when there is none."""
    global _thread  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _thread is None or not _thread.usable:
            _thread = LoopThread()
        return _thread
