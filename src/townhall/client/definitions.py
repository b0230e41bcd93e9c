"""What a provider offers: one ``Service`` each, immutable; a change makes a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from townhall.client.interfaces import REVISION_KEY, Interfaces
from townhall.client.records import Registration
from townhall.model.errors import InvalidField
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, ServiceKey

__all__ = ["Service", "ServiceFields"]


class ServiceFields(TypedDict, total=False):
    """The fields of a ``Service`` beside its name and port, for ``Provider(service=…, port=…, …)``."""

    address: str | None
    id: str
    namespace: str
    group: str
    ports: Mapping[str, int]
    tags: Sequence[str]
    metadata: Mapping[str, str]
    weight: float
    region: str
    zone: str
    cluster: str
    ready: bool
    interfaces: Interfaces | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service that a process provides."""

    name: str
    port: int = 0
    address: str | None = None
    """None takes the provider's: the one by which the system reaches the registry."""
    id: str = ""
    """Of the instance; empty for ``<service>-<address>-<port>``, which a restarted process gets again."""
    namespace: str = DEFAULT_NAMESPACE
    group: str = DEFAULT_GROUP
    ports: Mapping[str, int] = field(default_factory=dict)
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    region: str = ""
    zone: str = ""
    cluster: str = ""
    ready: bool = True
    """False: registered, but not to be called until ``update(ready=True)``."""
    interfaces: Interfaces | None = None
    """What it offers: the registry is told the revision, and keeps the document once for all that have it."""

    def __post_init__(self) -> None:
        """Raises ``InvalidField``: a text is a sequence of texts, too, and "v2" would become the tags v and 2."""
        if isinstance(self.tags, str):
            raise InvalidField("tags", f"{self.tags!r} is a text and no list", advice=f"use [{self.tags!r}]")

    @property
    def key(self) -> ServiceKey:
        """What names the service."""
        return ServiceKey(self.namespace, self.group, self.name)

    def registration(self, *, address: str, claim: str, ttl_ms: int | None, lease: str | None) -> Registration:
        """The body to register it with; ``address`` is used when it has none of its own."""
        where = self.address or address
        metadata = dict(self.metadata)
        if self.interfaces is not None:
            metadata[REVISION_KEY] = self.interfaces.revision
        return Registration(
            service=self.name,
            address=where,
            port=self.port,
            id=self.id or f"{self.name}-{where}-{self.port}",
            namespace=self.namespace,
            group=self.group,
            ports=dict(self.ports),
            tags=tuple(self.tags),
            metadata=metadata,
            weight=self.weight,
            region=self.region,
            zone=self.zone,
            cluster=self.cluster,
            ready=self.ready,
            ttl_ms=ttl_ms,
            lease=lease,
            claim=claim,
        )
