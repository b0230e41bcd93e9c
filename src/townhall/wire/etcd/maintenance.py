"""The Maintenance service."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated

from townhall.wire.etcd import NAMES, EtcdMessage
from townhall.wire.etcd.kv import ResponseHeader
from townhall.wire.protobuf import UINT32, UINT64

__all__ = [
    "AlarmAction", "AlarmMember", "AlarmRequest", "AlarmResponse", "AlarmType", "DefragmentRequest",
    "DefragmentResponse", "DowngradeAction", "DowngradeInfo", "DowngradeRequest", "DowngradeResponse", "HashKVRequest",
    "HashKVResponse", "HashRequest", "HashResponse", "MoveLeaderRequest", "MoveLeaderResponse", "SnapshotRequest",
    "SnapshotResponse", "StatusRequest", "StatusResponse",
]  # fmt: skip


class AlarmType(enum.IntEnum):
    """What is wrong."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class AlarmAction(enum.IntEnum):
    """What to do with an alarm."""

    GET = 0
    ACTIVATE = 1
    DEACTIVATE = 2


class DowngradeAction(enum.IntEnum):
    """What to do about a downgrade."""

    VALIDATE = 0
    ENABLE = 1
    CANCEL = 2


class AlarmRequest(EtcdMessage, frozen=True):
    """List alarms, raise or clear one."""

    action: Annotated[int, 1, AlarmAction] = 0
    member_id: Annotated[int, 2, UINT64] = 0
    alarm: Annotated[int, 3, AlarmType] = 0


class AlarmMember(EtcdMessage, frozen=True):
    """An alarm that stands."""

    member_id: Annotated[int, 1, UINT64] = 0
    alarm: Annotated[int, 2, AlarmType] = 0


class AlarmResponse(EtcdMessage, frozen=True):
    """The alarms concerned."""

    header: Annotated[ResponseHeader | None, 1] = None
    alarms: Annotated[Sequence[AlarmMember], 2] = ()


class StatusRequest(EtcdMessage, frozen=True):
    """Ask how the member is."""


class DowngradeInfo(EtcdMessage, frozen=True):
    """Whether a downgrade is under way."""

    enabled: Annotated[bool, 1] = False
    target_version: Annotated[str, 2] = ""


class StatusResponse(EtcdMessage, frozen=True, rename=NAMES | {"raft_term": "raftTerm"}):
    """How the member is."""

    header: Annotated[ResponseHeader | None, 1] = None
    version: Annotated[str, 2] = ""
    db_size: Annotated[int, 3] = 0
    leader: Annotated[int, 4, UINT64] = 0
    raft_index: Annotated[int, 5, UINT64] = 0
    raft_term: Annotated[int, 6, UINT64] = 0
    raft_applied_index: Annotated[int, 7, UINT64] = 0
    errors: Annotated[Sequence[str], 8] = ()
    db_size_in_use: Annotated[int, 9] = 0
    is_learner: Annotated[bool, 10] = False
    storage_version: Annotated[str, 11] = ""
    db_size_quota: Annotated[int, 12] = 0
    downgrade_info: Annotated[DowngradeInfo | None, 13] = None


class DefragmentRequest(EtcdMessage, frozen=True):
    """Give unused space back."""


class DefragmentResponse(EtcdMessage, frozen=True):
    """Done."""

    header: Annotated[ResponseHeader | None, 1] = None


class HashRequest(EtcdMessage, frozen=True):
    """Ask for a hash over everything."""


class HashResponse(EtcdMessage, frozen=True):
    """The hash."""

    header: Annotated[ResponseHeader | None, 1] = None
    hash: Annotated[int, 2, UINT32] = 0


class HashKVRequest(EtcdMessage, frozen=True):
    """Ask for a hash over the keys up to a revision."""

    revision: Annotated[int, 1] = 0


class HashKVResponse(EtcdMessage, frozen=True):
    """The hash, and over what."""

    header: Annotated[ResponseHeader | None, 1] = None
    hash: Annotated[int, 2, UINT32] = 0
    compact_revision: Annotated[int, 3] = 0
    hash_revision: Annotated[int, 4] = 0


class SnapshotRequest(EtcdMessage, frozen=True):
    """Ask for everything."""


class SnapshotResponse(EtcdMessage, frozen=True):
    """A piece of it."""

    header: Annotated[ResponseHeader | None, 1] = None
    remaining_bytes: Annotated[int, 2, UINT64] = 0
    blob: Annotated[bytes, 3] = b""
    version: Annotated[str, 4] = ""


class MoveLeaderRequest(EtcdMessage, frozen=True):
    """Make another member the leader."""

    target_id: Annotated[int, 1, UINT64] = 0


class MoveLeaderResponse(EtcdMessage, frozen=True):
    """It leads."""

    header: Annotated[ResponseHeader | None, 1] = None


class DowngradeRequest(EtcdMessage, frozen=True):
    """Begin or end a downgrade."""

    action: Annotated[int, 1, DowngradeAction] = 0
    version: Annotated[str, 2] = ""


class DowngradeResponse(EtcdMessage, frozen=True):
    """The version concerned."""

    header: Annotated[ResponseHeader | None, 1] = None
    version: Annotated[str, 2] = ""
