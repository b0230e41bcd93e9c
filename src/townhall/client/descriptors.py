"""The names of the methods in a protobuf descriptor set, read without the protobuf package.

Of ``google.protobuf.FileDescriptorSet`` only the path to the methods is followed (descriptor.proto: file = 1; package = 2
and service = 6 of a file; name = 1 and method = 2 of a service; name = 1 of a method); everything else is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from townhall.model.errors import Malformed

__all__ = ["method_names"]

_LENGTH_DELIMITED = 2
_SIZES = {1: 8, 5: 4}
"""Wire types of fixed size."""


def method_names(data: bytes) -> list[str]:
    """``package.Service/Method`` for each method. Raises ``Malformed`` when it is no descriptor set."""
    names = []
    for file in _fields(data, 1):
        package = "".join(map(_text, _fields(file, 2)))
        for service in _fields(file, 6):
            name = "".join(map(_text, _fields(service, 1)))
            whole = f"{package}.{name}" if package else name
            names += [f"{whole}/{_text(one)}" for method in _fields(service, 2) for one in _fields(method, 1)]
    return names


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a name in the descriptor set is not UTF-8") from error


def _fields(data: bytes, wanted: int) -> Iterator[bytes]:
    """The values of one length-delimited field of a message, the others skipped."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, at = _varint(data, at)
            continue
        if kind == _LENGTH_DELIMITED:
            size, at = _varint(data, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise Malformed(f"not a descriptor set: wire type {kind} before byte {at}")
        if number == 0 or size > len(data) - at:
            raise Malformed(f"not a descriptor set: it ends within a field before byte {at}")
        if kind == _LENGTH_DELIMITED and number == wanted:
            yield data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed(f"not a descriptor set: no number ends before byte {at}")
