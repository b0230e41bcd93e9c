"""The KV service, and what every other one answers with: the header and the key-value pair."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated

from townhall.wire.etcd import EtcdMessage
from townhall.wire.protobuf import UINT64, OneOf

__all__ = [
    "CompactionRequest", "CompactionResponse", "Compare", "CompareResult", "CompareTarget", "DeleteRangeRequest",
    "DeleteRangeResponse", "KeyValue", "PutRequest", "PutResponse", "RangeRequest", "RangeResponse", "RequestOp",
    "ResponseHeader", "ResponseOp", "SortOrder", "SortTarget", "TxnRequest", "TxnResponse",
]  # fmt: skip


class SortOrder(enum.IntEnum):
    """The order of a Range."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2


class SortTarget(enum.IntEnum):
    """What a Range sorts by."""

    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class CompareResult(enum.IntEnum):
    """How a compare compares."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class CompareTarget(enum.IntEnum):
    """What a compare looks at."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class ResponseHeader(EtcdMessage, frozen=True, rename={"member_id": "member_id"}):
    """Who answered, and at which revision."""

    cluster_id: Annotated[int, 1, UINT64] = 0
    member_id: Annotated[int, 2, UINT64] = 0
    revision: Annotated[int, 3] = 0
    raft_term: Annotated[int, 4, UINT64] = 0


class KeyValue(EtcdMessage, frozen=True):
    """mvccpb.KeyValue."""

    key: Annotated[bytes, 1] = b""
    create_revision: Annotated[int, 2] = 0
    mod_revision: Annotated[int, 3] = 0
    version: Annotated[int, 4] = 0
    value: Annotated[bytes, 5] = b""
    lease: Annotated[int, 6] = 0


class RangeRequest(EtcdMessage, frozen=True):
    """Read a key or a range."""

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    limit: Annotated[int, 3] = 0
    revision: Annotated[int, 4] = 0
    sort_order: Annotated[int, 5, SortOrder] = 0
    sort_target: Annotated[int, 6, SortTarget] = 0
    serializable: Annotated[bool, 7] = False
    keys_only: Annotated[bool, 8] = False
    count_only: Annotated[bool, 9] = False
    min_mod_revision: Annotated[int, 10] = 0
    max_mod_revision: Annotated[int, 11] = 0
    min_create_revision: Annotated[int, 12] = 0
    max_create_revision: Annotated[int, 13] = 0


class RangeResponse(EtcdMessage, frozen=True):
    """What was read."""

    header: Annotated[ResponseHeader | None, 1] = None
    kvs: Annotated[Sequence[KeyValue], 2] = ()
    more: Annotated[bool, 3] = False
    count: Annotated[int, 4] = 0


class PutRequest(EtcdMessage, frozen=True):
    """Write one key."""

    key: Annotated[bytes, 1] = b""
    value: Annotated[bytes, 2] = b""
    lease: Annotated[int, 3] = 0
    prev_kv: Annotated[bool, 4] = False
    ignore_value: Annotated[bool, 5] = False
    ignore_lease: Annotated[bool, 6] = False


class PutResponse(EtcdMessage, frozen=True):
    """It was written."""

    header: Annotated[ResponseHeader | None, 1] = None
    prev_kv: Annotated[KeyValue | None, 2] = None


class DeleteRangeRequest(EtcdMessage, frozen=True):
    """Delete a key or a range."""

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    prev_kv: Annotated[bool, 3] = False


class DeleteRangeResponse(EtcdMessage, frozen=True):
    """How many keys went, and which."""

    header: Annotated[ResponseHeader | None, 1] = None
    deleted: Annotated[int, 2] = 0
    prev_kvs: Annotated[Sequence[KeyValue], 3] = ()


class RequestOp(EtcdMessage, frozen=True):
    """One operation of a transaction."""

    request_range: Annotated[RangeRequest | None, 1, OneOf("request")] = None
    request_put: Annotated[PutRequest | None, 2, OneOf("request")] = None
    request_delete_range: Annotated[DeleteRangeRequest | None, 3, OneOf("request")] = None
    request_txn: Annotated[TxnRequest | None, 4, OneOf("request")] = None


class ResponseOp(EtcdMessage, frozen=True):
    """What one operation answers."""

    response_range: Annotated[RangeResponse | None, 1, OneOf("response")] = None
    response_put: Annotated[PutResponse | None, 2, OneOf("response")] = None
    response_delete_range: Annotated[DeleteRangeResponse | None, 3, OneOf("response")] = None
    response_txn: Annotated[TxnResponse | None, 4, OneOf("response")] = None


class Compare(EtcdMessage, frozen=True):
    """A condition of a transaction."""

    result: Annotated[int, 1, CompareResult] = 0
    target: Annotated[int, 2, CompareTarget] = 0
    key: Annotated[bytes, 3] = b""
    version: Annotated[int | None, 4, OneOf("target_union")] = None
    create_revision: Annotated[int | None, 5, OneOf("target_union")] = None
    mod_revision: Annotated[int | None, 6, OneOf("target_union")] = None
    value: Annotated[bytes | None, 7, OneOf("target_union")] = None
    lease: Annotated[int | None, 8, OneOf("target_union")] = None
    range_end: Annotated[bytes, 64] = b""


class TxnRequest(EtcdMessage, frozen=True):
    """If all compares hold the first operations, else the second."""

    compare: Annotated[Sequence[Compare], 1] = ()
    success: Annotated[Sequence[RequestOp], 2] = ()
    failure: Annotated[Sequence[RequestOp], 3] = ()


class TxnResponse(EtcdMessage, frozen=True):
    """Which branch was taken, and what its operations answer."""

    header: Annotated[ResponseHeader | None, 1] = None
    succeeded: Annotated[bool, 2] = False
    responses: Annotated[Sequence[ResponseOp], 3] = ()


class CompactionRequest(EtcdMessage, frozen=True):
    """Forget what was before a revision."""

    revision: Annotated[int, 1] = 0
    physical: Annotated[bool, 2] = False


class CompactionResponse(EtcdMessage, frozen=True):
    """It is forgotten."""

    header: Annotated[ResponseHeader | None, 1] = None
