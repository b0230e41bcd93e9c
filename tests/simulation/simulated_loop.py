"""An asyncio loop with virtual time, in which every party is a process that can be frozen and killed.

Which process a callback belongs to is kept in its context, so everything that a process starts is its own. Within one
process callbacks run in order, as asyncio promises; whose turn it is among the processes is drawn from the seed. A
frozen process does nothing while time goes on (SIGSTOP); of a killed one no callback ever runs again (SIGKILL).
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="outside")


class SimulatedLoop(asyncio.BaseEventLoop):
    """No selector, no sockets, no threads: timers and callbacks only."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.now = 0.0
        self.rng = rng
        self._queues: dict[str, deque[asyncio.Handle]] = {}
        self._frozen: set[str] = set()
        self._killed: set[str] = set()
        self._tasks: dict[str, list[asyncio.Task[Any]]] = {}
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self.now

    # --- processes

    def context(self, name: str) -> contextvars.Context:
        """A context whose callbacks belong to this process."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, name)
        return context

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as (part of) a process."""
        return self.create_task(coroutine, context=self.context(name))

    def freeze(self, name: str) -> None:
        self._frozen.add(name)

    def thaw(self, name: str) -> None:
        self._frozen.discard(name)

    def kill(self, name: str) -> None:
        """Nothing of it runs again. Its coroutines are closed so that the interpreter does not complain about them."""
        self._killed.add(name)
        self._queues.pop(name, None)
        for task in self._tasks.pop(name, ()):
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                task.get_coro().close()  # type: ignore[union-attr]

    def alive(self, name: str) -> bool:
        return name not in self._killed

    # --- turns

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, context=context)
        name = context.get(PROCESS, "outside") if context is not None else PROCESS.get()
        tasks = self._tasks.setdefault(name, [])
        if len(tasks) > 20:
            tasks[:] = [other for other in tasks if not other.done()]
        tasks.append(task)
        return task

    def _run_once(self) -> None:
        while True:
            self._sort_out()
            ready = [name for name, queue in self._queues.items() if queue and name not in self._frozen]
            if ready:
                break
            if not self._scheduled:  # type: ignore[attr-defined]
                raise RuntimeError("nothing will ever happen again")
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        name = ready[0] if len(ready) == 1 else self.rng.choice(ready)
        handle = self._queues[name].popleft()
        if not handle._cancelled:
            handle._run()

    def _sort_out(self) -> None:
        """Timers that are due join what is ready, and all of that goes to the queues of its processes."""
        scheduled, ready = self._scheduled, self._ready  # type: ignore[attr-defined]
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self.now):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        while ready:
            handle = ready.popleft()
            name = handle._context.get(PROCESS, "outside")
            if name not in self._killed:
                queue = self._queues.get(name)
                if queue is None:
                    queue = self._queues[name] = deque()
                queue.append(handle)

    def end(self) -> None:
        """Kill everybody and close."""
        for name in list(self._tasks):
            self.kill(name)
        self.close()


def run_simulated(rng: random.Random, main: Callable[[SimulatedLoop], Coroutine[Any, Any, None]]) -> float:
    """Run ``main`` as the process "outside" to its end; returns the virtual seconds it took."""
    loop = SimulatedLoop(rng)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main(loop))
        return loop.now
    finally:
        asyncio.set_event_loop(None)
        loop.end()
