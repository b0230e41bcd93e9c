"""The JSON objects about leases, acknowledgements, locks and elections; see ``shapes``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from townhall.face.native.shapes import Body, Id, Milliseconds, Number, Shown
from townhall.model import limits
from townhall.model.lease import LeaseKind

__all__ = [
    "AckBody", "LeaseBody", "LeaseGrantView", "LeaseView", "LeasesView", "LockBody", "LockRefusal", "LockView",
    "LockedView", "ProclaimBody", "RenewBody", "RenewalView",
]  # fmt: skip


class LeaseBody(Body, frozen=True, kw_only=True):
    """A lease to grant. ``kind``: ``instance`` (default) may carry instances, ``keys`` ends exactly at its deadline."""

    ttl_ms: Milliseconds = 0
    id: str | int | None = None
    kind: LeaseKind = LeaseKind.INSTANCE


class RenewBody(Body, frozen=True, kw_only=True):
    """Leases to renew. Ids may be numbers or decimal strings."""

    leases: list[Id]


class LeaseGrantView(Shown, frozen=True, kw_only=True):
    """A lease and its TTL."""

    lease: str
    ttl_ms: int


class RenewalView(Shown, frozen=True, kw_only=True):
    """How many were renewed; ``unknown`` ones have ended: register again."""

    renewed: int
    unknown: list[str]


class LeaseView(Shown, frozen=True, kw_only=True):
    """One lease."""

    lease: str
    ttl_ms: int
    remaining_ms: int
    owner: str
    epoch: int
    kind: LeaseKind
    lapsed: bool
    connected: bool
    instances: list[tuple[str, str, str, str]]
    """namespace, group, service and id of each"""
    keys: int


class LeasesView(Shown, frozen=True, kw_only=True):
    """All leases."""

    leases: list[LeaseView]


class AckBody(Body, frozen=True, kw_only=True):
    """Revision applied of each service, by name or ``namespace/group/name``."""

    services: dict[str, Number]


class LockBody(Body, frozen=True, kw_only=True):
    """Who wants it: a lease, which ends the claim when it ends."""

    lease: str | int
    value: str = ""
    wait_ms: Annotated[int, Meta(ge=0, le=limits.WAIT_MAX_MS)] = 0


class ProclaimBody(Body, frozen=True, kw_only=True):
    """A new value of the leader."""

    lease: str | int
    value: str


class LockedView(Shown, frozen=True, kw_only=True):
    """It is yours. Send ``fence`` with what you do under the lock: a later holder has a larger one."""

    held: bool
    fence: int
    key: str
    value: str


class LockRefusal(Shown, frozen=True, kw_only=True):
    """Who holds it instead."""

    lease: str | None
    fence: int
    value: str | None


class LockView(Shown, frozen=True, kw_only=True):
    """Who holds a lock (or leads), and how many wait."""

    name: str
    holder: LockRefusal | None
    waiters: int
    fence: int
    revision: int
