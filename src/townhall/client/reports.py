"""Failed calls on their way to the registry: counted together, sent at most once a second, lost rather than kept."""

from __future__ import annotations

import asyncio
import logging

from townhall.client.api import Registry
from townhall.client.records import Instance, JsonObject
from townhall.model import limits
from townhall.model.errors import TownhallError

__all__ = ["Reports"]

_log = logging.getLogger("townhall.client")


class Reports:
    """What a process has to tell about others. ``run`` it in a task of its owner."""

    def __init__(self, registry: Registry, reporter: str) -> None:
        self._registry = registry
        self._reporter = reporter
        self._counts: dict[tuple[str, str, str, str, str], int] = {}
        self._wake = asyncio.Event()
        self.sent = 0
        """Failures that the registry has taken note of."""
        self.dropped = 0
        """Failures that were not told: too many at once, or no registry to tell."""

    def add(self, instance: Instance, kind: str) -> None:
        """A call to this instance failed: ``connect``, ``timeout``, ``reset`` or ``5xx``. Never waits."""
        row = (instance.namespace, instance.group, instance.service, instance.id, kind)
        if row not in self._counts and len(self._counts) >= limits.CLIENT_REPORTS_COUNT_MAX:
            self.dropped += 1
            return
        self._counts[row] = self._counts.get(row, 0) + 1
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled. The first failure goes out at once, those of the next second together."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._send()
            await asyncio.sleep(limits.CLIENT_REPORT_INTERVAL_MS / 1000)

    async def _send(self) -> None:
        counts, self._counts = self._counts, {}
        count = sum(counts.values())
        failures: list[JsonObject] = [
            {"namespace": row[0], "group": row[1], "service": row[2], "id": row[3], "kind": row[4], "count": times}
            for row, times in counts.items()
        ]
        try:
            await self._registry.report(self._reporter, failures)
        except TownhallError as error:
            # Old failures are no news; the registry has other evidence as well.
            self.dropped += count
            _log.debug("failures were not reported: %s", error)
        else:
            self.sent += count
