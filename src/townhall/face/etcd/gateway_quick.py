"""What the gateway is asked most, read without detours: Range and Put in the form that clients usually write.

Whatever is not exactly that form (names in camel case, the other base64 alphabet, ``null``, numbers of another kind,
any further field) is left to ``protobuf_json``, so this decides nothing but speed: 3 µs instead of 25.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from townhall.wire.etcd.kv import PutRequest, RangeRequest
from townhall.wire.protobuf import Message
from townhall.wire.protobuf_encode import varint

__all__ = ["Headers", "header_json", "quick"]

_NAMES: Final = (
    (0x08, b'"cluster_id":"'),
    (0x10, b'"member_id":"'),
    (0x18, b'"revision":"'),
    (0x20, b'"raft_term":"'),
)
_REVISION: Final = 0x18
_REVISION_MAX: Final = (1 << 63) - 1
"""It has a sign, which the other numbers of a header have not. Ours is never below zero."""


class _Put(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    key: bytes = b""
    value: bytes = b""
    lease: str | int = 0
    prev_kv: bool = False


class _Range(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    key: bytes = b""
    range_end: bytes = b""
    limit: str | int = 0
    serializable: bool = False
    keys_only: bool = False


def quick(type_: type[Message], body: bytes) -> bytes | None:
    """The message of a body in the usual form; None for any other."""
    found = _QUICK.get(type_)
    return None if found is None else found(body)


def _put(body: bytes) -> bytes | None:
    try:
        put = _read_put(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    lease = _number(put.lease)
    if lease is None:
        return None
    message = _bytes(b"\x0a", put.key) + _bytes(b"\x12", put.value)
    if lease:
        message += b"\x18" + varint(lease)
    return message + b"\x20\x01" if put.prev_kv else message


def _range(body: bytes) -> bytes | None:
    try:
        asked = _read_range(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    limit = _number(asked.limit)
    if limit is None:
        return None
    message = _bytes(b"\x0a", asked.key) + _bytes(b"\x12", asked.range_end)
    if limit:
        message += b"\x18" + varint(limit)
    if asked.serializable:
        message += b"\x38\x01"
    return message + b"\x40\x01" if asked.keys_only else message


def _bytes(tag: bytes, value: bytes) -> bytes:
    return b"%b%b%b" % (tag, varint(len(value)), value) if value else b""


def _number(value: str | int) -> int | None:
    """A positive number of at most 18 digits; anything else is looked at elsewhere."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() and len(value) <= 18 else None
    return value if 0 <= value < 10**18 else None


def header_json(data: bytes) -> bytes | None:
    """A ResponseHeader of ours, its fields in order; None when it is not."""
    parts: list[bytes] = []
    at, size = 0, len(data)
    for tag, name in _NAMES:
        if at < size and data[at] == tag:
            number, at = _varint(data, at + 1)
            if tag == _REVISION and number > _REVISION_MAX:
                number -= 1 << 64
            parts.append(b'%b%d"' % (name, number))
    return b"{" + b",".join(parts) + b"}" if at == size else None


class Headers:
    """Headers as JSON. Between two of one server only the revision differs, so what is around it is kept."""

    __slots__ = ("_after", "_before", "_form")

    def __init__(self) -> None:
        self._before = self._after = self._form = b""

    def json(self, data: bytes) -> bytes | None:
        """What ``header_json`` gives."""
        at = len(self._before)
        if at and data.startswith(self._before):
            revision, at = _varint(data, at)
            if data[at:] == self._after and revision <= _REVISION_MAX:
                return self._form % revision
        made = header_json(data)
        if made is not None:
            self._keep(data, made)
        return made

    def _keep(self, data: bytes, made: bytes) -> None:
        at = 0
        while at < len(data) and data[at] in (0x08, 0x10):
            at = _varint(data, at + 1)[1]
        if at < len(data) and data[at] == _REVISION:
            revision, end = _varint(data, at + 1)
            if revision > _REVISION_MAX:
                return
            self._before, self._after = data[: at + 1], data[end:]
            self._form = made.replace(b'"revision":"%d"' % revision, b'"revision":"%d"')


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] >= 0x80:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return number | data[at] << shift, at + 1


_read_put: Final = msgspec.json.Decoder(_Put).decode
_read_range: Final = msgspec.json.Decoder(_Range).decode
_QUICK: Final[Mapping[Any, Callable[[bytes], bytes | None]]] = {PutRequest: _put, RangeRequest: _range}
