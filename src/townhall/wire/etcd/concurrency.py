"""The Lock and Election services (v3lockpb, v3electionpb)."""

from __future__ import annotations

from typing import Annotated

from townhall.wire.etcd import EtcdMessage
from townhall.wire.etcd.kv import KeyValue, ResponseHeader

__all__ = [
    "CampaignRequest", "CampaignResponse", "LeaderKey", "LeaderRequest", "LeaderResponse", "LockRequest",
    "LockResponse", "ProclaimRequest", "ProclaimResponse", "ResignRequest", "ResignResponse", "UnlockRequest",
    "UnlockResponse",
]  # fmt: skip


class LockRequest(EtcdMessage, frozen=True):
    """Wait for a lock and hold it while the lease lives."""

    name: Annotated[bytes, 1] = b""
    lease: Annotated[int, 2] = 0


class LockResponse(EtcdMessage, frozen=True):
    """It is held, by this key."""

    header: Annotated[ResponseHeader | None, 1] = None
    key: Annotated[bytes, 2] = b""


class UnlockRequest(EtcdMessage, frozen=True):
    """Let go."""

    key: Annotated[bytes, 1] = b""


class UnlockResponse(EtcdMessage, frozen=True):
    """It is free."""

    header: Annotated[ResponseHeader | None, 1] = None


class LeaderKey(EtcdMessage, frozen=True):
    """What proves leadership."""

    name: Annotated[bytes, 1] = b""
    key: Annotated[bytes, 2] = b""
    rev: Annotated[int, 3] = 0
    lease: Annotated[int, 4] = 0


class CampaignRequest(EtcdMessage, frozen=True):
    """Wait to become the leader."""

    name: Annotated[bytes, 1] = b""
    lease: Annotated[int, 2] = 0
    value: Annotated[bytes, 3] = b""


class CampaignResponse(EtcdMessage, frozen=True):
    """Elected."""

    header: Annotated[ResponseHeader | None, 1] = None
    leader: Annotated[LeaderKey | None, 2] = None


class LeaderRequest(EtcdMessage, frozen=True):
    """Leader and Observe ask who leads."""

    name: Annotated[bytes, 1] = b""


class LeaderResponse(EtcdMessage, frozen=True):
    """The leader's key."""

    header: Annotated[ResponseHeader | None, 1] = None
    kv: Annotated[KeyValue | None, 2] = None


class ResignRequest(EtcdMessage, frozen=True):
    """Lead no more."""

    leader: Annotated[LeaderKey | None, 1] = None


class ResignResponse(EtcdMessage, frozen=True):
    """Resigned."""

    header: Annotated[ResponseHeader | None, 1] = None


class ProclaimRequest(EtcdMessage, frozen=True):
    """Change the leader's value."""

    leader: Annotated[LeaderKey | None, 1] = None
    value: Annotated[bytes, 2] = b""


class ProclaimResponse(EtcdMessage, frozen=True):
    """Changed."""

    header: Annotated[ResponseHeader | None, 1] = None
