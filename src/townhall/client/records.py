"""What the native API answers, as values: the JSON field for field, so encoding a record gives the answer back.

Decoding ignores fields that it does not know, and fields that have sensible defaults may be missing: a client and a
registry of different versions understand each other.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from townhall.model.check import CheckStatus
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, ServiceKey, Verdict

__all__ = [
    "Drain", "Health", "Instance", "Instances", "JsonObject", "Key", "Keys", "Lease", "Registered", "Registration", "Renewal", "ServiceRecord", "Services",
    "Subscriber", "Subscribers", "Written",
]  # fmt: skip

JsonObject = dict[str, Any]


class Instance(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One instance of a service, as the native API shows it. Times are Unix milliseconds."""

    id: str
    service: str
    namespace: str = DEFAULT_NAMESPACE
    group: str = DEFAULT_GROUP
    address: str
    port: int = 0
    ports: dict[str, int] = {}
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    weight: float = 1.0
    region: str = ""
    zone: str = ""
    cluster: str = ""
    enabled: bool = True
    ephemeral: bool = True
    lease: str | None = None
    protocol: str = "native"
    origin: str = ""
    node: str = ""
    incarnation: int = 0
    registered_at: int = 0
    revision: int = 0
    verdict: str = "up"
    """One of ``model.Verdict``; a newer registry may send others, which are then not callable."""
    reason: str = ""
    since: int = 0
    callable: bool = True
    """Whether callers should be given it: the registry's own word, floor included."""
    held: bool = False
    """Silent, but kept callable by the removal floor."""

    def __hash__(self) -> int:
        return hash((self.namespace, self.group, self.service, self.id))

    @property
    def key(self) -> ServiceKey:
        """The service it belongs to."""
        return ServiceKey(self.namespace, self.group, self.service)

    @property
    def authority(self) -> str:
        """``host:port`` as a URL holds it: an IPv6 address stands in brackets; without a port just the host."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}" if self.port else host

    def url(self, path: str = "/", *, scheme: str = "http", port: str = "") -> str:
        """A URL at this instance; ``port`` names one of its further ports. Raises KeyError for a port it has not."""
        if not port:
            return f"{scheme}://{self.authority}{path}"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{scheme}://{host}:{self.ports[port]}{path}"

    @property
    def suspect(self) -> bool:
        """Silent or reported, but neither down nor taken out on purpose: the last resort of a caller."""
        return self.verdict == Verdict.SUSPECT


class Health(msgspec.Struct, frozen=True):
    """What a look at an instance found."""

    status: CheckStatus
    output: str = ""


class Registration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a registration. What is left at its default is left to the registry."""

    service: str
    address: str
    port: int = 0
    id: str = ""
    namespace: str = DEFAULT_NAMESPACE
    group: str = DEFAULT_GROUP
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
    """Kept without a lease until it is deregistered."""
    ttl_ms: int | None = None
    lease: str | None = None
    """An existing lease to hang on; without one the registry grants a new one."""
    claim: str = ""
    """A random text that the process picked once; the same claim keeps the incarnation."""
    health: Health | None = None
    """What a look at it found; None leaves what was said before."""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a registration."""

    instance: Instance
    lease: str | None = None
    ttl_ms: int | None = None
    incarnation: int = 0
    revision: int = 0


class Renewal(msgspec.Struct, frozen=True):
    """The answer to a renewal of many: ``unknown`` leases have ended, and who held them registers again."""

    renewed: int
    unknown: tuple[str, ...] = ()


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One lease."""

    lease: str
    ttl_ms: int
    remaining_ms: int = 0
    owner: str = ""
    epoch: int = 0
    kind: str = ""
    lapsed: bool = False
    connected: bool | None = None
    instances: tuple[tuple[str, ...], ...] = ()
    """namespace, group, service, id of each."""
    keys: int = 0


class ServiceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A service with its counts."""

    name: str
    namespace: str = DEFAULT_NAMESPACE
    group: str = DEFAULT_GROUP
    instances: int = 0
    callable: int = 0
    revision: int = 0
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    settings: JsonObject | UnsetType = UNSET
    """Not in lists."""
    floor: JsonObject | UnsetType = UNSET

    @property
    def key(self) -> ServiceKey:
        """What names it."""
        return ServiceKey(self.namespace, self.group, self.name)


class Services(msgspec.Struct, frozen=True):
    """A list of services, true at ``revision``."""

    revision: int
    services: tuple[ServiceRecord, ...] = ()


class Instances(msgspec.Struct, frozen=True, kw_only=True):
    """The instances of one service at its ``revision``; an unknown service is empty at revision 0."""

    service: str
    namespace: str = DEFAULT_NAMESPACE
    group: str = DEFAULT_GROUP
    revision: int = 0
    instances: tuple[Instance, ...] = ()


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """How far a drain is: complete when every subscriber has acknowledged ``revision`` or the deadline has passed."""

    service: str
    id: str
    state: str = "none"
    """``draining``, ``complete`` or ``none``."""
    revision: int = 0
    deadline: int = 0
    subscribers: int = 0
    acknowledged: int = 0
    waiting_for: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Nobody needs to be waited for any more."""
        return self.state != "draining"


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """One watcher of a service."""

    id: str
    name: str = ""
    address: str = ""
    protocol: str = ""
    since: int = 0
    sent: int = 0
    acked: int = 0
    explicit: bool = False
    behind: bool = False


class Subscribers(msgspec.Struct, frozen=True):
    """Who watches a service whose revision is ``revision``."""

    revision: int
    subscribers: tuple[Subscriber, ...] = ()


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key. ``value`` is None when the bytes are not UTF-8; ``value_base64`` holds them always."""

    key: str
    value: str | None = None
    value_base64: str = ""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: str | None = None


class Keys(msgspec.Struct, frozen=True):
    """A range of keys at ``revision`` of their space; ``more`` when the limit cut it."""

    revision: int
    count: int = 0
    more: bool = False
    keys: tuple[Key, ...] = ()


class Written(msgspec.Struct, frozen=True):
    """The answer to a write: the revision it got in its space, and what it did."""

    revision: int = 0
    created: bool = False
    deleted: int = 0
