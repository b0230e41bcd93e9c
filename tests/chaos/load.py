"""Callers that call without pause, and what became of each call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from townhall.model.errors import TownhallError

PAUSE_S = 0.005
SLOW_S = 0.25
"""A call that takes longer is counted as slow; a provider answers within milliseconds."""


@dataclass(slots=True)
class Load:
    """Several callers of one kind. A call returns the name of who answered, or raises."""

    call: Callable[[], Awaitable[str]]
    callers: int = 4
    made: int = 0
    broken: int = 0
    """Attempts that were refused or broke off, as ``call`` counts them; late ones are not among them."""
    lost: int = 0
    slow: int = 0
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    _stopping: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._go_on()) for _ in range(self.callers)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, BaseException) and error is None:
                raise result

    @property
    def answered(self) -> int:
        return self.made - self.lost

    def figures(self) -> dict[str, float]:
        """By the name of the column."""
        return {"calls": self.made, "lost": self.lost, "slow": self.slow, "slowest": self.slowest_s}

    async def more(self, calls: int, *, deadline_s: float = 120.0) -> None:
        """Return when so many further calls were answered."""
        until = self.answered + calls
        async with asyncio.timeout(deadline_s):
            while self.answered < until:  # noqa: ASYNC110 - the callers share this loop
                await asyncio.sleep(0.01)

    async def _go_on(self) -> None:
        while not self._stopping:
            await self._once()
            await asyncio.sleep(PAUSE_S)

    async def _once(self) -> None:
        begun = time.monotonic()
        try:
            name = await self.call()
        except (TownhallError, OSError) as error:
            self.lost += 1
            self.failures.append(f"{type(error).__name__}: {error}")
        else:
            self.answers[name] = self.answers.get(name, 0) + 1
        took = time.monotonic() - begun
        self.made += 1
        self.slow += took > SLOW_S
        self.slowest_s = max(self.slowest_s, took)
