"""What the values of several layouts have in common: endpoints, JSON, weights and names checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from townhall.core.layouts import Entry
from townhall.model import limits, names
from townhall.model.errors import InvalidField

__all__ = ["Endpoint", "checked", "endpoint", "json_of", "number_of", "object_of", "plain", "text_of", "weight_of"]

Shape = TypeVar("Shape", bound=msgspec.Struct)
Endpoint = tuple[str, str, int]
"""Scheme ("" for none), address, port."""

_ENDPOINT = re.compile(r"(?:([a-z][a-z0-9+.-]*)://)?(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/?#@\s]+)):(\d{1,5})(?:[/?#].*)?", re.ASCII)  # fmt: skip
json_of = msgspec.json.Encoder().encode


def endpoint(text: str, *, url: bool = True) -> Endpoint | None:
    """``host:port``, or with ``url`` also ``scheme://host:port/…``; None for anything else."""
    if len(text) > limits.TAG_SIZE_MAX:
        return None
    match = _ENDPOINT.fullmatch(text)
    if match is None or (not url and (match[1] or not text.endswith(match[4]))):
        return None
    try:
        return match[1] or "", names.address(match[2] or match[3]), names.port(int(match[4]))
    except InvalidField:
        return None


def text_of(address: str, port: int, scheme: str = "") -> str:
    """The inverse of ``endpoint``."""
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}:{port}" if scheme else f"{host}:{port}"


def object_of(value: bytes, shape: msgspec.json.Decoder[Shape]) -> Shape | None:
    """A JSON value of this shape, None when it is not one.

    Size and brackets are counted before, because how deep the decoder may go depends on who calls it, and what a key
    means must not.
    """
    if value[:1] != b"{" or len(value) > limits.LAYOUT_VALUE_SIZE_MAX:
        return None
    if value.count(b"[") + value.count(b"{") > limits.LAYOUT_BRACKETS_MAX:
        return None
    try:
        return shape.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def weight_of(value: object) -> float | None:
    """A weight written as a number or as text; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number <= limits.WEIGHT_MAX else None


def number_of(weight: float) -> float:
    """A weight as people write it: whole when it is whole."""
    return int(weight) if weight == int(weight) else weight


def plain(value: Mapping[str, Any]) -> dict[str, str]:
    """Metadata with every value that is no text as its JSON text."""
    return {name: found if isinstance(found, str) else json_of(found).decode() for name, found in value.items()}


def checked(entry: Entry) -> Entry | None:
    """The entry when the catalogue may hold it, else None."""
    try:
        names.tags(entry.tags)
        names.metadata(entry.metadata)
        names.ports(entry.ports)
        for name in ("region", "zone", "cluster"):
            names.label(getattr(entry, name), name, empty=True)
    except InvalidField:
        return None
    return entry
