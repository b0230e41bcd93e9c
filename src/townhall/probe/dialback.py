"""Dial-back: the address of a new registration is tried once, so that 'not reachable from here' is known at once.

Only the registering client's own address is dialled, and what the operator named: whoever registers other machines
must not make us scan them. Nothing is refused and no verdict changes; it is told in ``status`` and in the metrics.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from townhall.model import limits
from townhall.probe import Ground, ProbeOptions
from townhall.probe.connection import FAILURES, Target, connected, why

if TYPE_CHECKING:
    from townhall.model.instance import Instance, ServiceKey

__all__ = ["Dialback"]


class Dialback:
    """``want`` is called for each registration; ``run`` is its task."""

    def __init__(self, options: ProbeOptions) -> None:
        self._options = options
        self._waiting: deque[Instance] = deque()
        self._more = asyncio.Event()
        self.dialled = self.skipped = 0
        self.unreachable: OrderedDict[tuple[ServiceKey, str], str] = OrderedDict()
        """Instances that could not be reached when they registered, and why; the latest last."""

    def want(self, instance: Instance) -> None:
        """Put a registration in line, if it may be dialled; returns at once."""
        self.unreachable.pop((instance.key, instance.id), None)
        if not self.may(instance):
            return
        if len(self._waiting) >= limits.DIALBACKS_WAITING_MAX:
            self.skipped += 1
            return
        self._waiting.append(instance)
        self._more.set()

    def may(self, instance: Instance) -> bool:
        """Whether this registration is dialled back."""
        options = self._options
        if not options.dialback or not instance.port or not options.ranges.permits(instance.address):
            return False
        named = options.dialback_ranges is not None and options.dialback_ranges.permits(instance.address)
        own = instance.origin.rpartition(":")[0].removeprefix("[").removesuffix("]")
        return named or (own != "" and own == instance.address)

    async def run(self) -> None:
        """Work until cancelled. Dials are spaced, so that a mass registration costs the registry little."""
        room = asyncio.Semaphore(limits.DIALBACKS_AT_ONCE_MAX)
        async with asyncio.TaskGroup() as group:
            while True:
                while not self._waiting:
                    self._more.clear()
                    await self._more.wait()
                await room.acquire()
                task = group.create_task(self._dial(self._waiting.popleft()))
                task.add_done_callback(lambda _: room.release())
                await asyncio.sleep(limits.DIALBACK_SPACING_MS / 1000)

    async def _dial(self, instance: Instance) -> None:
        self.dialled += 1
        ground = Ground(self._options.ranges, limits.DIALBACK_TIMEOUT_MS)
        try:
            async with asyncio.timeout(ground.timeout_ms / 1000):
                async with connected(Target(instance.address, instance.port), ground):
                    return
        except FAILURES as error:
            self.unreachable[instance.key, instance.id] = why(error)
            while len(self.unreachable) > limits.DIALBACKS_REMEMBERED_MAX:
                self.unreachable.popitem(last=False)

    def counts(self) -> dict[str, object]:
        """Gauges for ``status``; ``dialback_failures`` names the latest."""
        latest = list(self.unreachable.items())[-10:]
        return {
            "dialbacks": self.dialled,
            "dialbacks_skipped": self.skipped,
            "dialbacks_unreachable": len(self.unreachable),
            "dialback_failures": [f"{key}/{id_}: {reason}" for (key, id_), reason in latest],
        }
