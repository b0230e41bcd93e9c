"""Telling the registry which revisions a mirror has applied, as soon as nobody calls by an earlier one.

Whoever drains takes an acknowledgement for the word that no more calls come. A call that chose the instance just before
may not have reached it yet (its connection is being made, or the whole process was stopped in between). So a revision in
which an instance drains is acknowledged when every call that was begun there has its answer, or has failed. A call that
takes longer than ``CLIENT_ACKNOWLEDGE_WAIT_MS`` has certainly arrived and is waited for no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from townhall.client.api import Registry
from townhall.client.picture import Picture
from townhall.model import limits
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey, Verdict

__all__ = ["Acknowledging", "Callers"]

_log = logging.getLogger("townhall.client")

Callers = Sequence[Callable[[], Collection[str]]]
"""Each names the instances at which its calls wait for an answer."""

_STEP_S = 0.02
_STEPS = round(limits.CLIENT_ACKNOWLEDGE_WAIT_MS / 1000 / _STEP_S)
"""Counted rather than timed: a process that was stopped has not waited meanwhile, its calls stood still as well."""


class Acknowledging:
    """``run`` it in a task. One that is lost is made up by the mirror's next ``ready``."""

    def __init__(self, registry: Registry) -> None:
        self.subscriber = ""
        """Whose acknowledgements they are; '' while the registry has not told."""
        self._registry = registry
        self._due: dict[ServiceKey, tuple[Picture, Callers]] = {}
        self._steps: dict[ServiceKey, dict[str, int]] = {}
        """By service and draining instance: for how long its calls may still be waited for."""
        self._wake = asyncio.Event()

    def add(self, picture: Picture, callers: Callers) -> None:
        """Tell of this picture's revision, and of none before it."""
        self._due[picture.key] = (picture, callers)
        self._wake.set()

    async def run(self) -> None:
        """Tell, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                await self._tell()
                if self._due:
                    await asyncio.sleep(_STEP_S)

    async def _tell(self) -> None:
        told = [key for key, (picture, callers) in self._due.items() if not self._held(picture, callers)]
        revisions = {key: self._due.pop(key)[0].revision for key in told}
        if not revisions or not self.subscriber:
            return
        try:
            await self._registry.acknowledge(self.subscriber, revisions)
        except TownhallError as error:
            _log.debug("not acknowledged: %s", error)

    def _held(self, picture: Picture, callers: Callers) -> bool:
        """Whether a call waits that was begun at a draining instance: none begins there any more."""
        calling = {name for caller in callers for name in caller()}
        draining = [one for name in calling if (one := picture.by_id.get(name)) and one.verdict == Verdict.DRAINING]
        before = self._steps.pop(picture.key, {})
        left = {one.id: before.get(one.id, _STEPS) for one in draining}
        if left:
            self._steps[picture.key] = {name: max(0, steps - 1) for name, steps in left.items()}
        return any(left.values())
