"""Leases and sessions: what keeps ephemeral things alive."""

from __future__ import annotations

import enum

__all__ = ["EndReason", "LeaseKind", "SessionBehavior"]


class LeaseKind(enum.StrEnum):
    """Who granted it and so how its end is treated."""

    INSTANCE = "instance"
    """Carries instances: a lapse makes them SUSPECT first, and the removal floor applies."""
    KEYS = "keys"
    """Carries keys (etcd lease, Consul session, ZooKeeper session): ends exactly when its TTL has passed."""


class EndReason(enum.StrEnum):
    """Why a lease ended."""

    EXPIRED = "expired"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    """The instance it carried was registered anew under another lease."""
    OPERATOR = "operator"


class SessionBehavior(enum.StrEnum):
    """What happens to the keys that a session holds when it ends (Consul sessions)."""

    RELEASE = "release"
    DELETE = "delete"
