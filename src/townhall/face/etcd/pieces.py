"""Encoded keys, kept: what is read often is encoded once for each version of a key.

A range of a thousand keys is a ``join`` of kept pieces. A piece is good as long as the key's value object is the one it
was made from; the core never changes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Final

from townhall.face.etcd.requests import sifted
from townhall.model.keys import KeyValue
from townhall.wire.etcd import fragments, kv
from townhall.wire.protobuf_encode import varint

__all__ = ["Pieces", "chosen"]

PIECES_SIZE_MAX: Final = 67_108_864
"""Encoded keys that the etcd face keeps; 300,000 keys of 100 bytes."""
PIECE_SIZE_MAX: Final = 65_536
"""A larger key is encoded for each answer, which copies it anyway."""
KVS: Final = b"\x12"
"""RangeResponse.kvs and PutResponse.prev_kv: field 2, a message."""
_MORE: Final = b"\x18\x01"
_ONE: Final = fragments.COUNT + b"\x01"
_OVERHEAD: Final = 200
"""Bytes that a kept piece costs beside itself."""
_SORTS: Final = {
    kv.SortTarget.KEY: attrgetter("key"),
    kv.SortTarget.VERSION: attrgetter("version"),
    kv.SortTarget.CREATE: attrgetter("create_revision"),
    kv.SortTarget.MOD: attrgetter("mod_revision"),
    kv.SortTarget.VALUE: attrgetter("value"),
}


def chosen(request: kv.RangeRequest, kvs: Sequence[KeyValue]) -> Sequence[KeyValue]:
    """Filtered and sorted, of a range that was read whole; not yet cut to its limit."""
    if not sifted(request):
        return kvs
    found = [kv for kv in kvs if _within(request, kv)]
    if request.sort_target != kv.SortTarget.KEY or request.sort_order == kv.SortOrder.DESCEND:
        # A target without an order sorts ascending.
        descending = request.sort_order == kv.SortOrder.DESCEND
        found.sort(key=_SORTS[kv.SortTarget(request.sort_target)], reverse=descending)
    return found


def _within(request: kv.RangeRequest, found: KeyValue) -> bool:
    return (
        (request.min_mod_revision == 0 or found.mod_revision >= request.min_mod_revision)
        and (request.max_mod_revision == 0 or found.mod_revision <= request.max_mod_revision)
        and (request.min_create_revision == 0 or found.create_revision >= request.min_create_revision)
        and (request.max_create_revision == 0 or found.create_revision <= request.max_create_revision)
    )


class Pieces:
    """Keys as field 2 of a RangeResponse, by key. Begins anew when it is full."""

    __slots__ = ("_kept", "size")

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[KeyValue, bytes]] = {}
        self.size = 0
        """Bytes that are kept, about."""

    def piece(self, found: KeyValue) -> bytes:
        """The key with its value."""
        kept = self._kept.get(found.key)
        if kept is not None and kept[0] is found:
            return kept[1]
        return self._make(found)

    def _make(self, found: KeyValue) -> bytes:
        made = fragments.field(KVS, fragments.key_value(found))
        if self.size > PIECES_SIZE_MAX:
            self._kept.clear()
            self.size = 0
        if len(made) <= PIECE_SIZE_MAX:
            before = self._kept.get(found.key)
            self.size += len(made) - len(before[1]) if before is not None else len(made) + _OVERHEAD
            self._kept[found.key] = (found, made)
        return made

    def pieces(self, kvs: Iterable[KeyValue]) -> list[bytes]:
        """Many of them."""
        kept, make = self._kept.get, self._make
        found: list[bytes] = []
        for one in kvs:
            known = kept(one.key)
            found.append(known[1] if known is not None and known[0] is one else make(one))
        return found

    def one(self, found: KeyValue) -> bytes:
        """A RangeResponse of one key, without its header."""
        return self.piece(found) + _ONE

    def body(self, request: kv.RangeRequest, kvs: Sequence[KeyValue], count: int) -> bytes:
        """A RangeResponse without its header. ``kvs`` is cut to the request's limit already, unless it is ``sifted``."""
        if request.count_only:
            return fragments.COUNT + varint(count) if count else b""
        more = False
        if sifted(request):
            kvs = chosen(request, kvs)
            if 0 < request.limit < len(kvs):
                kvs, more = kvs[: request.limit], True
        else:
            more = len(kvs) < count
        if request.keys_only:
            parts = [fragments.field(KVS, fragments.key_value(one, value=False)) for one in kvs]
        else:
            parts = self.pieces(kvs)
        if more:
            parts.append(_MORE)
        if count:
            parts.append(fragments.COUNT + varint(count))
        return b"".join(parts)
