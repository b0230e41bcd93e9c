"""Protobuf bytes to messages.

A message type compiles at its first use to a table from tags to functions that read one field each. ``decode`` raises
``Malformed`` and nothing else. It takes whatever a proto3 parser must: fields in any order, the last one of several
(merged, when they are messages), packed and unpacked lists, unknown fields of any wire type, which are dropped. A known
field of another wire type is refused, as Go's generated code does; so is a string that is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import astuple

from townhall.model import limits
from townhall.model.errors import Malformed
from townhall.wire.protobuf import LENGTH, LENGTH_KINDS, VARINT, Field, Kind, Message, fields, too_deep

__all__ = ["decode"]

M = TypeVar("M", bound=Message)

_END_GROUP: Final = 4
_BITS64: Final = (1 << 64) - 1
_SIGN64: Final = 1 << 63
_BITS32: Final = (1 << 32) - 1
_SIGN32: Final = 1 << 31
_NUMBER_MAX: Final = (1 << 29) - 1
_SHIFTS: Final = range(7, 70, 7)

_Read = Callable[[bytes, int, "list[Any]", int], int]
"""(data, position behind the tag, values by place, depth) → position behind the field."""


class _Table(NamedTuple):
    defaults: Sequence[Any]
    reads: dict[int, _Read]
    """By tag."""


_TABLES: dict[type[Message], _Table] = {}


def _compile(type_: type[Message]) -> _Table:
    declared = fields(type_)
    reads: dict[int, _Read] = {}
    for field in declared:
        siblings = [other.place for other in declared if field.member_of and other.member_of == field.member_of]
        for wire_type, read in _readers(field):
            reads[field.number << 3 | wire_type] = _alone(read, field, siblings) if siblings else read
        for wire_type in range(6):
            reads.setdefault(field.number << 3 | wire_type, _mismatch(field.name, wire_type))
    # Kept when it is whole: another thread may decode the same type meanwhile, and would drop what it does not find.
    made = _TABLES[type_] = _Table([field.default for field in declared], reads)
    return made


def decode(type_: type[M], data: bytes) -> M:
    """The message that ``data`` is. Raises Malformed."""
    compiled = _TABLES.get(type_) or _compile(type_)
    values = list(compiled.defaults)
    try:
        _fill(compiled.reads, data, values, 0)
    except IndexError:
        raise _cut() from None
    return type_(*values)


def _cut() -> Malformed:
    return Malformed("the message ends in the middle of a field")


def _fill(reads: dict[int, _Read], data: bytes, values: list[Any], depth: int) -> None:
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1)
        read = reads.get(tag)
        position = read(data, position, values, depth) if read is not None else _skip(data, position, tag, 0)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A varint and the position behind it. At most ten bytes; what exceeds 64 bits is cut off, as everybody does."""
    value = data[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    for shift in _SHIFTS:
        byte = data[position]
        position += 1
        if byte < 0x80:
            return (value | byte << shift) & _BITS64, position
        value |= (byte & 0x7F) << shift
    raise Malformed("a number has more than ten bytes")


def _span(data: bytes, position: int) -> tuple[int, int]:
    """Where a length-delimited field begins and ends."""
    size = data[position]
    position += 1
    if size >= 0x80:
        size, position = _varint(data, position - 1)
    stop = position + size
    if stop > len(data):
        raise _cut()
    return position, stop


def _skip(data: bytes, position: int, tag: int, depth: int) -> int:
    """The position behind an unknown field."""
    if not 1 <= tag >> 3 <= _NUMBER_MAX:
        raise Malformed(f"{tag >> 3} is no field number")
    match tag & 7:
        case 0:
            return _varint(data, position)[1]
        case 1:
            stop = position + 8
        case 2:
            stop = _span(data, position)[1]
        case 3:
            stop = _skip_group(data, position, tag >> 3, depth + 1)
        case 5:
            stop = position + 4
        case _:
            raise Malformed(f"{tag & 7} is no wire type here")
    if stop > len(data):
        raise _cut()
    return stop


def _skip_group(data: bytes, position: int, number: int, depth: int) -> int:
    if depth > limits.PROTOBUF_DEPTH_MAX:
        raise too_deep()
    while True:
        tag, position = _varint(data, position)
        if tag == (number << 3 | _END_GROUP):
            return position
        position = _skip(data, position, tag, depth)


def _mismatch(name: str, wire_type: int) -> _Read:
    # The words of Go's generated code, with the field's name as it is there.
    shown = "".join(part[:1].upper() + part[1:] for part in name.split("_"))

    def read(data: bytes, position: int, values: list[Any], depth: int) -> int:
        raise Malformed(f"wrong wireType = {wire_type} for field {shown}", field=name)

    return read


def _alone(read: _Read, field: Field, siblings: Sequence[int]) -> _Read:
    """A member of a oneof takes the place of the others."""
    others = [place for place in siblings if place != field.place]

    def read_alone(data: bytes, position: int, values: list[Any], depth: int) -> int:
        for place in others:
            values[place] = None
        return read(data, position, values, depth)

    return read_alone


def _readers(field: Field) -> list[tuple[int, _Read]]:
    """The wire types the field may come in, and how each is read."""
    if field.kind is Kind.MESSAGE:
        return [(LENGTH, _read_messages(field) if field.repeated else _read_message(field))]
    if field.kind in LENGTH_KINDS:
        return [(LENGTH, _read_texts(field) if field.repeated else _read_text(field))]
    if field.repeated:
        return [(VARINT, _read_numbers(field)), (LENGTH, _read_packed(field))]
    return [(VARINT, _read_number(field))]


def _read_message(field: Field) -> _Read:
    place, type_ = field.place, field.type

    def read(data: bytes, position: int, values: list[Any], depth: int) -> int:
        if depth >= limits.PROTOBUF_DEPTH_MAX:
            raise too_deep()
        position, stop = _span(data, position)
        compiled = _TABLES.get(type_) or _compile(type_)
        earlier = values[place]
        # A message that comes in parts is the parts merged.
        found = list(compiled.defaults if earlier is None else astuple(earlier))
        _fill(compiled.reads, data[position:stop], found, depth + 1)
        values[place] = type_(*found)
        return stop

    return read


def _read_messages(field: Field) -> _Read:
    place, type_, name = field.place, field.type, field.name

    def read(data: bytes, position: int, values: list[Any], depth: int) -> int:
        if depth >= limits.PROTOBUF_DEPTH_MAX:
            raise too_deep()
        position, stop = _span(data, position)
        compiled = _TABLES.get(type_) or _compile(type_)
        found = list(compiled.defaults)
        _fill(compiled.reads, data[position:stop], found, depth + 1)
        items = values[place]
        if items:
            if len(items) >= limits.PROTOBUF_MESSAGES_MAX:
                raise Malformed(f"more than {limits.PROTOBUF_MESSAGES_MAX} messages in field {name}", field=name)
            items.append(type_(*found))
        else:
            values[place] = [type_(*found)]
        return stop

    return read


def _append(values: list[Any], place: int, value: Any) -> None:
    items = values[place]
    if items:
        items.append(value)
    else:
        values[place] = [value]


def _read_text(field: Field) -> _Read:
    place, name, textual = field.place, field.name, field.kind is Kind.STRING

    def read(data: bytes, position: int, values: list[Any], depth: int) -> int:
        size = data[position]
        position += 1
        if size >= 0x80:
            size, position = _varint(data, position - 1)
        stop = position + size
        if stop > len(data):
            raise _cut()
        found = data[position:stop]
        values[place] = _text(found, name) if textual else found
        return stop

    return read


def _read_texts(field: Field) -> _Read:
    place, name, textual = field.place, field.name, field.kind is Kind.STRING

    def read(data: bytes, position: int, values: list[Any], depth: int) -> int:
        position, stop = _span(data, position)
        found = data[position:stop]
        _append(values, place, _text(found, name) if textual else found)
        return stop

    return read


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"the string in field {name} is not UTF-8", field=name) from error


def _read_number(field: Field) -> _Read:
    place, convert, small = field.place, _CONVERSIONS[field.kind], field.kind is not Kind.BOOL

    def read(data: bytes, position: int, values: list[Any], depth: int) -> int:
        value = data[position]
        if value < 0x80 and small:
            values[place] = value
            return position + 1
        value, position = _varint(data, position)
        values[place] = convert(value)
        return position

    return read


def _read_numbers(field: Field) -> _Read:
    place, convert = field.place, _CONVERSIONS[field.kind]

    def read(data: bytes, position: int, values: list[Any], depth: int) -> int:
        value, position = _varint(data, position)
        _append(values, place, convert(value))
        return position

    return read


def _read_packed(field: Field) -> _Read:
    place, convert = field.place, _CONVERSIONS[field.kind]

    def read(data: bytes, position: int, values: list[Any], depth: int) -> int:
        position, stop = _span(data, position)
        packed, at = data[position:stop], 0
        while at < len(packed):
            value, at = _varint(packed, at)
            _append(values, place, convert(value))
        return stop

    return read


def _signed64(value: int) -> int:
    return value - (1 << 64) if value & _SIGN64 else value


def _signed32(value: int) -> int:
    value &= _BITS32
    return value - (1 << 32) if value & _SIGN32 else value


_CONVERSIONS: dict[Kind, Callable[[int], int]] = {
    Kind.BOOL: bool,
    Kind.INT64: _signed64,
    Kind.UINT64: int,
    Kind.INT32: _signed32,
    Kind.UINT32: lambda value: value & _BITS32,
    Kind.ENUM: _signed32,
}
