"""How many findings in a row it takes before a check changes its mind."""

from __future__ import annotations

from townhall.model.check import CheckDefinition, CheckStatus

__all__ = ["Streak"]


class Streak:
    """Findings in a row of one check."""

    __slots__ = ("failures", "successes")

    def __init__(self) -> None:
        self.failures = 0
        self.successes = 0

    def count(self, definition: CheckDefinition, found: CheckStatus) -> CheckStatus | None:
        """The status that the check has after this finding; None while too few agree for a change."""
        if found is not CheckStatus.CRITICAL:
            self.failures = 0
            self.successes += 1
            return found if self.successes >= definition.success_before_passing else None
        self.successes = 0
        self.failures += 1
        if self.failures >= definition.failures_before_critical:
            return CheckStatus.CRITICAL
        # Without a threshold of its own a warning would come together with critical, which is to say never.
        if definition.failures_before_warning and self.failures >= definition.failures_before_warning:
            return CheckStatus.WARNING
        return None
