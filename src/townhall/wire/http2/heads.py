"""From header blocks to heads (RFC 9113 §8, RFC 7541).

A connection starts with the ``hpack`` library's decoder, because until a peer has acknowledged our SETTINGS it may use
the dynamic table that every connection begins with. We ask for a table of size 0, so from its acknowledgement on (once
the table is empty) a block means the same whenever and wherever it comes: it is looked up by its bytes in a ``Memory``
that all connections of a server share.

One field changes with every request of some clients (gRPC's ``grpc-timeout``). Heads are read and remembered without
it; its value is handed on beside the head.
"""

from __future__ import annotations

import re
from typing import Final

import hpack

from townhall.model.limits import HTTP2_HEAD_MEMO_COUNT_MAX, HTTP2_HEAD_MEMO_SIZE_MAX
from townhall.wire.http2 import ErrorCode, Fault, Http2Limits

__all__ = ["Head", "HeadReader", "Memory", "head_of_fields"]

Field = tuple[bytes, bytes]

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""RFC 9113 §8.2.2: they belong to HTTP/1.1 and make a request malformed."""
_ENTRY_OVERHEAD: Final = 32
"""What a field counts beside its bytes (RFC 7541 §4.1)."""


class Head:
    """One request's head, read and checked."""

    __slots__ = ("fault", "fields", "length", "method", "path", "plan", "size")

    def __init__(self) -> None:
        self.method = b""
        self.path = b""
        self.fields: list[Field] = []
        """All but the pseudo fields, in order."""
        self.length = -1
        """Of ``content-length``; -1 when there is none."""
        self.size = 0
        """As RFC 9113 §6.5.2 counts it."""
        self.fault = ""
        """Why it is malformed (RFC 9113 §8.1.1); the stream ends with PROTOCOL_ERROR."""
        self.plan: object = None
        """For the sink: what it made of this head, remembered with it."""


def head_of_fields(fields: list[Field]) -> Head:
    """Check and sort the fields of a request."""
    head = Head()
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        head.size += len(name) + len(value) + _ENTRY_OVERHEAD
        if name[:1] == b":":
            if name not in _PSEUDO or name in pseudo or head.fields:
                head.fault = "a pseudo field that is unknown, doubled or late"
            pseudo[name] = value
        elif name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
            head.fault = "a field of HTTP/1.1 connections"
        else:
            head.fields.append((name, value))
            if name == b"content-length":
                head.fault = _set_length(head, value) or head.fault
            elif not _NAME.match(name):
                head.fault = "a field name that is none"
        if _BAD_VALUE.search(value):
            head.fault = "a field value that is none"
    head.method, head.path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not (head.method and head.path and pseudo.get(b":scheme")) and head.method != b"CONNECT":
        head.fault = head.fault or "a request without method, scheme or path"
    return head


def _set_length(head: Head, value: bytes) -> str:
    if not value.isdigit() or len(value) > 18 or head.length not in (-1, int(value)):
        return "a content-length that is no number, or two"
    head.length = int(value)
    return ""


class Memory:
    """Heads by their bytes, for all connections of a server; ``varying`` names the field that is kept apart.

    The memory has two generations: when the young one is full it becomes the old one, and what is asked for moves back.
    """

    __slots__ = ("_limits", "_old", "varying", "young")

    def __init__(self, limits: Http2Limits, *, varying: bytes) -> None:
        self._limits = limits
        self.varying = varying
        self.young: dict[bytes, tuple[Head, bytes]] = {}
        self._old: dict[bytes, tuple[Head, bytes]] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def read(self, decoder: hpack.Decoder, block: bytes) -> tuple[Head, bytes]:
        """Decode a block. Raises ``Fault``: after it the connection's tables are of no more use."""
        try:
            fields = [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError as error:
            raise Fault(ErrorCode.ENHANCE_YOUR_CALM, "a header list far over the limit") from error
        except (hpack.HPACKError, IndexError) as error:
            raise Fault(ErrorCode.COMPRESSION_ERROR, "a header block that cannot be decoded") from error
        varying = b""
        for at, (name, value) in enumerate(fields):
            if name == self.varying and not _BAD_VALUE.search(value):
                varying = value
                del fields[at]
                break
        return head_of_fields(fields), varying

    def find(self, block: bytes) -> tuple[Head, bytes] | None:
        """What ``read`` made of these bytes before, without any table."""
        found = self.young.get(block)
        if found is None:
            found = self._old.get(block)
            if found is not None:
                self.keep(block, found)
        return found

    def keep(self, block: bytes, made: tuple[Head, bytes]) -> None:
        """Remember a block that depends on no table."""
        if len(block) > HTTP2_HEAD_MEMO_SIZE_MAX or made[0].fault:
            return
        if len(self.young) >= HTTP2_HEAD_MEMO_COUNT_MAX:
            self._old, self.young = self.young, {}
        self.young[block] = made


class HeadReader:
    """One connection's header blocks. ``Fault`` is all that its methods raise."""

    __slots__ = ("_decoder", "_memory", "stateless")

    def __init__(self, memory: Memory, limits: Http2Limits) -> None:
        self._memory = memory
        # Up to four times the limit is decoded, so that the peer can be told which request was too large.
        self._decoder = hpack.Decoder(max_header_list_size=limits.header_size_max * 4)
        self.stateless = False
        """No table is in use, nor ever will be: blocks are known by their bytes."""

    def acknowledged(self) -> None:
        """The peer has read our SETTINGS: its next block must begin with the table's new size, 0 (RFC 7541 §4.2)."""
        self._decoder.max_allowed_table_size = 0

    def read(self, block: bytes) -> tuple[Head, bytes]:
        """The head, and the value of the varying field (b"" without one)."""
        if not self.stateless:
            made = self._memory.read(self._decoder, block)
            decoder = self._decoder
            self.stateless = decoder.max_allowed_table_size == 0 and decoder.header_table_size == 0
            return made
        found = self._memory.find(block)
        if found is None:
            found = self._memory.read(self._decoder, block)
            self._memory.keep(block, found)
        return found
