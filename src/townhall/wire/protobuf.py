"""Protocol Buffers (proto3): each message is a Struct, declared once with its field numbers.

::

    class PutRequest(Message, frozen=True):
        key: Annotated[bytes, 1] = b""
        lease: Annotated[int, 3] = 0                           # int64
        revision: Annotated[int, 4, UINT64] = 0
        order: Annotated[int, 5, SortOrder] = 0                # open: a number without a name stays a number
        kvs: Annotated[Sequence[KeyValue], 6] = ()
        version: Annotated[int | None, 7, OneOf("target")] = None

``protobuf_decode`` and ``protobuf_encode`` make their tables from the declarations, and ``protobuf_json`` the JSON form.
Why it is not generated code over a library: docs/decisions/0005.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from townhall.model import limits
from townhall.model.errors import Malformed

__all__ = ["INT32", "LENGTH", "LENGTH_KINDS", "UINT32", "UINT64", "VARINT", "Field", "Kind", "Message", "OneOf", "fields", "too_deep"]  # fmt: skip


class Message(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """A message. Fields that are not there have the default of their type; ``None`` where presence is told apart."""


class Kind(enum.Enum):
    """How a field's value is written."""

    BYTES = "bytes"
    STRING = "string"
    BOOL = "bool"
    INT64 = "int64"
    UINT64 = "uint64"
    INT32 = "int32"
    UINT32 = "uint32"
    ENUM = "enum"
    MESSAGE = "message"


INT32: Final = Kind.INT32
UINT32: Final = Kind.UINT32
UINT64: Final = Kind.UINT64


class OneOf(NamedTuple):
    """Marks the members of a oneof by its name: the one that comes last is there, the others are None."""

    name: str


class Field(NamedTuple):
    """One field, as declared."""

    place: int
    """Its place among the Struct's fields."""
    name: str
    """In the .proto file, and so in JSON."""
    number: int
    kind: Kind
    repeated: bool
    explicit: bool
    """A scalar whose presence is told apart: it is written although it has its type's default."""
    member_of: str
    """The oneof it belongs to, or ''."""
    default: Any
    type: Any
    """The Struct of a MESSAGE, the IntEnum of an ENUM."""


VARINT: Final = 0
LENGTH: Final = 2
LENGTH_KINDS: Final = {Kind.BYTES, Kind.STRING, Kind.MESSAGE}
"""Kinds whose bytes have their length before them (wire type LENGTH); the others are numbers (wire type VARINT)."""
_SCALARS = {bytes: Kind.BYTES, str: Kind.STRING, bool: Kind.BOOL, int: Kind.INT64}
_FIELDS: dict[type[Message], Sequence[Field]] = {}


def fields(type_: type[Message]) -> Sequence[Field]:
    """The fields of a message type, in the order of declaration."""
    known = _FIELDS.get(type_)
    if known is None:
        hints = get_type_hints(type_, include_extras=True)
        declared = enumerate(msgspec.structs.fields(type_))
        known = _FIELDS[type_] = [_field(place, item, hints[item.name]) for place, item in declared]
        numbers = {field.number for field in known}
        assert len(numbers) == len(known), f"{type_.__name__} uses a field number twice"
    return known


def _field(place: int, declared: msgspec.structs.FieldInfo, hint: Any) -> Field:
    assert get_origin(hint) is Annotated, f"{declared.name} has no field number"
    inner, number, *marks = get_args(hint)
    repeated = get_origin(inner) is not None and issubclass(get_origin(inner), Sequence)
    optional = get_origin(inner) in (types.UnionType,)
    bare = get_args(inner)[0] if repeated or optional else inner
    kind = _SCALARS.get(bare, Kind.MESSAGE)
    meaning: Any = bare if kind is Kind.MESSAGE else None
    member_of = ""
    for mark in marks:
        if isinstance(mark, OneOf):
            member_of = mark.name
        elif isinstance(mark, Kind):
            kind = mark
        else:
            assert issubclass(mark, enum.IntEnum), f"{mark!r} marks {declared.name}"
            kind, meaning = Kind.ENUM, mark
    explicit = optional and kind is not Kind.MESSAGE
    return Field(place, declared.encode_name, number, kind, repeated, explicit, member_of, declared.default, meaning)


def too_deep() -> Malformed:
    """The error about a message that nests deeper than ``PROTOBUF_DEPTH_MAX``."""
    limit = limits.PROTOBUF_DEPTH_MAX
    return Malformed(f"the message nests deeper than {limit} levels", limit=limit)
