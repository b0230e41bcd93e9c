"""Keeps many services registered that run elsewhere on this machine: what ``townhall agent`` does.

Sources (``folder``, ``docker``) say what there is; the agent follows each with a lookout and tells the keeper. A
service is registered when it has been looked at once, with what was found, so that who asks sees why it is not in use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from townhall.agent import Notice, Tell
from townhall.agent.definitions import Definition
from townhall.agent.keeper import Keeper
from townhall.agent.lookout import Lookout, worse
from townhall.client.records import Health
from townhall.model.check import CheckStatus
from townhall.probe.ranges import Ranges

__all__ = ["Agent"]

_log = logging.getLogger("townhall.agent")


@dataclass(slots=True)
class _Followed:
    definition: Definition
    looking: asyncio.Task[None] | None = None
    found: Health | None = None
    """What its own checks say; None before they have been made."""
    removal: asyncio.TimerHandle | None = None
    """Takes it out when it has been critical for too long."""
    removed: bool = False


class Agent:
    """Follows what ``apply`` names. Needs a running loop."""

    def __init__(self, keeper: Keeper, *, ranges: Ranges, tell: Tell) -> None:
        self._keeper = keeper
        self._ranges = ranges
        self._tell = tell
        self._sources: dict[str, dict[str, _Followed]] = {}

    @property
    def definitions(self) -> dict[str, Definition]:
        """Everything that is followed, by label."""
        return {label: one.definition for table in self._sources.values() for label, one in table.items()}

    def apply(self, source: str, wanted: Mapping[str, Definition]) -> None:
        """From now on this is what the source names; labels of different sources must differ."""
        table = self._sources.setdefault(source, {})
        for label in [label for label in table if label not in wanted]:
            self._end(table.pop(label))
            self._keeper.unwant(label)
        for label, definition in wanted.items():
            before = table.get(label)
            if before is None:
                table[label] = self._begin(label, definition)
            elif before.definition != definition:
                table[label] = self._replace(label, before, definition)

    def stop(self) -> None:
        """Look at nothing any more; what is registered is the keeper's."""
        for table in self._sources.values():
            for followed in table.values():
                self._end(followed)

    # --- one service

    def _begin(self, label: str, definition: Definition) -> _Followed:
        followed = _Followed(definition)
        task = asyncio.get_running_loop().create_task(self._look(label, followed), name=f"lookout {label}")
        task.add_done_callback(partial(_ended, label))
        followed.looking = task
        return followed

    def _replace(self, label: str, before: _Followed, definition: Definition) -> _Followed:
        same = before.definition
        if (same.checks, same.service.address) == (definition.checks, definition.service.address):
            before.definition = definition
            self._judge(label, before)
            return before
        self._end(before)
        return self._begin(label, definition)

    def _end(self, followed: _Followed) -> None:
        if followed.looking is not None:
            followed.looking.cancel()
        if followed.removal is not None:
            followed.removal.cancel()
            followed.removal = None

    async def _look(self, label: str, followed: _Followed) -> None:
        definition = followed.definition
        address = definition.service.address or await self._keeper.find_address()

        def heard(health: Health) -> None:
            followed.found = health
            self._judge(label, followed)

        await Lookout(definition.checks, address=address, ranges=self._ranges, tell=heard).run()

    def _judge(self, label: str, followed: _Followed) -> None:
        if followed.found is None:
            return
        definition, health = followed.definition, worse(followed.found, followed.definition.health)
        if health.status is CheckStatus.CRITICAL:
            after_ms = definition.deregister_after_ms
            if after_ms and followed.removal is None and not followed.removed:
                loop = asyncio.get_running_loop()
                followed.removal = loop.call_later(after_ms / 1000, self._take_out, label, followed)
        elif followed.removal is not None:
            followed.removal.cancel()
            followed.removal = None
        followed.removed = followed.removed and health.status is CheckStatus.CRITICAL
        if not followed.removed:
            self._keeper.want(label, definition.service, health)

    def _take_out(self, label: str, followed: _Followed) -> None:
        followed.removal, followed.removed = None, True
        text = (
            f"critical for {followed.definition.deregister_after_ms} ms, so it is deregistered until it is well again"
        )
        self._tell(Notice("out", text, label, warning=True))
        self._keeper.unwant(label)


def _ended(label: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("looking at %s failed", label, exc_info=error)
