"""Forgets the history of the etcd space by itself, as it was configured."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from townhall.core import Outcome
from townhall.core.commands import CompactSpace
from townhall.face.etcd.compaction import Compaction
from townhall.face.etcd.member import SPACE
from townhall.model.access import Actor
from townhall.model.errors import TownhallError

if TYPE_CHECKING:
    from townhall.hub.hub import Hub
    from townhall.ops.settings import History

__all__ = ["Compacting", "start_compacting"]

_log = logging.getLogger(__name__)
_INTERNAL = Actor(internal=True)


def start_compacting(hub: Hub, history: History) -> Compacting | None:
    """What looks now and then; None when nothing is ever to be forgotten. Needs the hub's loop."""
    if not (history.etcd_revisions or history.etcd_ms):
        return None
    return Compacting(hub, Compaction(keep_revisions=history.etcd_revisions, keep_ms=history.etcd_ms))


class Compacting:
    """A task that looks every ``Compaction.every_ms``; it is stopped before the hub."""

    def __init__(self, hub: Hub, policy: Compaction) -> None:
        self._hub = hub
        self._policy = policy
        self._task = asyncio.get_running_loop().create_task(self._run(), name="compacting")

    async def stop(self) -> None:
        """End it; idempotent."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(self._policy.every_ms / 1_000)

    def look(self) -> None:
        """Compact if it is time; that it was done already is fine."""
        reader = self._hub.reader(_INTERNAL)
        revision = self._policy.look(self._hub.live.now_ms(), reader.space_revision(SPACE))
        if revision > reader.space_compacted(SPACE):
            with contextlib.suppress(TownhallError):  # The server stops, or is behind: the next look comes.
                self._hub.submit(CompactSpace(space=SPACE, revision=revision), _INTERNAL, _done)


def _done(result: Outcome | TownhallError) -> None:
    if isinstance(result, TownhallError):
        _log.warning("the etcd space was not compacted: %s", result)
