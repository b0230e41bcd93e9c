"""Deadlines of checks: TTL checks that nobody passed, and instances whose checks were critical for too long.

A heartbeat of a TTL check stores one number. Each check with a deadline lies in the heap once, under the deadline it
had when it was filed; when that is past, it is either over or filed again. Deadlines count in lease time, which does
not pass while this process is stopped (see ``expiry``), and a check must have been over at the previous look already.

Soft state only: what this module decides becomes a command, and what came of it arrives through ``follow``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Final

from townhall.core.commands import Deregister, SetCheck
from townhall.model import limits
from townhall.model.check import Check, CheckKind, CheckStatus
from townhall.model.errors import NotFound, TownhallError

if TYPE_CHECKING:
    from townhall.core import Command, Outcome
    from townhall.core.state import State
    from townhall.hub import Clock, Done

__all__ = ["CheckDeadlines"]

Name = tuple[str, str]
"""(node, id)."""

EXPIRED: Final = "TTL expired"
"""What Consul says; programs look for it."""
RETRY_MS: Final = 1_000
"""After an expiry could not be written (full disk): the next attempt."""
EXPIRIES_PER_TICK_MAX: Final = 200
"""Room is left in the writer's queue for everybody else."""


class CheckDeadlines:
    """All methods are called on the loop's thread and return at once."""

    __slots__ = (
        "_at", "_born_ms", "_clock", "_expiring", "_filed", "_heap", "_lease_time_ms", "_looked_ms", "_reap_at_ms", "_reaping", "_state",
        "_submit", "expiries", "heartbeats", "minimum_ms", "reap_interval_ms", "reaped",
    )  # fmt: skip

    def __init__(
        self, *, state: State, clock: Clock, lease_time_ms: Callable[[], int], submit: Callable[[Command, Done], None]
    ) -> None:
        """``lease_time_ms`` is monotonic without our own stalls; ``submit`` hands our own commands to the writer."""
        self._state = state
        self._clock = clock
        self._lease_time_ms = lease_time_ms
        self._submit = submit
        self._at: dict[Name, int] = {}
        self._filed: dict[Name, int] = {}
        """Under which deadline a check lies in the heap; an entry with another one counts for nothing."""
        self._heap: list[tuple[int, Name]] = []
        self._expiring: dict[Name, Check] = {}
        """The check as it was when its expiry was sent to the writer."""
        self._looked_ms = lease_time_ms()
        self._born_ms = clock.now_ms()
        self._reap_at_ms = self._looked_ms
        self._reaping: set[Name] = set()
        self.minimum_ms: int = limits.DEREGISTER_CRITICAL_MIN_MS
        self.reap_interval_ms: int = limits.REAP_INTERVAL_MS
        self.heartbeats = 0
        self.expiries = 0
        self.reaped = 0
        """Instances that were deregistered because a check was critical for too long."""

    def __len__(self) -> int:
        return len(self._at)

    def adopt(self) -> None:
        """Give every TTL check a full TTL from now on: after a start, when nobody could be heard before."""
        self.follow(self._state.checks)

    def heartbeat(self, name: Name) -> bool:
        """A sign of life: the deadline moves. False when it is no TTL check, or none that stands. The hot path."""
        check = self._state.checks.get(name)
        if check is None or check.definition.kind is not CheckKind.TTL:
            return False
        self.heartbeats += 1
        self._extend(name, check.definition.ttl_ms)
        return True

    def follow(self, names: Iterable[Name]) -> None:
        """These checks were put, changed or deleted: bring the deadlines up to date. Each change is a sign of life,
        but for our own.
        """
        for name in list(names):
            check = self._state.checks.get(name)
            if check is None or check.definition.kind is not CheckKind.TTL:
                self._at.pop(name, None)
                self._expiring.pop(name, None)
            elif name in self._expiring and _expired(check):
                self._conclude(name)
            else:
                self._extend(name, check.definition.ttl_ms)

    def _extend(self, name: Name, ttl_ms: int) -> None:
        at_ms = self._lease_time_ms() + ttl_ms
        sooner = at_ms < self._at.get(name, 0)
        self._at[name] = at_ms
        if name not in self._filed or sooner:
            self._file(name, at_ms)

    def _file(self, name: Name, at_ms: int) -> None:
        self._filed[name] = at_ms
        heappush(self._heap, (at_ms, name))

    def _conclude(self, name: Name) -> None:
        """Our expiry is durable. A heartbeat that came while it was written was acknowledged, so it must stand."""
        before = self._expiring.pop(name)
        at_ms = self._at.get(name, 0)
        if at_ms > self._lease_time_ms():
            self._submit(
                SetCheck(node=name[0], id=name[1], status=before.status, output=before.output), lambda result: None
            )
        else:
            self._at.pop(name, None)

    def tick(self) -> None:
        """Look at the heap; to be called every few tens of milliseconds, from the loop."""
        now_ms = self._lease_time_ms()
        before_ms, self._looked_ms = self._looked_ms, now_ms
        for _ in range(EXPIRIES_PER_TICK_MAX):
            if not self._heap or self._heap[0][0] > before_ms:
                break
            filed_ms, name = heappop(self._heap)
            if self._filed.get(name) != filed_ms:
                continue
            del self._filed[name]
            at_ms = self._at.get(name)
            if at_ms is None:
                continue
            if at_ms > before_ms:
                self._file(name, at_ms)
            elif name not in self._expiring:
                self._expire(name)
        if self._state.book.overdue and now_ms >= self._reap_at_ms:
            self._reap_at_ms = now_ms + self.reap_interval_ms
            self._reap()

    def _expire(self, name: Name) -> None:
        check = self._state.checks.get(name)
        if check is None or _expired(check):
            self._at.pop(name, None)
            return
        output = f"{EXPIRED} (last output before timeout follows): {check.output}" if check.output else EXPIRED
        self._expiring[name] = check
        self.expiries += 1

        def done(result: Outcome | TownhallError) -> None:
            # A success has been through ``follow`` before this is called.
            if self._expiring.pop(name, None) is not None and isinstance(result, TownhallError):
                if not isinstance(result, NotFound):
                    self._extend(name, RETRY_MS)
            elif name in self._at and name not in self._filed:
                self._file(name, self._at[name])

        self._submit(SetCheck(node=name[0], id=name[1], status=CheckStatus.CRITICAL, output=output), done)

    # --- critical for too long

    def _reap(self) -> None:
        now_ms = self._clock.now_ms()
        for name in list(islice(self._due(now_ms), limits.REAPS_PER_TURN_MAX)):
            check = self._state.checks[name]
            assert check.key is not None
            self._reaping.add(name)

            def done(result: Outcome | TownhallError, name: Name = name) -> None:
                self._reaping.discard(name)
                self.reaped += not isinstance(result, TownhallError)

            self._submit(Deregister(key=check.key, id=check.instance), done)

    def _due(self, now_ms: int) -> Iterable[Name]:
        for name in self._state.book.overdue:
            check = self._state.checks[name]
            # While we were away nobody could tell us that it is well again.
            since_ms = max(check.since, self._born_ms)
            if name not in self._reaping and now_ms - since_ms >= max(
                check.definition.deregister_after_ms, self.minimum_ms
            ):
                yield name

    def counts(self) -> dict[str, int]:
        """Gauges for ``status``."""
        return {
            "ttl_checks": len(self._at),
            "check_heartbeats": self.heartbeats,
            "check_expiries": self.expiries,
            "checks_reaped": self.reaped,
        }


def _expired(check: Check) -> bool:
    return check.status is CheckStatus.CRITICAL and check.output.startswith(EXPIRED)
