"""One coarse clock for all timeouts of a server.

An item has a tick at which it is due and, apart from it, the tick in whose slot it lies. Moving the due tick forward is
one assignment (``item.due = wheel.tick + n``), which is what a connection does with every request; the item is put on
when its old slot comes round. Only an earlier due tick, a rare thing, moves it at once. Worked example: a connection is
armed for tick 100; at tick 40 a request comes and ``due`` becomes 140; at tick 100 the wheel finds it not due and puts
it into slot 140.

The wheel's time is our own running time: a gap between two advances counts for ``STALL_MIN_MS`` at most. So when the
process was stopped or the loop was stalled, nobody else is timed out for it.
"""

from __future__ import annotations

from townhall.model.limits import STALL_MIN_MS

__all__ = ["Timed", "TimerWheel"]


class Timed:
    """Something with a deadline; ``due`` is its tick (0: none), ``slot`` where the wheel keeps it (0: nowhere)."""

    __slots__ = ("due", "slot")

    def __init__(self) -> None:
        self.due = 0
        self.slot = 0

    def expired(self) -> None:
        """The deadline has passed. It is disarmed before this is called."""


class TimerWheel:
    """Slots of items by tick. Pure: whoever owns it calls ``advance``."""

    def __init__(self, *, tick_ms: int) -> None:
        self.tick_ms = tick_ms
        self.tick = 1
        """The present."""
        self._slots: dict[int, dict[Timed, None]] = {}
        self._left_ms = 0.0

    def ticks(self, delay_ms: int) -> int:
        """Ticks until a delay has certainly passed."""
        return -(-delay_ms // self.tick_ms) + 1

    def arm(self, item: Timed, delay_ms: int) -> None:
        """Call ``item.expired()`` after a delay, instead of whenever it was armed for."""
        self.arm_at(item, self.tick + self.ticks(delay_ms))

    def arm_at(self, item: Timed, due: int) -> None:
        """The same with the tick."""
        item.due = due
        if item.slot == 0 or due < item.slot:
            self._take_out(item)
            self._place(item, max(due, self.tick + 1))

    def forget(self, item: Timed) -> None:
        """Disarm and let go of it, so that nothing keeps it in memory; idempotent."""
        item.due = 0
        self._take_out(item)

    def advance(self, elapsed_ms: float) -> None:
        """Time has passed: call what is due, in the order of the ticks."""
        self._left_ms += min(elapsed_ms, STALL_MIN_MS)
        while self._left_ms >= self.tick_ms:
            self._left_ms -= self.tick_ms
            self.tick += 1
            self._turn()

    def _turn(self) -> None:
        tick = self.tick
        for item in self._slots.pop(tick, ()):
            # An item may have been forgotten or moved by the expiry of one before it.
            if item.slot != tick:
                continue
            item.slot = 0
            due = item.due
            if due == 0:
                continue
            if due > tick:
                self._place(item, due)
            else:
                item.due = 0
                item.expired()

    def _take_out(self, item: Timed) -> None:
        # The slot that is being turned has left the table already; its items are told by their slot number.
        if item.slot:
            slot = self._slots.get(item.slot)
            if slot is not None:
                del slot[item]
                if not slot:
                    del self._slots[item.slot]
            item.slot = 0

    def _place(self, item: Timed, tick: int) -> None:
        item.slot = tick
        self._slots.setdefault(tick, {})[item] = None
