"""The JSON form of protobuf messages (protobuf.dev/programming-guides/json), made from the same declarations.

Out: names as in the .proto file, 64-bit numbers as strings, bytes in base64, enums by name, defaults left out. In: also
names in camel case, numbers as numbers or strings, enums by number, base64 of either alphabet with or without padding.
Unknown fields are dropped, an unknown enum name counts as the default, ``null`` as not being there. That is what
grpc-gateway, and so etcd's gateway, does.

``decode`` and ``from_shape`` raise ``Malformed`` and nothing else.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import astuple

from townhall.model import limits
from townhall.model.errors import Malformed
from townhall.wire.protobuf import Field, Kind, Message, fields, too_deep

__all__ = ["decode", "encode", "from_shape", "shape"]

M = TypeVar("M", bound=Message)

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder()
_URL_SAFE: Final = str.maketrans("-_", "+/")
_BOUNDS: Final = {
    Kind.INT64: (-(1 << 63), (1 << 63) - 1),
    Kind.UINT64: (0, (1 << 64) - 1),
    Kind.INT32: (-(1 << 31), (1 << 31) - 1),
    Kind.UINT32: (0, (1 << 32) - 1),
    Kind.ENUM: (-(1 << 31), (1 << 31) - 1),
}


def encode(message: Message) -> bytes:
    """The message as JSON."""
    return _ENCODER.encode(shape(message))


def shape(message: Message) -> dict[str, Any]:
    """What to encode: bytes stay bytes, which msgspec writes in base64."""
    type_ = type(message)
    found: dict[str, Any] = {}
    for value, (name, explicit, out) in zip(astuple(message), _OUT.get(type_) or _compile(type_), strict=True):
        if value or (explicit and value is not None):
            found[name] = value if out is None else out(value)
    return found


_Out = Callable[[Any], Any] | None
_OUT: dict[type[Message], list[tuple[str, bool, _Out]]] = {}
"""By type and place: name, whether a default is written, what is done to the value (None: nothing)."""


def _compile(type_: type[Message]) -> list[tuple[str, bool, _Out]]:
    made = _OUT[type_] = [(field.name, field.explicit, _out(field)) for field in fields(type_)]
    return made


def _out(field: Field) -> _Out:
    one: _Out = None
    if field.kind is Kind.MESSAGE:
        one = shape
    elif field.kind in (Kind.INT64, Kind.UINT64):
        one = str
    elif field.kind is Kind.ENUM:
        names = {int(member): member.name for member in field.type}
        one = lambda value: names.get(value, int(value))  # noqa: E731 - it is one of three
    if one is None or not field.repeated:
        return one
    each = one
    return lambda values: [each(value) for value in values]


def decode(type_: type[M], body: bytes) -> M:
    """The message that a JSON object is; an empty body is an empty message."""
    if not body.strip():
        return type_()
    try:
        found = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    return from_shape(type_, found)


def from_shape(type_: type[M], value: Any) -> M:
    """The same of a value that was JSON."""
    return _message(type_, value, 0)  # type: ignore[no-any-return]


def _message(type_: Any, value: Any, depth: int) -> Any:
    if not isinstance(value, dict):
        raise Malformed(f"proto: syntax error: unexpected token {_short(value)}")
    if depth > limits.PROTOBUF_DEPTH_MAX:
        raise too_deep()
    names = _names(type_)
    values = [field.default for field in fields(type_)]
    for name, item in value.items():
        field = names.get(name)
        if field is None or item is None:
            continue
        if field.member_of:
            _clear(type_, field, values)
        values[field.place] = _in_list(field, item, depth) if field.repeated else _in(field, item, depth)
    return type_(*values)


_NAMES: dict[type[Message], dict[str, Field]] = {}


def _names(type_: type[Message]) -> dict[str, Field]:
    """Fields by both of their names."""
    known = _NAMES.get(type_)
    if known is None:
        known = {}
        for field in fields(type_):
            known[field.name] = field
            known.setdefault(_camel(field.name), field)
        _NAMES[type_] = known
    return known


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _clear(type_: type[Message], field: Field, values: list[Any]) -> None:
    for other in fields(type_):
        if other.member_of == field.member_of:
            values[other.place] = None


def _in_list(field: Field, value: Any, depth: int) -> Any:
    if not isinstance(value, list):
        raise _invalid(field, value)
    # An empty array is the same as none: messages that mean the same are equal.
    return [_in(field, item, depth) for item in value] or field.default


def _in(field: Field, value: Any, depth: int) -> Any:
    if field.kind is Kind.MESSAGE:
        return _message(field.type, value, depth + 1)
    return _READS[field.kind](field, value)


def _bytes(field: Field, value: Any) -> bytes:
    if not isinstance(value, str):
        raise _invalid(field, value)
    text = value if value.isalnum() else value.translate(_URL_SAFE)
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError as error:
        raise _invalid(field, value) from error


def _text(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _invalid(field, value)
    return value


def _bool(field: Field, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _invalid(field, value)
    return value


def _number(field: Field, value: Any) -> int:
    number: int
    if type(value) is int:
        number = value
    elif (isinstance(value, float) and value.is_integer()) or (
        isinstance(value, str) and len(value) <= 20 and value.removeprefix("-").isdecimal() and value.isascii()
    ):
        number = int(value)
    else:
        raise _invalid(field, value)
    least, most = _BOUNDS[field.kind]
    if not least <= number <= most:
        raise _invalid(field, value)
    return number


def _enum(field: Field, value: Any) -> int:
    if isinstance(value, str):
        member = field.type.__members__.get(value)
        return int(member) if member is not None else 0
    return _number(field, value)


_READS: dict[Kind, Callable[[Field, Any], Any]] = {
    Kind.BYTES: _bytes,
    Kind.STRING: _text,
    Kind.BOOL: _bool,
    Kind.ENUM: _enum,
    Kind.INT64: _number,
    Kind.UINT64: _number,
    Kind.INT32: _number,
    Kind.UINT32: _number,
}


def _invalid(field: Field, value: Any) -> Malformed:
    return Malformed(
        f"proto: invalid value for {field.kind.value} field {field.name}: {_short(value)}", field=field.name
    )


def _short(value: Any) -> str:
    text = "[" if isinstance(value, list) else "{" if isinstance(value, dict) else json.dumps(value)
    return text if len(text) <= 64 else text[:63] + "…"
