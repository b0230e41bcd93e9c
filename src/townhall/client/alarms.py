"""What a provider tells its application when something is out of the ordinary, and the counters beside it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Alarm", "AlarmKind", "Counters"]


class AlarmKind(enum.StrEnum):
    """What happened."""

    AWAY = "away"
    """No registry answers. The service goes on; its callers have it in memory."""
    BACK = "back"
    """It answers again."""
    REGISTERED_AGAIN = "registered_again"
    """The registry had forgotten us (or ended our lease); now it knows us again."""
    SUPERSEDED = "superseded"
    """Another process has registered under the same id after us: we leave it the name and look again later."""
    REFUSED = "refused"
    """The registry refuses us: a token that is revoked or expired, or a limit."""
    DRAIN_ASKED = "drain_asked"
    """An operator drains one of our instances."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm; ``error`` is what caused it, if anything was raised."""

    kind: AlarmKind
    message: str
    error: Exception | None = None


@dataclass(slots=True)
class Counters:
    """What a provider has done since its start; only ever grows."""

    renewals: int = 0
    renewals_failed: int = 0
    registrations: int = 0
    sessions: int = 0
    """Session streams that were opened."""
    alarms: int = 0
