"""Messages to protobuf bytes: fields in the order of their declaration, defaults left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from msgspec.structs import astuple

from townhall.wire.protobuf import LENGTH, LENGTH_KINDS, VARINT, Field, Kind, Message, fields

__all__ = ["encode", "varint"]

_BITS64: Final = (1 << 64) - 1
_ONE_BYTE = [bytes((value,)) for value in range(0x80)]
_TWO_BYTES = [bytes((value & 0x7F | 0x80, value >> 7)) for value in range(0x4000)]

_Write = Callable[[Any, "list[bytes]"], None]


class _Table(NamedTuple):
    writes: Sequence[_Write]
    """By place."""
    explicit: frozenset[int]
    """Places of the fields that are written unless they are None."""


_TABLES: dict[type[Message], _Table] = {}


def _compile(type_: type[Message]) -> _Table:
    declared = fields(type_)
    explicit = frozenset(field.place for field in declared if field.explicit)
    made = _TABLES[type_] = _Table([_writer(field) for field in declared], explicit)
    return made


def varint(value: int) -> bytes:
    """A number of at most 64 bits; a negative one as its two's complement in ten bytes."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if 0 <= value < 0x4000:
        return _TWO_BYTES[value]
    if 0 <= value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    value &= _BITS64
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    parts: list[bytes] = []
    _write(message, parts)
    return b"".join(parts)


def _write(message: Message, parts: list[bytes]) -> None:
    type_ = type(message)
    compiled = _TABLES.get(type_) or _compile(type_)
    for place, (value, write) in enumerate(zip(astuple(message), compiled.writes, strict=True)):
        if value or (value is not None and place in compiled.explicit):
            write(value, parts)


def _writer(field: Field) -> _Write:
    wire_type = LENGTH if field.repeated or field.kind in LENGTH_KINDS else VARINT
    tag = varint(field.number << 3 | wire_type)
    one = _writer_of_one(field.kind, tag)
    if not field.repeated:
        return one
    if field.kind in LENGTH_KINDS:
        return lambda values, parts: _write_each(one, values, parts)
    return lambda values, parts: _write_packed(tag, values, parts)


def _writer_of_one(kind: Kind, tag: bytes) -> _Write:
    def write_message(value: Message, parts: list[bytes]) -> None:
        body = encode(value)
        parts += (tag, varint(len(body)), body)

    def write_bytes(value: bytes, parts: list[bytes]) -> None:
        parts += (tag, varint(len(value)), value)

    def write_string(value: str, parts: list[bytes]) -> None:
        write_bytes(value.encode(), parts)

    def write_number(value: int, parts: list[bytes]) -> None:
        parts += (tag, varint(value))

    writers: dict[Kind, _Write] = {Kind.MESSAGE: write_message, Kind.BYTES: write_bytes, Kind.STRING: write_string}
    return writers.get(kind, write_number)


def _write_each(one: _Write, values: Sequence[Any], parts: list[bytes]) -> None:
    for value in values:
        one(value, parts)


def _write_packed(tag: bytes, values: Sequence[int], parts: list[bytes]) -> None:
    body = b"".join([varint(value) for value in values])
    parts += (tag, varint(len(body)), body)
