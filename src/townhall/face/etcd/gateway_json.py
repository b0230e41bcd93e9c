"""From JSON to a method's message, and from its answer to JSON, with what comes again remembered.

Clients ask the same again and again, and of a range most keys are what they were. So a body's message is remembered by
its bytes, an answer's JSON by the answer's bytes, and of a range each pair's JSON by the pair's: the bytes say all there
is to say, so nothing remembered can be stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

import msgspec

from townhall.face.etcd.gateway_quick import Headers, quick
from townhall.face.grpc import Code
from townhall.model.limits import (
    GATEWAY_LARGE_COUNT_MAX,
    GATEWAY_LARGE_SIZE_MAX,
    GATEWAY_MEMO_COUNT_MAX,
    GATEWAY_MEMO_SIZE_MAX,
)
from townhall.wire import protobuf_json
from townhall.wire.etcd.kv import KeyValue, RangeResponse
from townhall.wire.protobuf import Message
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

__all__ = ["STATUSES", "Memo", "Rendering", "error_body", "message_of"]

STATUSES: Final[Mapping[Code, int]] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""As grpc-gateway has them (runtime.HTTPStatusFromCode)."""
_HEADER, _KV, _MORE, _COUNT = 0x0A, 0x12, 0x18, 0x20
_encode = msgspec.json.Encoder().encode
K = TypeVar("K")


class Memo(Generic[K]):
    """Remembers bytes by a key, in two generations: what is asked for stays, the rest is forgotten."""

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[K, bytes] = {}
        self._old: dict[K, bytes] = {}

    def get(self, key: K) -> bytes | None:
        """What is remembered."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: bytes) -> bytes:
        """Remember it; returns it."""
        if len(self._young) >= GATEWAY_MEMO_COUNT_MAX:
            self._old, self._young = self._young, {}
        self._young[key] = value
        return value


def error_body(code: int, text: str) -> bytes:
    """An error for clients of all ages: ``error`` for the old ones, ``code`` and ``message`` for all others."""
    return _encode({"error": text, "code": code, "message": text})


def message_of(type_: type[Message], body: bytes) -> bytes:
    """The protobuf message that a JSON body is. Raises Malformed."""
    return encode(protobuf_json.decode(type_, body))


class Rendering:
    """Both directions, with their memories; one for a gateway."""

    def __init__(self) -> None:
        self._requests: Memo[tuple[type[Message], bytes]] = Memo()
        self._answers: Memo[tuple[type[Message], bytes]] = Memo()
        self._pairs: Memo[bytes] = Memo()
        self._headers = Headers()
        self._large: dict[bytes, bytes] = {}
        """Large ranges without their headers, in the order of their coming."""

    def request(self, type_: type[Message], body: bytes) -> bytes:
        """The message of a body. Raises Malformed."""
        made = quick(type_, body)
        if made is not None:
            return made
        if len(body) > GATEWAY_MEMO_SIZE_MAX:
            return message_of(type_, body)
        key = (type_, body)
        found = self._requests.get(key)
        return self._requests.put(key, message_of(type_, body)) if found is None else found

    def answer(self, type_: type[Message], data: bytes) -> bytes:
        """The JSON of an answer."""
        if data[:1] == b"\x0a" and len(data) == data[1] + 2 and type_.__struct_fields__[:1] == ("header",):
            # A header alone, of a write: its revision does not come again.
            head = self._headers.json(data[2:])
            return self._render(type_, data) if head is None else b'{"header":%b}' % head
        if len(data) > GATEWAY_MEMO_SIZE_MAX:
            return self._render(type_, data)
        key = (type_, data)
        found = self._answers.get(key)
        return self._answers.put(key, self._render(type_, data)) if found is None else found

    def _render(self, type_: type[Message], data: bytes) -> bytes:
        # What comes behind the header is often what it was, while the header tells the revision of now.
        at = _behind_header(data) if type_.__struct_fields__[:1] == ("header",) else 0
        head = self._headers.json(_field(data[:at])) if at else b""
        if head is None:
            return protobuf_json.encode(decode(type_, data))
        head = b'{"header":' + head if at else b"{"
        if at == len(data):
            return head + b"}"
        rest = self._behind(data[at:]) if type_ is RangeResponse else protobuf_json.encode(decode(type_, data[at:]))
        if len(rest) == 2:
            return head + b"}"
        return head + (b"," if at else b"") + rest[1:]

    def _behind(self, data: bytes) -> bytes:
        if not GATEWAY_MEMO_SIZE_MAX < len(data) <= GATEWAY_LARGE_SIZE_MAX:
            return self._range(data)
        found = self._large.get(data)
        if found is None:
            found = self._range(data)
            while len(self._large) >= GATEWAY_LARGE_COUNT_MAX:
                del self._large[next(iter(self._large))]
            self._large[data] = found
        return found

    def _range(self, data: bytes) -> bytes:
        """A RangeResponse of ours behind its header, taken apart field by field: pairs are joined, not decoded."""
        parts: list[bytes] = []
        pairs: list[bytes] = []
        tail = b""
        at, size = 0, len(data)
        while at < size:
            tag = data[at]
            number, at = _varint(data, at + 1)
            if tag == _KV:
                pairs.append(self._piece(self._pairs, KeyValue, data[at : at + number]))
                at += number
            elif tag == _COUNT:
                tail += b'"count":"%d"' % (number - (1 << 64) if number >> 63 else number)
            else:
                assert tag == _MORE
                tail = b'"more":true,'
        if pairs:
            parts.append(b'"kvs":[' + b",".join(pairs) + b"]")
        if tail:
            parts.append(tail.rstrip(b","))
        return b"{" + b",".join(parts) + b"}"

    def _piece(self, memo: Memo[bytes], type_: type[Message], data: bytes) -> bytes:
        found = memo.get(data)
        if found is not None:
            return found
        made = protobuf_json.encode(decode(type_, data))
        return memo.put(data, made) if len(data) <= GATEWAY_MEMO_SIZE_MAX else made


def _behind_header(data: bytes) -> int:
    """Where the fields behind the header begin; ours comes first."""
    if not data or data[0] != _HEADER:
        return 0
    size, at = _varint(data, 1)
    return at + size


def _field(data: bytes) -> bytes:
    """What a field of bytes holds."""
    return data[_varint(data, 1)[1] :]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
