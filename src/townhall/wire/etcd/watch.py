"""The Watch service."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated

from townhall.wire.etcd import EtcdMessage
from townhall.wire.etcd.kv import KeyValue, ResponseHeader
from townhall.wire.protobuf import OneOf

__all__ = [
    "Event", "EventType", "FilterType", "WatchCancelRequest", "WatchCreateRequest", "WatchProgressRequest",
    "WatchRequest", "WatchResponse",
]  # fmt: skip


class EventType(enum.IntEnum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1


class FilterType(enum.IntEnum):
    """What a watcher does not want to hear."""

    NOPUT = 0
    NODELETE = 1


class Event(EtcdMessage, frozen=True):
    """mvccpb.Event: after a delete, ``kv`` has only the key and the revision."""

    type: Annotated[int, 1, EventType] = 0
    kv: Annotated[KeyValue | None, 2] = None
    prev_kv: Annotated[KeyValue | None, 3] = None


class WatchCreateRequest(EtcdMessage, frozen=True):
    """Watch a key or a range."""

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    start_revision: Annotated[int, 3] = 0
    progress_notify: Annotated[bool, 4] = False
    filters: Annotated[Sequence[int], 5, FilterType] = ()
    prev_kv: Annotated[bool, 6] = False
    watch_id: Annotated[int, 7] = 0
    fragment: Annotated[bool, 8] = False


class WatchCancelRequest(EtcdMessage, frozen=True):
    """End one watch of the stream."""

    watch_id: Annotated[int, 1] = 0


class WatchProgressRequest(EtcdMessage, frozen=True):
    """Ask how far the stream has come."""


class WatchRequest(EtcdMessage, frozen=True):
    """What a client says on the stream."""

    create_request: Annotated[WatchCreateRequest | None, 1, OneOf("request_union")] = None
    cancel_request: Annotated[WatchCancelRequest | None, 2, OneOf("request_union")] = None
    progress_request: Annotated[WatchProgressRequest | None, 3, OneOf("request_union")] = None


class WatchResponse(EtcdMessage, frozen=True):
    """What the server says on the stream."""

    header: Annotated[ResponseHeader | None, 1] = None
    watch_id: Annotated[int, 2] = 0
    created: Annotated[bool, 3] = False
    canceled: Annotated[bool, 4] = False
    compact_revision: Annotated[int, 5] = 0
    cancel_reason: Annotated[str, 6] = ""
    fragment: Annotated[bool, 7] = False
    events: Annotated[Sequence[Event], 11] = ()
