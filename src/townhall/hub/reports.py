"""Callers' failure reports: counted per instance within a window, by whom, and turned into evidence.

Enough failures from enough callers make an instance SUSPECT (``MarkReported``); quiet for ``REPORT_HOLD_MS`` takes
that back. One caller alone cannot take out an instance that others watch too: its own network may be what fails.
Everything is bounded: instances by ``REPORTERS_TRACKED_MAX``, reporters per instance, and one command at a time for
each instance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from townhall.core.commands import MarkReported
from townhall.model import limits
from townhall.model.instance import ServiceKey

if TYPE_CHECKING:
    from townhall.core import Command, Outcome
    from townhall.hub import Clock, Done
    from townhall.model.errors import TownhallError
    from townhall.model.instance import Instance

__all__ = ["Reports"]

REPORTERS_PER_INSTANCE_MAX: Final = 64
"""Distinct reporters remembered per instance: the threshold asks for two."""
TALLIES_PER_TICK_MAX: Final = 256
"""Tallies looked at in one tick."""
KIND_SIZE_MAX: Final = 64
RETRY_MS: Final = 1_000
"""Between two attempts to mark an instance."""

Target = tuple[ServiceKey, str]


class Tally(msgspec.Struct, gc=False):
    """What was reported about one incarnation of one instance."""

    incarnation: int
    failures: dict[str, tuple[int, int]] = {}
    """Reporter to (monotonic time of its last report, failures it counted within the window)."""
    last_ms: int = 0
    marked: bool = False
    """The state holds our report."""
    busy: bool = False
    """A command about it is being written."""
    again_ms: int = 0
    """Not to be marked before: the last attempt came to nothing (the floor forbids it, the disk is full)."""


class Reports:
    """The book of reports. ``find`` gives the instance or None; ``watchers`` counts subscribers of a service."""

    __slots__ = ("_clock", "_find", "_hold_ms", "_submit", "_tallies", "_watchers", "dropped")

    def __init__(
        self,
        *,
        clock: Clock,
        find: Callable[[ServiceKey, str], Instance | None],
        watchers: Callable[[ServiceKey], int],
        submit: Callable[[Command, Done], None],
        hold_ms: int = limits.REPORT_HOLD_MS,
    ) -> None:
        self._clock = clock
        self._hold_ms = hold_ms
        self._find = find
        self._watchers = watchers
        self._submit = submit
        self._tallies: dict[Target, Tally] = {}
        self.dropped = 0
        """Tallies that were forgotten to make room."""

    def adopt(self, instance: Instance) -> None:
        """An instance that was marked before we started: the quiet time begins now."""
        tally = self._open((instance.key, instance.id), instance.incarnation)
        tally.marked = True
        tally.last_ms = self._clock.monotonic_ms()

    def report(self, reporter: str, key: ServiceKey, id_: str, *, kind: str, count: int) -> bool:
        """Count failed calls; True when the instance is known."""
        instance = self._find(key, id_)
        if instance is None:
            return False
        if count <= 0:
            return True
        target = (key, id_)
        now_ms = self._clock.monotonic_ms()
        tally = self._open(target, instance.incarnation)
        since_ms = now_ms - limits.REPORT_WINDOW_MS
        failures = {who: entry for who, entry in tally.failures.items() if entry[0] > since_ms}
        before = failures.pop(reporter, (0, 0))[1]
        failures[reporter] = (now_ms, min(before + count, limits.BATCH_COUNT_MAX))
        while len(failures) > REPORTERS_PER_INSTANCE_MAX:
            del failures[next(iter(failures))]
        tally.failures = failures
        tally.last_ms = now_ms
        total = sum(entry[1] for entry in failures.values())
        enough = min(2, max(1, self._watchers(key)))
        settled = tally.marked or tally.busy or now_ms < tally.again_ms
        if not settled and total >= limits.REPORT_FAILURES_MIN and len(failures) >= enough:
            callers = "1 caller" if len(failures) == 1 else f"{len(failures)} callers"
            self._mark(target, tally, f"{total} failed calls by {callers}, last: {kind[:KIND_SIZE_MAX]}")
        return True

    def tick(self) -> None:
        """Take back marks that were quiet for long enough and forget tallies out of the window."""
        now_ms = self._clock.monotonic_ms()
        # Every report moves its tally to the end, so the first fresh one ends the search.
        for target, tally in list(itertools.islice(self._tallies.items(), TALLIES_PER_TICK_MAX)):
            quiet_ms = now_ms - tally.last_ms
            if quiet_ms < min(limits.REPORT_WINDOW_MS, self._hold_ms):
                return
            if tally.busy:
                continue
            if not tally.marked:
                if quiet_ms >= limits.REPORT_WINDOW_MS:
                    del self._tallies[target]
            elif quiet_ms >= self._hold_ms:
                self._mark(target, tally, "")

    def _open(self, target: Target, incarnation: int) -> Tally:
        """The tally of this incarnation, now the freshest of all; makes room for it when there is none."""
        tally = self._tallies.pop(target, None)
        if tally is None or tally.incarnation != incarnation:
            tally = Tally(incarnation)
        self._tallies[target] = tally
        if len(self._tallies) > limits.REPORTERS_TRACKED_MAX:
            oldest = next(iter(self._tallies))
            forgotten = self._tallies.pop(oldest)
            self.dropped += 1
            if forgotten.marked and not forgotten.busy:
                self._mark(oldest, forgotten, "")  # Nobody would remember to take it back later.
        return tally

    def _mark(self, target: Target, tally: Tally, report: str) -> None:
        tally.busy = True

        def done(result: Outcome | TownhallError) -> None:
            tally.busy = False
            tally.again_ms = self._clock.monotonic_ms() + RETRY_MS
            instance = self._find(*target)
            if instance is None or instance.incarnation != tally.incarnation:
                if self._tallies.get(target) is tally:
                    del self._tallies[target]  # It is gone, or another one by now.
                return
            tally.marked = instance.evidence.reported_at != 0
            if tally.marked:
                self._tallies.setdefault(target, tally)  # It must be taken back some day, even if nobody has room.

        key, id_ = target
        self._submit(MarkReported(key=key, id=id_, incarnation=tally.incarnation, report=report), done)

    def __len__(self) -> int:
        return len(self._tallies)
