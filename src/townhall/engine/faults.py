"""The faults wrapper: any engine, failing as a script or dice say.

It misbehaves only as the contract allows, so whatever is above must get on with it. Deterministic: the dice are the
``random.Random`` passed in, rolled once per append and again only for what the fault needs. Faults below the
contract (torn bytes, lost sectors) are the business of ``lossy``.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from townhall.engine import Engine, Entry, Opened
from townhall.model.errors import EngineFailed, EngineFull, OutcomeUnknown

__all__ = ["Fault", "FaultPlan", "FaultyEngine"]


class Fault(enum.Enum):
    """What may happen to one append."""

    DELAYED = "delayed"
    """It takes up to ``delay_ms_max``, and succeeds."""
    UNKNOWN_DURABLE = "unknown_durable"
    """OutcomeUnknown, and the group shows after reopening."""
    UNKNOWN_LOST = "unknown_lost"
    """OutcomeUnknown, and the group does not show."""
    TORN = "torn"
    """The power went while the group was written: OutcomeUnknown; the torn group is dropped at reopening."""
    SYNC_FAILED = "sync_failed"
    """OutcomeUnknown; the dice decide whether the group shows."""
    FULL = "full"
    """EngineFull; later appends work."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which appends fail, and how. Numbers count the appends of the wrapper's whole life, from 1."""

    script: Mapping[int, Fault] = field(default_factory=dict)
    """Faults of certain appends; they go before the dice."""
    rates: Mapping[Fault, float] = field(default_factory=dict)
    """Probability of each fault for the other appends; together at most 1."""
    delay_ms_max: int = 50


class FaultyEngine:
    """See ``Engine``. With an empty plan it behaves exactly as the engine within."""

    def __init__(self, inner: Engine, plan: FaultPlan, rng: random.Random) -> None:
        assert sum(plan.rates.values()) <= 1
        self.inner = inner
        self.plan = plan
        self.appends_count = 0
        self.happened: list[tuple[int, Fault]] = []
        """What was done, by number of the append: for the message of a failed test."""
        self._rng = rng
        self._frozen_tail: int | None = None

    def open(self) -> Opened:
        """See ``Engine.open``; ends the refusal after an unknown outcome."""
        opened = self.inner.open()
        self._frozen_tail = None
        return opened

    def snapshot(self) -> Iterator[bytes]:
        """See ``Engine.snapshot``."""
        return self.inner.snapshot()

    def follow(self, after: int) -> Iterator[Entry]:
        """See ``Engine.follow``."""
        tail = self._frozen_tail
        entries = self.inner.follow(after)
        return entries if tail is None else takewhile(lambda entry: entry.position <= tail, entries)

    async def append(self, blobs: Sequence[bytes], expect: int) -> int:
        """See ``Engine.append``; what the plan has for it happens."""
        if self._frozen_tail is not None:
            raise EngineFailed("the journal takes no more writes since an outcome was unknown", advice="reopen it")
        self.appends_count += 1
        fault = self._next_fault()
        if fault is None:
            return await self.inner.append(blobs, expect)
        self.happened.append((self.appends_count, fault))
        if fault is Fault.DELAYED:
            await asyncio.sleep(self._rng.uniform(0, self.plan.delay_ms_max) / 1000)
            return await self.inner.append(blobs, expect)
        if fault is Fault.FULL:
            raise EngineFull("no room while writing the journal (injected)")
        # Whether it is durable or not, nothing of it shows before the engine is opened again.
        self._frozen_tail = self.inner.tail()
        if fault is Fault.UNKNOWN_DURABLE or (fault is Fault.SYNC_FAILED and self._rng.random() < 0.5):
            await self.inner.append(blobs, expect)
        raise OutcomeUnknown(f"the group may or may not be durable (injected: {fault.value})", advice="reopen it")

    def tail(self) -> int:
        """See ``Engine.tail``."""
        return self.inner.tail() if self._frozen_tail is None else self._frozen_tail

    def save(self, position: int, chunks: Iterable[bytes]) -> None:
        """See ``Engine.save``."""
        self.inner.save(position, chunks)

    def trim(self, upto: int) -> None:
        """See ``Engine.trim``."""
        self.inner.trim(upto)

    def close(self) -> None:
        """See ``Engine.close``."""
        self.inner.close()

    def _next_fault(self) -> Fault | None:
        roll = self._rng.random()
        if scripted := self.plan.script.get(self.appends_count):
            return scripted
        for fault, rate in self.plan.rates.items():
            roll -= rate
            if roll < 0:
                return fault
        return None
