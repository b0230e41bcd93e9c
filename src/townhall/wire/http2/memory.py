"""From header blocks to heads, and the memory that makes it fast (RFC 7541).

A connection starts with the ``hpack`` library's decoder, because until a peer has acknowledged our SETTINGS it may use
the dynamic table that every connection begins with. We ask for a table of size 0. A block that neither reads nor changes
a table (``blocks.cut``) means the same whenever and wherever it comes; so what it means is remembered by its bytes, for
all connections of a server, and so is each of its fields. From a peer whose table has size 0, every block is such a one.

One field changes with every request of some clients (gRPC's ``grpc-timeout``), so heads are read and remembered without
it and its value is handed on beside the head. Worked example: ``A T B`` with fields before, the timeout, and fields after.
The first time, the block is cut, and the head is kept under ``(A, B)``. The next one is searched for the name's bytes. If
what lies before and behind is a pair that is kept, then both are known to be whole fields, so that what was found is the
timeout and no part of another field's value.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman

from townhall.model.limits import HTTP2_FIELD_MEMO_COUNT_MAX, HTTP2_HEAD_MEMO_COUNT_MAX, HTTP2_HEAD_MEMO_SIZE_MAX
from townhall.wire.http2 import ErrorCode, Fault, Http2Limits
from townhall.wire.http2.blocks import cut
from townhall.wire.http2.heads import Field, Head, head_of_fields

__all__ = ["HeadReader", "Memory", "Recent"]

_ENTRY_OVERHEAD: Final = 32
_SIZE_FACTOR: Final = 4
"""Up to so many times the limit is decoded, so that the peer can be told which request was too large."""
_LITERALS: Final = ((0x00, 0x10), (0x00, 0x10, 0x40))
"""First bytes of literals with a name of their own: the third kind enters the table, when there is one."""
_STEADY_COUNT_MAX: Final = 64
"""Blocks of one connection that are remembered beside its table: a client calls few methods."""
Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """A bounded dictionary in two generations: when the young one is full it becomes the old one, and what is asked for
    moves back.
    """

    __slots__ = ("_count_max", "_old", "young")

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self.young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def get(self, key: Key) -> Value | None:
        """What was put under it lately."""
        found = self.young.get(key)
        if found is None and self._old:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Key, value: Value) -> None:
        """Remember it for now."""
        if len(self.young) >= self._count_max:
            self._old, self.young = self.young, {}
        self.young[key] = value


class _Book:
    """Heads without the varying field by their blocks, and heads with it by what lies before and behind."""

    __slots__ = ("around", "whole")

    def __init__(self) -> None:
        self.whole: Recent[bytes, Head] = Recent(HTTP2_HEAD_MEMO_COUNT_MAX)
        self.around: Recent[tuple[bytes, bytes], Head] = Recent(HTTP2_HEAD_MEMO_COUNT_MAX)


class Memory:
    """What blocks and fields mean by their bytes; ``varying`` names the field that is kept apart."""

    __slots__ = ("_books", "_decoder", "_fields", "_names", "_size_max", "_varying")

    def __init__(self, limits: Http2Limits, *, varying: bytes) -> None:
        self._size_max = limits.header_size_max * _SIZE_FACTOR
        self._varying = varying
        code = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(varying)
        self._names = (bytes((len(code) | 0x80,)) + code, bytes((len(varying),)) + varying)
        """The name's string literal, in Huffman code and plain."""
        self._decoder = hpack.Decoder()
        """Decodes single fields; its table is never looked at."""
        self._books = (_Book(), _Book())
        """For connections whose table may be in use, and for those without table: what looks as if it entered the table
        means nothing more there.
        """
        self._fields: Recent[bytes, Field] = Recent(HTTP2_FIELD_MEMO_COUNT_MAX)

    def __len__(self) -> int:
        return len(self._fields) + sum(len(book.whole) + len(book.around) for book in self._books)

    def whole(self, *, tableless: bool) -> Recent[bytes, Head]:
        """The heads that are known by their blocks."""
        return self._books[tableless].whole

    def find(self, block: bytes, *, tableless: bool) -> tuple[Head, bytes] | None:
        """What is remembered of a block."""
        book = self._books[tableless]
        head = book.whole.get(block)
        if head is not None:
            return head, b""
        for name in self._names:
            at = block.find(name) - 1
            if at >= 0:
                start = at + 1 + len(name)
                if start >= len(block):
                    return None
                length = block[start] & 0x7F
                end = start + 1 + length
                head = book.around.get((block[:at], block[end:]))
                if head is None or length == 0x7F or end > len(block) or block[at] not in _LITERALS[tableless]:
                    return None
                return head, _text_of(block[start:end])
        return None

    def read(self, block: bytes, *, tableless: bool) -> tuple[Head, bytes] | None:
        """Read a block and remember it; None for one that only a connection's own decoder can read."""
        parts = cut(block, tableless=tableless)
        if parts is None:
            return None
        fields: list[Field] = []
        varying: bytes | None = None
        before = after = size = 0
        at = len(block) - sum(map(len, parts))
        for part in parts:
            field = self._field(part)
            size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
            if size > self._size_max:
                raise _oversized()
            if varying is None and field[0] == self._varying:
                varying, before, after = field[1], at, at + len(part)
            else:
                fields.append(field)
            at += len(part)
        head = head_of_fields(fields)
        if len(block) <= HTTP2_HEAD_MEMO_SIZE_MAX and not head.fault:
            book = self._books[tableless]
            if varying is None:
                book.whole.put(block, head)
            else:
                book.around.put((block[:before], block[after:]), head)
        return head, varying or b""

    def apart(self, fields: list[Field]) -> tuple[Head, bytes]:
        """The same for fields that a connection's decoder has read."""
        for at, (name, value) in enumerate(fields):
            if name == self._varying:
                del fields[at]
                return head_of_fields(fields), value
        return head_of_fields(fields), b""

    def _field(self, part: bytes) -> Field:
        field = self._fields.get(part)
        if field is None:
            ((name, value),) = _decoded(self._decoder, b"\x20" + part)
            field = (name, value)
            if name != self._varying and len(part) <= HTTP2_HEAD_MEMO_SIZE_MAX:
                self._fields.put(part, field)
        return field


class HeadReader:
    """One connection's header blocks. ``Fault`` is all that its methods raise."""

    __slots__ = ("_decoder", "_memory", "_steady", "_told", "tableless", "whole")

    def __init__(self, memory: Memory, limits: Http2Limits) -> None:
        self._memory = memory
        self._decoder = hpack.Decoder(max_header_list_size=limits.header_size_max * _SIZE_FACTOR)
        self._steady: dict[bytes, tuple[Head, bytes]] = {}
        """What blocks mean that read the table and leave it as it is, until one changes it. A client that keeps a table
        sends the same few bytes for each of its calls.
        """
        self._told = False
        """It has acknowledged our SETTINGS."""
        self.tableless = False
        """Its table has size 0 for good."""
        self.whole = memory.whole(tableless=False)
        """For the shortest path: heads by their blocks, without varying field."""

    def acknowledged(self) -> None:
        """The peer has read our SETTINGS: its next block must begin with the table's new size, 0 (RFC 7541 §4.2).

        Not every client keeps to that (h2spec does not). One that goes on with its table is read as it wants to be.
        """
        self._told = True
        self._settle()

    def read(self, block: bytes) -> tuple[Head, bytes]:
        """The head, and the value of the varying field (b"" without one)."""
        found = self._steady.get(block)
        if found is not None:
            return found
        memory, tableless = self._memory, self.tableless
        found = memory.find(block, tableless=tableless) or memory.read(block, tableless=tableless)
        if found is not None:
            return found
        if self._told:
            _check_size_updates(block)
        before = self._mark()
        found = memory.apart(_decoded(self._decoder, block))
        after = self._mark()
        if after[1:] != before[1:] or after[0] is not before[0] or len(self._steady) >= _STEADY_COUNT_MAX:
            self._steady.clear()
        elif len(block) <= HTTP2_HEAD_MEMO_SIZE_MAX and not found[0].fault:
            self._steady[block] = found
        self._settle()
        return found

    def _mark(self) -> tuple[object, int, int]:
        """The same for the same table: its newest entry (every one is an object of its own), their number, its size."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return entries[0] if entries else None, len(entries), table.maxsize

    def _settle(self) -> None:
        if self._told and self._decoder.header_table_size == 0:
            # It must not grow again.
            self._decoder.max_allowed_table_size = 0
            self.tableless = True
            # What was read while it had a table is looked up in the memory of all from now on, where ``whole`` finds it.
            self._steady.clear()
            self.whole = self._memory.whole(tableless=True)


def _decoded(decoder: hpack.Decoder, block: bytes) -> list[Field]:
    """Raises ``Fault``: after it the connection's tables are of no more use."""
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except hpack.OversizedHeaderListError as error:
        raise _oversized() from error
    except (hpack.HPACKError, IndexError) as error:
        raise _undecodable() from error


def _text_of(literal: bytes) -> bytes:
    """A string literal's text. Raises ``Fault``."""
    if not literal[0] & 0x80:
        return literal[1:]
    try:
        return bytes(decode_huffman(literal[1:]))
    except hpack.HPACKError as error:
        raise _undecodable() from error


def _check_size_updates(block: bytes) -> None:
    for byte in block:
        if byte & 0xE0 != 0x20:
            return
        if byte != 0x20:
            raise Fault(ErrorCode.COMPRESSION_ERROR, "a table larger than we allowed")


def _undecodable() -> Fault:
    return Fault(ErrorCode.COMPRESSION_ERROR, "a header block that cannot be decoded")


def _oversized() -> Fault:
    return Fault(ErrorCode.ENHANCE_YOUR_CALM, "a header list far over the limit")
