"""The JSON objects of the native protocol, as Structs: what bodies are decoded to, answers encoded from, and the
OpenAPI document generated from. Members that an answer always shows have no default.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.instance import Verdict

__all__ = [
    "BATCH_ITEMS", "BatchBody", "BatchView", "Body", "DeregisterBody", "DeregisterItem", "DrainBody", "DrainView",
    "EmptyBody", "FailureItem", "FloorView", "HealthBody", "Id", "InstanceView", "InstancesView", "MaintenanceBody", "Milliseconds",
    "Number", "OverrideBody", "PatchBody", "RegisterBody", "RegisteredView", "ReportBody", "ReportView",
    "ServiceBody", "ServiceRow", "ServiceSettingsBody", "ServiceView", "ServicesView", "SettingsView", "Shown",
    "SubscriberView", "SubscribersView",
]  # fmt: skip

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=limits.LEASE_TTL_MAX_MS)]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every body has in common; ``omit_defaults`` serves ``wire.strict_json``."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer has in common."""


class EmptyBody(Body, frozen=True, kw_only=True):
    """Nothing is expected; ``{}`` and no body at all are the same."""


# --- catalogue


class HealthItem(Body, frozen=True, kw_only=True):
    """What the provider, or who looks after it, says of an instance's health."""

    status: CheckStatus
    output: str = ""


class HealthBody(HealthItem, frozen=True, kw_only=True):
    """The same, refused when the instance has another incarnation."""

    incarnation: Number = 0


class RegisterBody(Body, frozen=True, kw_only=True):
    """An instance to register. Names and values are checked by ``model.names``."""

    service: str
    address: str
    port: int = 0
    id: str = ""
    namespace: str = "default"
    group: str = "default"
    ports: dict[str, int] = {}
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    weight: float = 1.0
    region: str = ""
    zone: str = ""
    cluster: str = ""
    enabled: bool = True
    ready: bool = True
    persistent: bool = False
    ttl_ms: Milliseconds | None = None
    lease: str | int | None = None
    claim: str = ""
    health: HealthItem | None = None


class BatchBody(Body, frozen=True, kw_only=True):
    """Many to register, each decided by itself."""

    instances: list[msgspec.Raw]


class DeregisterItem(Body, frozen=True, kw_only=True):
    """One to remove."""

    service: str
    id: str
    namespace: str = "default"
    group: str = "default"
    incarnation: Number = 0
    claim: str = ""


class DeregisterBody(Body, frozen=True, kw_only=True):
    """Many to remove, each decided by itself."""

    instances: list[msgspec.Raw]


class PatchBody(Body, frozen=True, kw_only=True):
    """What is given changes, the rest stays. ``metadata`` merges, and null removes a key."""

    tags: tuple[str, ...] | UnsetType = UNSET
    metadata: dict[str, str | None] | UnsetType = UNSET
    weight: float | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    ready: bool | UnsetType = UNSET
    zone: str | UnsetType = UNSET
    incarnation: Number = 0


class MaintenanceBody(Body, frozen=True, kw_only=True):
    """Why."""

    reason: str = ""


class OverrideBody(Body, frozen=True, kw_only=True):
    """The operator's word."""

    verdict: Verdict
    reason: str = ""


class DrainBody(Body, frozen=True, kw_only=True):
    """How long a drain may take; 0 takes the service's setting."""

    deadline_ms: Milliseconds = 0
    incarnation: Number = 0


class FailureItem(Body, frozen=True, kw_only=True):
    """Failed calls to one instance."""

    service: str
    id: str
    namespace: str = "default"
    group: str = "default"
    kind: str = "connect"
    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class ReportBody(Body, frozen=True, kw_only=True):
    """What a caller saw."""

    reporter: str
    failures: list[FailureItem]


class ServiceSettingsBody(Body, frozen=True, kw_only=True):
    """Settings of a service; what is not given takes the default."""

    floor: float = limits.FLOOR_RATIO_DEFAULT
    protect: float = 0.0
    drain_deadline_ms: Milliseconds = 30_000


class ServiceBody(Body, frozen=True, kw_only=True):
    """A service's own metadata and settings; what is not given stays."""

    metadata: dict[str, str] | UnsetType = UNSET
    settings: ServiceSettingsBody | UnsetType = UNSET


class InstanceView(msgspec.Struct, frozen=True, gc=False):
    """One instance of a service."""

    id: str
    service: str
    namespace: str
    group: str
    address: str
    port: int
    ports: dict[str, int]
    tags: tuple[str, ...]
    metadata: dict[str, str]
    weight: float
    region: str
    zone: str
    cluster: str
    enabled: bool
    ephemeral: bool
    lease: str | None
    protocol: str
    origin: str
    node: str
    incarnation: int
    registered_at: int
    revision: int
    verdict: Verdict
    reason: str
    since: int
    callable: bool
    held: bool


class RegisteredView(Shown, frozen=True, kw_only=True):
    """What became of a registration."""

    instance: InstanceView
    lease: str | None
    ttl_ms: int | None
    incarnation: int
    revision: int


class BatchView(Shown, frozen=True, kw_only=True):
    """One result for each item, in order: what the single request answers, or ``{"error": problem}``."""

    results: list[dict[str, Any]]
    revision: int


class InstancesView(Shown, frozen=True, kw_only=True):
    """A service's instances at its revision; an unknown service is empty at revision 0."""

    service: str
    namespace: str
    group: str
    revision: int
    instances: list[InstanceView]


class ServiceRow(Shown, frozen=True, kw_only=True):
    """One row of a list of services."""

    namespace: str
    group: str
    name: str
    instances: int
    callable: int
    revision: int
    tags: tuple[str, ...]
    metadata: dict[str, str]


class ServicesView(Shown, frozen=True, kw_only=True):
    """The services that there are."""

    revision: int
    services: list[ServiceRow]


class SettingsView(Shown, frozen=True, kw_only=True):
    """What an operator set for a service."""

    floor: float
    protect: float
    drain_deadline_ms: int


class FloorView(Shown, frozen=True, kw_only=True):
    """The removal floor of a service."""

    ratio: float
    known: int
    callable: int
    silent: int
    held: int
    engaged: bool


class ServiceView(Shown, frozen=True, kw_only=True):
    """One service."""

    name: str
    namespace: str
    group: str
    metadata: dict[str, str]
    settings: SettingsView
    floor: FloorView
    instances: int
    callable: int
    revision: int
    tags: tuple[str, ...]


class DrainView(Shown, frozen=True, kw_only=True):
    """How far a drain is: complete when every subscriber has acknowledged ``revision``, or the deadline has passed."""

    service: str
    id: str
    state: str
    """draining, complete or none"""
    revision: int
    deadline: int
    subscribers: int
    acknowledged: int
    waiting_for: tuple[str, ...]


class ReportView(Shown, frozen=True, kw_only=True):
    """How many reports were taken; ``unknown`` instances are not there."""

    accepted: int
    unknown: list[dict[str, str]]


class SubscriberView(Shown, frozen=True, kw_only=True):
    """One watcher of a service."""

    id: str
    name: str
    address: str
    protocol: str
    since: int
    sent: int
    acked: int
    explicit: bool
    behind: bool


class SubscribersView(Shown, frozen=True, kw_only=True):
    """Who watches a service, with the revision each has seen."""

    revision: int
    subscribers: list[SubscriberView]


BATCH_ITEMS: dict[type[msgspec.Struct], type[msgspec.Struct]] = {
    BatchBody: RegisterBody,
    DeregisterBody: DeregisterItem,
}
"""What the items of a batch are: each is decoded by itself, so that a bad one does not stop the others."""
