"""The runner: which check is due when, how many at once, and what becomes of their findings.

Checks lie in a heap under the time of their next look. The first look of what is there at a start comes anywhere
within the interval, so ten thousand checks spread evenly; that of a check made later comes within a second, and its
second one anywhere within the interval, so that what was registered together does not stay together. A slot that is late (too much to do) is not made good: the next one counts from now.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Final

from townhall.core.commands import SetCheck
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.check import ACTIVE_KINDS, Check, CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding, ProbeOptions
from townhall.probe.alias import follow_alias
from townhall.probe.dialback import Dialback
from townhall.probe.look import PROBERS, look
from townhall.probe.thresholds import Streak

if TYPE_CHECKING:
    from townhall.core import Outcome
    from townhall.hub import Hub
    from townhall.model.errors import TownhallError
    from townhall.model.instance import Instance

__all__ = ["Runner"]

_log = logging.getLogger(__name__)

LATER_STAGGER_MS: Final = 1_000
"""The first look of a check that was made while we run."""
SILENCE_LOOK_MS: Final = 250
"""How often leases that fell silent are looked for."""
SILENT_PER_LOOK_MAX: Final = 1_000

Name = tuple[str, str]


class _Entry:
    __slots__ = ("busy", "definition", "due_ms", "placed", "streak", "written_ms")

    def __init__(self, definition: CheckDefinition, *, placed: bool) -> None:
        self.placed = placed
        """Its place within the interval has been drawn."""
        self.definition = definition
        self.due_ms = 0
        self.busy = False
        self.streak = Streak()
        self.written_ms = -limits.PROBE_OUTPUT_INTERVAL_MS


class Runner:
    """See ``probe``; implements ``hub.Observer``. One per process, on the hub's loop."""

    def __init__(self, hub: Hub, options: ProbeOptions | None = None, *, chance: random.Random | None = None) -> None:
        """``chance`` spreads the first looks."""
        self._hub = hub
        self._options = options or ProbeOptions()
        self._actor = Actor(internal=True)
        self._chance = chance or random.Random()  # noqa: S311 - nothing secret hangs on it
        self._loop = asyncio.get_running_loop()
        self._entries: dict[Name, _Entry] = {}
        self._aliases: dict[Name, None] = {}
        self._heap: list[tuple[int, Name]] = []
        self._wake = asyncio.Event()
        self._aliases_due = False
        self._silent: dict[int, tuple[int, int]] = {}
        """Silent leases that were noticed, with since when they are silent."""
        self._room = asyncio.Semaphore(self._options.at_once_max)
        self._task: asyncio.Task[None] | None = None
        self.dialback = Dialback(self._options)
        self.probes = self.late = self.failures = self.errors = 0

    # --- life

    def start(self) -> None:
        """Begin with the checks that stand. The caller makes it the hub's observer."""
        for name, check in self._checks().items():
            self._follow(name, check, stagger_ms=0)
        self._aliases_due = bool(self._aliases)
        self._task = self._loop.create_task(self._run(), name="probes")

    async def stop(self) -> None:
        """End all probes; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _checks(self) -> Mapping[Name, Check]:
        return self._hub.reader(self._actor).state.checks

    # --- contract hub.Observer

    def checks_changed(self, names: Collection[Name]) -> None:
        """See ``hub.Observer``."""
        checks = self._checks()
        for name in names:
            check = checks.get(name)
            if check is not None:
                self._follow(name, check, stagger_ms=LATER_STAGGER_MS)
            else:
                self._entries.pop(name, None)
                self._aliases.pop(name, None)
        if self._aliases:
            self._aliases_due = True
            self._wake.set()

    def registered(self, instance: Instance) -> None:
        """See ``hub.Observer``."""
        self.dialback.want(instance)
        if self._aliases:
            self._aliases_due = True
            self._wake.set()

    def counts(self) -> dict[str, object]:
        """See ``hub.Observer``."""
        return {
            "probes_scheduled": len(self._entries),
            "probes": self.probes,
            "probes_failed": self.failures,
            "probes_late": self.late,
            "probe_errors": self.errors,
            **self.dialback.counts(),
        }

    # --- schedule

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def _runs(self, definition: CheckDefinition) -> bool:
        return definition.kind in PROBERS and (definition.kind is not CheckKind.SCRIPT or self._options.scripts)

    def _follow(self, name: Name, check: Check, *, stagger_ms: int) -> None:
        if check.definition.kind is CheckKind.ALIAS:
            self._aliases[name] = None
            return
        entry = self._entries.get(name)
        if entry is not None and entry.definition == check.definition:
            return
        if not self._runs(check.definition):
            self._entries.pop(name, None)
            return
        entry = self._entries[name] = _Entry(check.definition, placed=not stagger_ms)
        interval_ms = self._interval_ms(check.definition)
        within_ms = min(stagger_ms, interval_ms) if stagger_ms else interval_ms
        self._file(name, entry, self._now_ms() + int(self._chance.random() * within_ms))

    def _interval_ms(self, definition: CheckDefinition) -> int:
        return max(definition.interval_ms or limits.CHECK_INTERVAL_DEFAULT_MS, self._options.interval_min_ms)

    def _file(self, name: Name, entry: _Entry, due_ms: int) -> None:
        entry.due_ms = due_ms
        heappush(self._heap, (due_ms, name))
        if self._heap[0][0] == due_ms:
            self._wake.set()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.dialback.run())
            while True:
                self._wake.clear()
                self._look_for_silence()
                if self._aliases_due:
                    self._aliases_due = False
                    self._follow_aliases()
                await self._begin(group)
                wait_ms = min(SILENCE_LOOK_MS, self._heap[0][0] - self._now_ms() if self._heap else SILENCE_LOOK_MS)
                try:
                    async with asyncio.timeout(max(0, wait_ms) / 1000):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        """Begin everything that is due."""
        while self._heap and self._heap[0][0] <= self._now_ms():
            due_ms, name = heappop(self._heap)
            entry = self._entries.get(name)
            if entry is None or entry.due_ms != due_ms:
                continue  # It is gone, or filed elsewhere by now.
            interval_ms = self._interval_ms(entry.definition)
            now_ms = self._now_ms()
            late = now_ms - due_ms > interval_ms // 2
            self.late += late
            after_ms = interval_ms
            if not entry.placed:
                # Only this once sooner than its interval says.
                entry.placed = True
                after_ms = self._chance.randint(min(self._options.interval_min_ms, interval_ms), interval_ms)
            self._file(name, entry, (now_ms if late else due_ms) + after_ms)
            if entry.busy:
                continue
            entry.busy = True
            await self._room.acquire()
            group.create_task(self._probe(name, entry))

    # --- one look

    async def _probe(self, name: Name, entry: _Entry) -> None:
        definition = entry.definition

        def broken(error: Exception) -> None:
            self.errors += 1
            _log.error("probing %s of node %s failed in an unforeseen way", name[1], name[0], exc_info=error)

        try:
            finding = await look(definition, self._options.ranges, broken)
        finally:
            entry.busy = False
            self._room.release()
        self.probes += 1
        self.failures += finding.status is CheckStatus.CRITICAL
        if self._entries.get(name) is entry:
            status = entry.streak.count(definition, finding.status)
            if status is not None:
                self._tell(name, entry, Finding(status, finding.output))

    def _tell(self, name: Name, entry: _Entry | None, finding: Finding) -> None:
        """Have a finding written down, when it says something new."""
        check = self._checks().get(name)
        if check is None:
            return
        if check.status is finding.status:
            now_ms = self._now_ms()
            seldom = entry is not None and now_ms - entry.written_ms < self._options.output_interval_ms
            if check.output == finding.output or seldom:
                return
        if entry is not None:
            entry.written_ms = self._now_ms()

        def done(result: Outcome | TownhallError) -> None:
            """A refusal (a full disk, a check that went) is made good by the next look."""

        node, id_ = name
        self._hub.submit(SetCheck(node=node, id=id_, status=finding.status, output=finding.output), self._actor, done)

    def _follow_aliases(self) -> None:
        reader = self._hub.reader(self._actor)
        for name in self._aliases:
            check = reader.state.checks.get(name)
            if check is not None:
                self._tell(name, None, follow_alias(check, reader))

    # --- silence

    def _look_for_silence(self) -> None:
        """An instance that missed its heartbeat and can be probed is probed now, before it is evicted."""
        state = self._hub.reader(self._actor).state
        silent = state.silent
        if not silent:
            self._silent.clear()
            return
        if not self._entries:
            return
        for id_ in list(islice(reversed(silent), SILENT_PER_LOOK_MAX)):
            lease = state.leases[id_]
            since = (lease.lapsed_at, lease.disconnected_at)
            if self._silent.get(id_) == since:
                break  # The older ones were noticed before.
            self._silent[id_] = since
            for key, instance_id in lease.attached():
                for check in state.book.of_instance(key, instance_id):
                    self._hurry((check.node, check.id), check)
        if len(self._silent) > 2 * len(silent) + SILENT_PER_LOOK_MAX:
            self._silent = {id_: since for id_, since in self._silent.items() if id_ in silent}

    def _hurry(self, name: Name, check: Check) -> None:
        entry = self._entries.get(name)
        if entry is not None and check.definition.kind in ACTIVE_KINDS:
            self._file(name, entry, self._now_ms())
