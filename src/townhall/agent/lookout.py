"""Looks at one service with its checks, and tells of each change of what they say together.

The worst check decides. A change of mind is looked at again soon: while a check's findings in a row are still too few
for its threshold, the next look comes after a second rather than after the whole interval, so that a threshold guards
against a hiccup without costing several intervals.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Final

from townhall.agent.definitions import placed
from townhall.client.records import Health
from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckStatus
from townhall.probe import Finding
from townhall.probe.look import look
from townhall.probe.ranges import Ranges
from townhall.probe.thresholds import Streak

__all__ = ["Lookout", "reason_of", "worse"]

_log = logging.getLogger("townhall.agent")
_SEVERITY: Final = {CheckStatus.PASSING: 0, CheckStatus.WARNING: 1, CheckStatus.CRITICAL: 2}
_EAGER_PAUSE_S: Final = 0.2
"""Between two looks at what has not been well yet: a start should not wait for a whole interval."""
_EAGER_FOR_S: Final = 30.0
"""What is not well by then gets a look a second: a check with a mistake in it fills the logs of who is looked at."""
_SOON_S: Final = 1.0
_WELL: Final = Health(CheckStatus.PASSING)


class Lookout:
    """``tell`` is called when all checks have been looked at, and then for each change."""

    def __init__(
        self, checks: Mapping[str, CheckDefinition], *, address: str, ranges: Ranges, tell: Callable[[Health], None]
    ) -> None:
        self._checks = {name: placed(check, address) for name, check in checks.items()}
        self._ranges = ranges
        self._tell = tell
        self._found: dict[str, Finding | None] = dict.fromkeys(checks)
        self._told: Health | None = None
        self._told_at = 0.0
        self.latest = ""
        """What the last look said that did not pass; for whoever waits for the first that does."""

    async def run(self, *, eager: bool = False) -> None:
        """Look until cancelled. ``eager``: at once and again and again, until it is well for the first time."""
        if not self._checks:
            self._say(_WELL)
            return
        async with asyncio.TaskGroup() as group:
            for name, check in self._checks.items():
                group.create_task(self._follow(name, check, eager=eager), name=f"check {name}")

    async def _follow(self, name: str, check: CheckDefinition, *, eager: bool) -> None:
        interval_s = (check.interval_ms or limits.CHECK_INTERVAL_DEFAULT_MS) / 1000
        streak = Streak()
        clock = asyncio.get_running_loop().time
        eager_until = clock() + _EAGER_FOR_S
        if not eager:
            # What is defined together is not looked at together.
            await asyncio.sleep(random.uniform(0, min(_SOON_S, interval_s)))  # noqa: S311 - spreads load
        while True:
            finding = await look(check, self._ranges, lambda error: self._broken(name, error))
            settled = streak.count(check, finding.status)
            if finding.status is not CheckStatus.PASSING:
                self.latest = reason_of(finding.output)
            if settled is not None:
                self._found[name] = Finding(settled, finding.output)
                self._judge()
            found = self._found[name]
            eager = eager and (found is None or found.status is not CheckStatus.PASSING)
            pause_s = interval_s * random.uniform(0.9, 1.0)  # noqa: S311 - keeps apart what began together
            if eager:
                pause_s = min(_EAGER_PAUSE_S if clock() < eager_until else _SOON_S, interval_s)
            elif found is None or finding.status is not found.status:
                pause_s = min(_SOON_S, interval_s)
            await asyncio.sleep(pause_s)

    def _broken(self, name: str, error: Exception) -> None:
        _log.error("the check %s failed in an unforeseen way", name, exc_info=error)

    def _judge(self) -> None:
        found = [one for one in self._found.values() if one is not None]
        if len(found) < len(self._found):
            return  # Nothing is well before everything has been looked at.
        worst = max(found, key=lambda one: _SEVERITY[one.status])
        self._say(_WELL if worst.status is CheckStatus.PASSING else Health(worst.status, reason_of(worst.output)))

    def _say(self, health: Health) -> None:
        now = asyncio.get_running_loop().time()
        if self._told is not None and self._told.status is health.status:
            seldom = now - self._told_at < limits.PROBE_OUTPUT_INTERVAL_MS / 1000
            if self._told == health or seldom:
                return
        self._told, self._told_at = health, now
        self._tell(health)


def worse(one: Health, other: Health | None) -> Health:
    """The worse of what two have found."""
    return other if other is not None and _SEVERITY[other.status] > _SEVERITY[one.status] else one


def reason_of(output: str) -> str:
    """The first line of what a probe says: a reason is read in a table, and an error page is not one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    text = lines[0] if lines else "the check failed"
    return text if len(text) <= limits.AGENT_REASON_SIZE_MAX else text[: limits.AGENT_REASON_SIZE_MAX - 1] + "…"
