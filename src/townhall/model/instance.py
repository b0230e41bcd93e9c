"""The values of the catalogue: service keys, instances with their verdict and evidence, service settings.

They are frozen ``msgspec.Struct``s: a change makes a new one, so a reader may keep what it was given. ``gc=False``
is sound because none of them can take part in a cycle (docs/decisions/0001).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from townhall.model import limits

__all__ = [
    "CLEAR",
    "DEFAULT_GROUP",
    "DEFAULT_NAMESPACE",
    "PROBED",
    "Evidence",
    "Instance",
    "ServiceKey",
    "ServiceSettings",
    "Stamp",
    "Verdict",
]

DEFAULT_NAMESPACE = "default"
DEFAULT_GROUP = "default"


class ServiceKey(NamedTuple):
    """What names a service: unique within the registry."""

    namespace: str
    group: str
    name: str

    def __str__(self) -> str:
        group = "" if self.group == DEFAULT_GROUP else f"{self.group}@@"
        space = "" if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/"
        return f"{space}{group}{self.name}"


class Verdict(enum.StrEnum):
    """The one health verdict. Only ``UP`` (and what the removal floor holds) may be called."""

    STARTING = "starting"
    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"


# Looking a member up in its enumeration costs 0.1 µs, more than the rest of ``Instance.callable``.
_UP, _SUSPECT = Verdict.UP, Verdict.SUSPECT


class Stamp(NamedTuple):
    """Hybrid logical clock reading: wall milliseconds × 65536 + counter, and the node that issued it."""

    time: int
    node: str


class Evidence(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """What is known for and against an instance. Times are Unix milliseconds; 0 means 'no such evidence'.

    The verdict is a pure function of this and of the instance's own fields (``core.health.judge``).
    """

    lapsed_at: int = 0
    """The lease's deadline passed without a renewal."""
    disconnected_at: int = 0
    """The connection that the lease came over broke unasked."""
    reported_at: int = 0
    """Callers' failure reports crossed the threshold."""
    report: str = ""
    """What the callers reported, for the reason."""
    held: bool = False
    """Silent, but kept callable: the removal floor is engaged."""
    draining_at: int = 0
    drain_deadline: int = 0
    """When a drain ends even if subscribers have not acknowledged."""
    maintenance: str = ""
    """Reason of a maintenance; empty when there is none."""
    override: Verdict | None = None
    """The operator's word, above all other evidence."""
    override_reason: str = ""
    probe: Verdict | None = None
    """What active probes say: UP, SUSPECT (warning) or DOWN; None when there are no probes."""
    probe_output: str = ""


CLEAR = Evidence()
PROBED = Evidence(probe=Verdict.UP)
"""All checks pass and nothing else is known; shared, as ``CLEAR`` is."""


class Instance(msgspec.Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """One instance of a service, as every protocol sees it."""

    key: ServiceKey
    id: str
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
    ready: bool = True
    """False while it starts: registered but not to be called yet."""
    lease: int = 0
    """The lease that keeps it alive; 0 for a persistent instance."""
    claim: str = ""
    """A random text that the registering process picked once; a different one is a new incarnation."""
    protocol: str = "native"
    origin: str = ""
    """Address it was registered from, ``host:port``; empty when unknown."""
    node: str = ""
    """The machine or agent it belongs to, in protocols that have one (Consul)."""
    incarnation: int = 0
    """Journal position of the commit that began this incarnation."""
    registered_at: int = 0
    revision: int = 0
    """Journal position of the last change."""
    verdict: Verdict = Verdict.UP
    reason: str = ""
    since: int = 0
    """When the verdict last changed, Unix milliseconds."""
    evidence: Evidence = CLEAR
    stamp: int = 0
    """Hybrid logical time of the last change; the node is ``stamp_node``."""
    stamp_node: str = ""
    extra: dict[str, str] = {}
    """What only one protocol needs to keep with the instance, under keys that begin with its name and a dot."""

    @property
    def ephemeral(self) -> bool:
        """Whether a lease keeps it alive."""
        return self.lease != 0

    @property
    def callable(self) -> bool:
        """Whether callers should be given it."""
        return self.verdict is _UP or (self.verdict is _SUSPECT and self.evidence.held)


class ServiceSettings(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What an operator sets for a service."""

    floor: float = limits.FLOOR_RATIO_DEFAULT
    """Share of the known instances below which silent deaths are held back; 0 switches the floor off, 1 holds all."""
    protect: float = 0.0
    """Share of healthy instances at or below which lists show all as callable (Nacos' protectThreshold)."""
    drain_deadline_ms: int = 30_000
    """How long a drain waits for subscribers unless the drain itself says otherwise."""
