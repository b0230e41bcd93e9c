"""Expiry: renewals, lapses and recoveries of the leases that this node owns.

Deadlines live on *lease time*: monotonic milliseconds without our own stalls. When the gap between two looks at the
clock is longer than ``STALL_MIN_MS`` the process was stopped or starved, nobody could be heard, and lease time simply
did not pass; one addition extends every deadline. After a stall nothing lapses for ``STALL_GRACE_MS``, so that what
waits in the sockets is read first, and at all times a lease must have been over at the *previous* look already.

Stages of a lease that is out of the wheel::

    (in the wheel) -> DUE -> LAPSING -> ended (KEYS)
           ^           |        |
           |           |        +-----> LAPSED -> ended (Sweep)
           +- renewed -+                   |
           +---------- recovered ----------+

Soft state only: what this module decides becomes a command, and what came of it arrives through ``follow``.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from townhall.core.commands import LapseLeases, RecoverLease, Sweep
from townhall.hub.deadlines import Deadlines
from townhall.model import limits
from townhall.model.errors import LeaseNotFound, TownhallError
from townhall.model.lease import LeaseKind

if TYPE_CHECKING:
    from townhall.core import Command, Outcome
    from townhall.core.state import Lease, State
    from townhall.hub import Clock, Done

__all__ = ["Expiry"]

STALL_GRACE_MS: Final = 1_000
"""After a stall: time for the loop to read every socket, and for peers that gave up waiting to come back."""
RETRY_MS: Final = 1_000
"""After a lapse could not be written (full disk): the next attempt."""
SWEEP_EVERY_MS: Final = 500
"""How often evictions and holds are looked at while there are any."""
WHEEL_SLICE_COUNT: Final = 20_000
"""Entries of the wheel per tick: about 5 ms, so that a million leases filed together do not stall the loop."""
START_GRACE_MAX_MS: Final = 600_000
"""After a start evictions wait for the longest TTL of the lapsed leases, but not longer than this."""


class Stage(enum.IntEnum):
    """Where a lease is that is not in the wheel."""

    DUE = 0
    """Its deadline has passed; waiting for its turn under the storm brake."""
    LAPSING = 1
    """Named in a LapseLeases that is being written."""
    LAPSED = 2


class Expiry:
    """Owner of the deadlines. All methods are called on the loop's thread and return at once."""

    __slots__ = (
        "_clock", "_due", "_grace_until_ms", "_lapse_busy", "_lapse_from_ms", "_looked_ms", "_node", "_quota", "_read_ms",
        "_recovering", "_retry_at_ms", "_skipped_ms", "_stages", "_state", "_submit", "_sweep_at_ms", "_sweep_busy",
        "_unwritten", "deadlines", "lapses_braked", "renewals", "stalled_ms", "stalls",
    )  # fmt: skip

    def __init__(self, *, clock: Clock, state: State, node: str, submit: Callable[[Command, Done], None]) -> None:
        """``submit`` hands a command of the registry itself to the writer and returns before it is decided."""
        self._clock = clock
        self._state = state
        self._node = node
        self._submit = submit
        self._read_ms = clock.monotonic_ms()
        self._skipped_ms = 0
        self._looked_ms = self._read_ms
        """Lease time of the last tick: what was not over by then may still have a renewal waiting in a socket."""
        self._grace_until_ms = 0
        self._stages: dict[int, Stage] = {}
        self._recovering: set[int] = set()
        """Silent and renewed: a RecoverLease is being written."""
        self._unwritten: dict[int, None] = {}
        """Silent and renewed, but the RecoverLease was refused. Nothing is evicted while there are any of either."""
        self._retry_at_ms = 0
        self._due: deque[int] = deque()
        self._quota = float(limits.LAPSES_PER_SWEEP_MAX)
        self._lapse_busy = False
        self._lapse_from_ms = 0
        self._sweep_busy = False
        self._sweep_at_ms = 0
        self.deadlines = Deadlines(self._read_ms)
        self.renewals = 0
        self.lapses_braked = 0
        """Ticks at which leases had to wait for the storm brake."""
        self.stalls = 0
        self.stalled_ms = 0
        """Stalls of our own that were made good, and their sum."""

    # --- time

    def lease_time_ms(self) -> int:
        """Monotonic time without stalls. A long gap since the last look is a stall, whoever looks first."""
        read_ms = self._clock.monotonic_ms()
        gap_ms = read_ms - self._read_ms
        self._read_ms = read_ms
        if gap_ms > limits.STALL_MIN_MS:
            self._skipped_ms += gap_ms
            self.stalls += 1
            self.stalled_ms += gap_ms
            self._grace_until_ms = read_ms - self._skipped_ms + STALL_GRACE_MS
        return read_ms - self._skipped_ms

    def deadline(self, lease: int) -> int | None:
        """Unix milliseconds at which it lapses unless renewed; None when it is unknown or not ours."""
        at_ms = self.deadlines.at.get(lease)
        return None if at_ms is None else self._clock.now_ms() + at_ms - self.lease_time_ms()

    # --- renewals

    def renew(self, leases: Sequence[int]) -> list[int]:
        """Extend deadlines by the TTL; returns the leases that do not exist any more. The hot path."""
        now_ms = self.lease_time_ms()
        known = self._state.leases
        at = self.deadlines.at
        stages = self._stages
        silent = self._state.silent
        quiet = not stages and not silent  # Nearly always: nobody is late, and nobody's connection broke.
        missing: list[int] = []
        self.renewals += len(leases)
        for id_ in leases:
            lease = known.get(id_)
            if lease is None:
                missing.append(id_)
            elif not quiet and (id_ in stages or id_ in silent):
                if not self._renew_late(lease, now_ms):
                    missing.append(id_)
            elif id_ in at:
                at[id_] = now_ms + lease.ttl_ms
        return missing

    def renew_one(self, id_: int) -> bool:
        """The same for one; False when it does not exist any more."""
        lease = self._state.leases.get(id_)
        if lease is None or self._stages or self._state.silent:
            return not self.renew((id_,))
        self.renewals += 1
        read_ms = self._clock.monotonic_ms()
        if read_ms != self._read_ms:
            self.lease_time_ms()
        at = self.deadlines.at
        if id_ in at:
            at[id_] = self._read_ms - self._skipped_ms + lease.ttl_ms
        return True

    def renewing(self) -> Callable[[Lease], bool]:
        """See ``core.live.Live``."""
        now_ms, at, stages, state = self.lease_time_ms(), self.deadlines.at, self._stages, self._state

        def renew(lease: Lease) -> bool:
            if stages or state.silent:
                return False
            self.renewals += 1
            id_ = lease.id
            if id_ in at:
                at[id_] = now_ms + lease.ttl_ms
            return True

        return renew

    def _renew_late(self, lease: Lease, now_ms: int) -> bool:
        """Renew a lease whose deadline has passed or whose connection broke; False when it is too late."""
        id_ = lease.id
        if lease.owner != self._node:
            return True
        stage = self._stages.get(id_)
        if stage is Stage.LAPSING and lease.kind is LeaseKind.KEYS:
            return False  # Its end is being written. To say "renewed" now would promise a lock that is lost.
        self.deadlines.at[id_] = now_ms + lease.ttl_ms
        if stage is Stage.DUE:
            del self._stages[id_]
            self.deadlines.file(id_, now_ms + lease.ttl_ms)
        if lease.silent:
            self._recover(id_)
        return True

    def _recover(self, id_: int) -> None:
        if id_ in self._recovering:
            return
        self._recovering.add(id_)

        def done(result: Outcome | TownhallError) -> None:
            self._recovering.discard(id_)
            if isinstance(result, TownhallError) and not isinstance(result, LeaseNotFound):
                # The disk is full or too many wait. The renewal was acknowledged, so it is ours to write it down.
                self._unwritten[id_] = None
                self._retry_at_ms = self.lease_time_ms() + RETRY_MS

        self._submit(RecoverLease(id=id_), done)

    # --- what became durable

    def adopt(self, leases: Iterable[int]) -> None:
        """Give leases a full TTL from now on: after a start or a take-over, when nobody could be heard before."""
        now_ms = self.lease_time_ms()
        grace_ms = 0
        for id_ in leases:
            self._drop(id_)
            lease = self._state.leases.get(id_)
            if lease is None or lease.owner != self._node:
                continue
            if lease.lapsed_at:
                self.deadlines.at[id_] = now_ms
                self._stages[id_] = Stage.LAPSED
                grace_ms = max(grace_ms, lease.ttl_ms)
            else:
                self.deadlines.file(id_, now_ms + lease.ttl_ms)
        # Who was lapsed before we stopped had no chance to come back while we were away.
        self._sweep_at_ms = max(self._sweep_at_ms, now_ms + min(grace_ms, START_GRACE_MAX_MS))

    def follow(self, leases: Iterable[int]) -> None:
        """These leases were granted, ended, lapsed, recovered, or changed: bring the deadlines up to date."""
        now_ms = self.lease_time_ms()
        for id_ in leases:
            self._sort(id_, now_ms)

    def _sort(self, id_: int, now_ms: int) -> None:
        lease = self._state.leases.get(id_)
        if lease is None or lease.owner != self._node:
            self._drop(id_)
            return
        deadline_ms = now_ms + lease.ttl_ms
        stage = self._stages.get(id_)
        at_ms = self.deadlines.at.get(id_)
        if lease.lapsed_at:
            if stage is None and at_ms is not None:
                self.deadlines.lift(id_)  # Lapsed by another way than ours.
            self._stages[id_] = Stage.LAPSED
            self.deadlines.at[id_] = now_ms if at_ms is None else at_ms
            if stage is Stage.LAPSING and at_ms is not None and at_ms > now_ms:
                self._recover(id_)  # Its renewal came while the lapse was being written.
        elif stage is Stage.LAPSED:
            del self._stages[id_]
            self.deadlines.file(id_, deadline_ms)
        elif stage is None:
            # Granted, granted anew with another TTL, or its connection came or went: each is a sign of life.
            if at_ms is None:
                self.deadlines.file(id_, deadline_ms)
            elif deadline_ms < at_ms:
                self.deadlines.move(id_, deadline_ms)
            else:
                self.deadlines.at[id_] = deadline_ms

    def _drop(self, id_: int) -> None:
        if self._stages.pop(id_, None) is not None:
            self.deadlines.forget(id_, filed=False)
        elif id_ in self.deadlines.at:
            self.deadlines.forget(id_, filed=True)

    # --- lapses

    def tick(self) -> None:
        """Look at the wheel; to be called every few tens of milliseconds, from the loop."""
        now_ms = self.lease_time_ms()
        before_ms = self._looked_ms
        self._looked_ms = now_ms
        self._quota = min(
            float(limits.LAPSES_PER_SWEEP_MAX), self._quota + limits.LAPSES_PER_SWEEP_MAX * (now_ms - before_ms) / 1000
        )
        if now_ms < self._grace_until_ms:
            return
        stages = self._stages
        for id_ in self.deadlines.due(before_ms, WHEEL_SLICE_COUNT):
            if id_ not in stages:
                stages[id_] = Stage.DUE
                self._due.append(id_)
        if self._due and not self._lapse_busy and now_ms >= self._lapse_from_ms:
            self._lapse()
        if self._unwritten and now_ms >= self._retry_at_ms:
            self._recover_again(now_ms)
        idle = not (self._sweep_busy or self._recovering or self._unwritten)
        if self._state.silent and idle and now_ms >= self._sweep_at_ms:
            self._sweep(now_ms)

    def _recover_again(self, now_ms: int) -> None:
        for id_ in list(islice(self._unwritten, limits.LAPSES_PER_SWEEP_MAX)):
            del self._unwritten[id_]
            lease = self._state.leases.get(id_)
            if lease is not None and lease.silent and self.deadlines.at.get(id_, 0) > now_ms:
                self._recover(id_)

    def _lapse(self) -> None:
        count_max = int(self._quota)
        batch: list[int] = []
        while self._due and len(batch) < count_max:
            id_ = self._due.popleft()
            if self._stages.get(id_) is Stage.DUE:  # Not renewed or ended while it waited for the brake.
                self._stages[id_] = Stage.LAPSING
                batch.append(id_)
        if self._due:
            self.lapses_braked += 1
        if not batch:
            return
        self._quota -= len(batch)
        self._lapse_busy = True

        def done(result: Outcome | TownhallError) -> None:
            self._lapse_busy = False
            if isinstance(result, TownhallError):
                self._lapse_from_ms = self.lease_time_ms() + RETRY_MS
            for id_ in batch:
                if self._stages.get(id_) is Stage.LAPSING:
                    self._again(id_)

        self._submit(LapseLeases(leases=tuple((id_, self._state.leases[id_].epoch) for id_ in batch)), done)

    def _again(self, id_: int) -> None:
        """A lapse was not written, or not for this lease: it is due again, or has been renewed meanwhile."""
        del self._stages[id_]
        at_ms = self.deadlines.at[id_]
        self.deadlines.file(id_, max(at_ms, self.lease_time_ms()))

    def _sweep(self, now_ms: int) -> None:
        self._sweep_busy = True
        self._sweep_at_ms = now_ms + SWEEP_EVERY_MS

        def done(result: Outcome | TownhallError) -> None:
            self._sweep_busy = False

        self._submit(Sweep(count_max=limits.LAPSES_PER_SWEEP_MAX), done)

    # --- for status and the simulation

    def counts(self) -> dict[str, int]:
        """Gauges for ``status``."""
        return {
            "leases_tracked": len(self.deadlines),
            "leases_due": len(self._due),
            "leases_out": len(self._stages),
            "renewals": self.renewals,
            "lapses_braked": self.lapses_braked,
            "stalls": self.stalls,
            "stalled_ms": self.stalled_ms,
        }
