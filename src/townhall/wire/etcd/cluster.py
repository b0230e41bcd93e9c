"""The Cluster service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from townhall.wire.etcd import EtcdMessage
from townhall.wire.etcd.kv import ResponseHeader
from townhall.wire.protobuf import UINT64

__all__ = [
    "Member", "MemberAddRequest", "MemberAddResponse", "MemberListRequest", "MemberListResponse",
    "MemberPromoteRequest", "MemberPromoteResponse", "MemberRemoveRequest", "MemberRemoveResponse",
    "MemberUpdateRequest", "MemberUpdateResponse",
]  # fmt: skip


class Member(EtcdMessage, frozen=True):
    """One member."""

    id: Annotated[int, 1, UINT64] = 0
    name: Annotated[str, 2] = ""
    peer_urls: Annotated[Sequence[str], 3] = ()
    client_urls: Annotated[Sequence[str], 4] = ()
    is_learner: Annotated[bool, 5] = False


class MemberAddRequest(EtcdMessage, frozen=True):
    """Add a member."""

    peer_urls: Annotated[Sequence[str], 1] = ()
    is_learner: Annotated[bool, 2] = False


class MemberAddResponse(EtcdMessage, frozen=True):
    """It was added."""

    header: Annotated[ResponseHeader | None, 1] = None
    member: Annotated[Member | None, 2] = None
    members: Annotated[Sequence[Member], 3] = ()


class MemberRemoveRequest(EtcdMessage, frozen=True):
    """Remove a member."""

    id: Annotated[int, 1, UINT64] = 0


class MemberRemoveResponse(EtcdMessage, frozen=True):
    """It was removed."""

    header: Annotated[ResponseHeader | None, 1] = None
    members: Annotated[Sequence[Member], 2] = ()


class MemberUpdateRequest(EtcdMessage, frozen=True):
    """Change where a member is reached."""

    id: Annotated[int, 1, UINT64] = 0
    peer_urls: Annotated[Sequence[str], 2] = ()


class MemberUpdateResponse(EtcdMessage, frozen=True):
    """It was changed."""

    header: Annotated[ResponseHeader | None, 1] = None
    members: Annotated[Sequence[Member], 2] = ()


class MemberListRequest(EtcdMessage, frozen=True):
    """Ask for the members."""

    linearizable: Annotated[bool, 1] = False


class MemberListResponse(EtcdMessage, frozen=True):
    """The members."""

    header: Annotated[ResponseHeader | None, 1] = None
    members: Annotated[Sequence[Member], 2] = ()


class MemberPromoteRequest(EtcdMessage, frozen=True):
    """Make a learner a voter."""

    id: Annotated[int, 1, UINT64] = 0


class MemberPromoteResponse(EtcdMessage, frozen=True):
    """It votes."""

    header: Annotated[ResponseHeader | None, 1] = None
    members: Annotated[Sequence[Member], 2] = ()
