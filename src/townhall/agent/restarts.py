"""Whether and when a program that has ended is started again."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from townhall.model import limits

__all__ = ["RestartPolicy", "Restarts", "When"]


class When(enum.StrEnum):
    """After which ends."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When, how often in a row, and the pauses between."""

    when: When = When.NEVER
    count_max: int = 0
    """Failed starts in a row after which it is given up; 0 never."""
    pause_min_ms: int = limits.AGENT_RESTART_MIN_MS
    pause_max_ms: int = limits.AGENT_RESTART_MAX_MS


class Restarts:
    """The series of one program. A run of ``AGENT_RESTART_STEADY_MS`` begins a new one."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.in_a_row = 0

    def after(self, code: int, *, lasted_ms: float) -> int | None:
        """Milliseconds to wait before the next start, after an end with this code; None when there is none."""
        policy = self._policy
        if lasted_ms >= limits.AGENT_RESTART_STEADY_MS:
            self.in_a_row = 0
        if policy.when is When.NEVER or (policy.when is When.ON_FAILURE and code == 0):
            return None
        if policy.count_max and self.in_a_row >= policy.count_max:
            return None
        pause_ms = min(policy.pause_max_ms, policy.pause_min_ms << min(self.in_a_row, 30))
        self.in_a_row += 1
        return pause_ms
