"""What one consumer has done with one service: counts for its metrics.

Beginnings and ends are counted under the lock of the ``Chooser``; the rest in the event loop, or by threads that may now
and then lose a count to each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["FAILURE_KINDS", "Tally"]

FAILURE_KINDS = ("timeout", "connect", "reset", "5xx")
"""How a call may fail, in the registry's words."""


@dataclass(slots=True)
class Tally:
    """Everything but ``running`` and ``unanswered`` only ever grows."""

    attempts: int = 0
    running: int = 0
    """Attempts that are not over, streams that are still open among them."""
    unanswered: dict[str, int] = field(default_factory=dict)
    """By instance: attempts that have no answer yet; instances that have none are not in it."""
    retries: int = 0
    hedges: int = 0
    ejections: int = 0
    seconds: float = 0.0
    """From the beginning of each attempt that is over until its answer began, or it failed."""
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAILURE_KINDS, 0))

    def begun(self, instance_id: str) -> None:
        """An attempt begins."""
        self.attempts += 1
        self.running += 1
        self.unanswered[instance_id] = self.unanswered.get(instance_id, 0) + 1

    def answered(self, instance_id: str) -> None:
        """Its answer begins, or it ends without one."""
        left = self.unanswered[instance_id] - 1
        if left:
            self.unanswered[instance_id] = left
        else:
            del self.unanswered[instance_id]

    def ended(self, duration_ms: float) -> None:
        """An attempt, with whatever followed it, is over."""
        self.running -= 1
        self.seconds += duration_ms / 1000

    def failed(self, kind: str) -> None:
        """One failed by its instance's fault. Other kinds than ours count as ``reset``, so that labels stay few."""
        self.failures[kind if kind in self.failures else "reset"] += 1
