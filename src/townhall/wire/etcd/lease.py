"""The Lease service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from townhall.wire.etcd import EtcdMessage
from townhall.wire.etcd.kv import ResponseHeader

__all__ = [
    "LeaseGrantRequest", "LeaseGrantResponse", "LeaseKeepAliveRequest", "LeaseKeepAliveResponse", "LeaseLeasesRequest",
    "LeaseLeasesResponse", "LeaseRevokeRequest", "LeaseRevokeResponse", "LeaseStatus", "LeaseTimeToLiveRequest",
    "LeaseTimeToLiveResponse",
]  # fmt: skip


class LeaseGrantRequest(EtcdMessage, frozen=True):
    """A lease of ``ttl`` seconds; ``id`` 0 lets the server choose."""

    ttl: Annotated[int, 1] = 0
    id: Annotated[int, 2] = 0


class LeaseGrantResponse(EtcdMessage, frozen=True):
    """The lease, with the TTL it got."""

    header: Annotated[ResponseHeader | None, 1] = None
    id: Annotated[int, 2] = 0
    ttl: Annotated[int, 3] = 0
    error: Annotated[str, 4] = ""


class LeaseRevokeRequest(EtcdMessage, frozen=True):
    """End a lease."""

    id: Annotated[int, 1] = 0


class LeaseRevokeResponse(EtcdMessage, frozen=True):
    """It has ended."""

    header: Annotated[ResponseHeader | None, 1] = None


class LeaseKeepAliveRequest(EtcdMessage, frozen=True):
    """Renew a lease."""

    id: Annotated[int, 1] = 0


class LeaseKeepAliveResponse(EtcdMessage, frozen=True):
    """Renewed for ``ttl`` seconds; 0 when there is no such lease."""

    header: Annotated[ResponseHeader | None, 1] = None
    id: Annotated[int, 2] = 0
    ttl: Annotated[int, 3] = 0


class LeaseTimeToLiveRequest(EtcdMessage, frozen=True):
    """Ask about a lease, and for its keys."""

    id: Annotated[int, 1] = 0
    keys: Annotated[bool, 2] = False


class LeaseTimeToLiveResponse(EtcdMessage, frozen=True):
    """What is left of it; -1 when there is no such lease."""

    header: Annotated[ResponseHeader | None, 1] = None
    id: Annotated[int, 2] = 0
    ttl: Annotated[int, 3] = 0
    granted_ttl: Annotated[int, 4] = 0
    keys: Annotated[Sequence[bytes], 5] = ()


class LeaseLeasesRequest(EtcdMessage, frozen=True):
    """Ask for all leases."""


class LeaseStatus(EtcdMessage, frozen=True):
    """One lease of the list."""

    id: Annotated[int, 1] = 0


class LeaseLeasesResponse(EtcdMessage, frozen=True):
    """All leases."""

    header: Annotated[ResponseHeader | None, 1] = None
    leases: Annotated[Sequence[LeaseStatus], 2] = ()
