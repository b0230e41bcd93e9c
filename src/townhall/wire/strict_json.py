"""Strict JSON (RFC 8259) into typed Structs: whatever a sender could have meant otherwise is refused with its place.

msgspec does most of it at C speed: syntax, UTF-8, lone surrogates, NaN and Infinity, wrong types, and unknown fields
of Structs that forbid them. Two things it lets pass are checked here.

*Nesting.* The type bounds how deep a body can nest, except for types that contain themselves. Of those, a body with at
most ``JSON_DEPTH_MAX`` brackets cannot nest deeper, so counting two bytes settles nearly all; only others are walked.

*Duplicate keys* (RFC 8259 §4 calls them unpredictable). An exact check in Python costs eight times the decoding, so it
is the last resort. Every member of an object has one structural colon. Let the text have ``c`` colons: ``m`` of
members and ``s`` inside strings. Encode the decoded value again: it has ``n <= m`` members, since a duplicate key
survives once only, and ``t`` colons inside strings. When the text holds no backslash, a colon inside a string of the
decoded value is a colon of the text as well, so ``t <= s``. If now ``n + t == m + s``, then ``m - n = t - s <= 0``, so
``m == n``: no key was dropped. Two C-level passes answer; only a body with escapes, or with colons unaccounted for,
is walked exactly. A worked example: ``{"a":1,"a":2}`` has 2 colons, its value ``{"a":2}`` has 1: look closer.
"""

from __future__ import annotations

import json
import re
from typing import Generic, TypeVar

import msgspec

from townhall.model import limits
from townhall.model.errors import InvalidField, Malformed, UnknownField

__all__ = ["Strict"]

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()
_ANYTHING = msgspec.json.Decoder()
# Possessive, and content with a string that never ends, so that it is linear on any input.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_OPENING = b"[{"
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_AT = re.compile(r"(.*) - at `(key in )?\$\.?(.*)`", re.DOTALL)


class Strict(Generic[T]):
    """Decodes bodies of one type; the type's Structs should forbid unknown fields and omit defaults.

    ``omit_defaults`` makes the check for duplicate keys cheaper, nothing else depends on it. ``lax`` takes numbers
    written as strings for numbers, at C speed: what a list of lease ids needs. ``recursive`` says that the type
    contains itself.
    """

    __slots__ = ("_decode", "recursive", "type")

    def __init__(self, type_: type[T], *, lax: bool = False, recursive: bool = False) -> None:
        self.type = type_
        self.recursive = recursive
        self._decode = msgspec.json.Decoder(type_, strict=not lax).decode

    def decode(self, body: bytes) -> T:
        """The value of ``body``. Raises InvalidField, UnknownField or Malformed, and nothing else."""
        try:
            value = self._decode(body)
        except msgspec.ValidationError as error:
            raise _explain(str(error)) from error
        except msgspec.DecodeError as error:
            raise Malformed(f"the body is not JSON: {_plain(str(error), body)}") from error
        except UnicodeDecodeError as error:
            raise Malformed(f"the body is not UTF-8: {error.reason}") from error
        except RecursionError as error:
            raise _too_deep() from error
        except ValueError as error:  # CPython refuses to convert integers of more than 4,300 digits.
            raise Malformed("the body holds a number that is too long") from error
        if self.recursive and body.count(b"{") + body.count(b"[") > limits.JSON_DEPTH_MAX:
            _check_depth(body)
        colons = body.count(b":")
        if colons > 1 and (b"\\" in body or _ENCODER.encode(value).count(b":") != colons):
            _check_keys(body, colons)
        return value


def _check_depth(body: bytes) -> None:
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", body)):
        if bracket in _OPENING:
            depth += 1
            if depth > limits.JSON_DEPTH_MAX:
                raise _too_deep()
        else:
            depth -= 1


def _check_keys(body: bytes, colons: int) -> None:
    if b"\\" not in body and _ENCODER.encode(_ANYTHING.decode(body)).count(b":") == colons:
        return
    json.loads(body.decode(), object_pairs_hook=_distinct, parse_int=_skip, parse_float=_skip)


def _distinct(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Malformed(f"the key {name[:64]!r} occurs twice in one object", field=name)
        seen.add(name)


def _skip(_: str) -> None:
    """Numbers do not matter to the check of keys, and converting a long one costs quadratic time."""


def _too_deep() -> Malformed:
    return Malformed(f"the body nests deeper than {limits.JSON_DEPTH_MAX} levels", limit=limits.JSON_DEPTH_MAX)


def _plain(text: str, body: bytes) -> str:
    if not body:
        return "it is empty"
    return text.removeprefix("JSON is malformed: ").removeprefix("Input data was ")


def _explain(text: str) -> InvalidField | UnknownField:
    if match := _UNKNOWN.fullmatch(text):
        return UnknownField(_join(match[2], match[1]))
    if match := _MISSING.fullmatch(text):
        return InvalidField(_join(match[2], match[1]), "is required")
    if match := _AT.fullmatch(text):
        return InvalidField(match[3] or "body", f"{match[2] or ''}{_lower(match[1])}")
    return InvalidField("body", _lower(text))


def _join(path: str | None, name: str) -> str:
    return f"{path}.{name}" if path else name


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].replace("`", "")
