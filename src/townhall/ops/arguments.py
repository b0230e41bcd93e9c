"""Types of command line arguments: each reads a text or raises ``ArgumentTypeError`` that says what is allowed."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TypeVar

from townhall.model import durations, names
from townhall.model.errors import InvalidField

__all__ = ["address_port", "duration_ms", "instance_id", "pair", "service", "tag", "weight"]

_T = TypeVar("_T")
_G = TypeVar("_G")


def duration_ms(text: str) -> int:
    """``500ms``, ``10s``, ``1m30s`` or ``1h`` as milliseconds."""
    try:
        return durations.duration_ms(text.strip())
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def pair(text: str) -> tuple[str, str]:
    """``KEY=VALUE``; the value may be empty and may hold further equals signs."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ArgumentTypeError(f"{text!r} must be KEY=VALUE")
    return key, value


def address_port(text: str) -> tuple[str, int]:
    """``ADDR:PORT``; an IPv6 address in brackets."""
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isascii() and port.isdecimal()):
        raise ArgumentTypeError(f"{text!r} must be ADDR:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return _named(names.address, host), _named(lambda value: names.port(int(value)), port)


def service(text: str) -> str:
    """A service name, or ``namespace/group/name``."""
    parts = text.split("/")
    if len(parts) == 3:
        _named(names.namespace, parts[0])
        _named(names.namespace, parts[1])
    _named(names.service, parts[2] if len(parts) == 3 else text)
    return text


def instance_id(text: str) -> str:
    """An instance's id."""
    return _named(names.instance_id, text)


def tag(text: str) -> str:
    """One tag."""
    return _named(lambda value: names.tags([value])[0], text)


def weight(text: str) -> float:
    """A weight; NaN and infinity are none."""
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
    return _named(names.weight, number)


def _named(check: Callable[[_G], _T], given: _G) -> _T:
    try:
        return check(given)
    except InvalidField as error:
        raise ArgumentTypeError(str(error)) from error
