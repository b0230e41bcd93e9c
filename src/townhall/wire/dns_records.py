"""Resource records: their types, their data, and both between bytes and values (RFC 1035, 2782, 3596)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from townhall.model.errors import Malformed
from townhall.wire.dns_names import read_name

__all__ = [
    "AAAA", "ANY", "AXFR", "CNAME", "IN", "IXFR", "NS", "OPT", "PTR", "SOA", "SRV", "TXT", "A",
    "Data", "Names", "Record", "Soa", "Srv", "Target", "read_data", "text_data", "write_data",
]  # fmt: skip

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255
IN: Final = 1

_STRING_SIZE_MAX: Final = 255
_SRV = struct.Struct(">HHH")
_SOA = struct.Struct(">IIIII")


class Target(NamedTuple):
    """Data of NS, CNAME and PTR: a name."""

    name: bytes


class Srv(NamedTuple):
    """Data of SRV (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: bytes


class Soa(NamedTuple):
    """Data of SOA; times in seconds."""

    primary: bytes
    mailbox: bytes
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


Data = bytes | Target | Srv | Soa
"""Bytes are data without names in it: A, AAAA, TXT, and every type that is not known here (RFC 3597)."""


class Record(NamedTuple):
    """One record of class IN; names in wire form, ``ttl`` in seconds."""

    name: bytes
    type: int
    ttl: int
    data: Data


Names = Callable[[bytes], None]
"""Appends a name to the message, compressed as far as what came before allows."""


def write_data(out: bytearray, data: Data, compressed: Names) -> None:
    """Append a record's data to a message."""
    if isinstance(data, bytes):
        out += data
    elif isinstance(data, Srv):
        out += _SRV.pack(data.priority, data.weight, data.port)
        # RFC 2782: the target is not compressed, but what follows may point into it.
        out += data.target
    elif isinstance(data, Target):
        compressed(data.name)
    else:
        compressed(data.primary)
        compressed(data.mailbox)
        out += _SOA.pack(data.serial, data.refresh, data.retry, data.expire, data.minimum)


def read_data(type_: int, data: bytes, offset: int, end: int) -> Data:
    """The data in ``data[offset:end]``, which it must fill exactly. Raises Malformed."""
    reader = _READERS.get(type_)
    if reader is not None:
        value, last = reader(data, offset, end)
        if last != end:
            raise Malformed(f"data of a record of type {type_} does not fill its length")
        return value
    if _SIZES.get(type_, end - offset) != end - offset:
        raise Malformed(f"data of a record of type {type_} has a wrong length")
    if type_ == TXT:
        _check_strings(data, offset, end)
    return data[offset:end]


def text_data(text: bytes) -> bytes:
    """Data of a TXT record: the text as strings of at most 255 bytes (RFC 1035 §3.3.14)."""
    pieces = [text[at : at + _STRING_SIZE_MAX] for at in range(0, len(text), _STRING_SIZE_MAX)] or [b""]
    return b"".join(bytes((len(piece),)) + piece for piece in pieces)


def _read_target(data: bytes, offset: int, end: int) -> tuple[Data, int]:
    name, last = read_name(data, offset)
    return Target(name), last


def _read_srv(data: bytes, offset: int, end: int) -> tuple[Data, int]:
    if end - offset <= _SRV.size:
        raise Malformed("an SRV record is too short")
    priority, weight, port = _SRV.unpack_from(data, offset)
    target, last = read_name(data, offset + _SRV.size)
    return Srv(priority, weight, port, target), last


def _read_soa(data: bytes, offset: int, end: int) -> tuple[Data, int]:
    primary, offset = read_name(data, offset)
    mailbox, offset = read_name(data, offset)
    if offset + _SOA.size != end:
        raise Malformed("an SOA record has a wrong length")
    return Soa(primary, mailbox, *_SOA.unpack_from(data, offset)), end


def _check_strings(data: bytes, offset: int, end: int) -> None:
    if offset == end:
        raise Malformed("a TXT record without a string")
    while offset < end:
        offset += 1 + data[offset]
    if offset != end:
        raise Malformed("a string of a TXT record runs over its end")


_SIZES: Final[Mapping[int, int]] = {A: 4, AAAA: 16}
_READERS: Final[Mapping[int, Callable[[bytes, int, int], tuple[Data, int]]]] = {
    NS: _read_target, CNAME: _read_target, PTR: _read_target, SRV: _read_srv, SOA: _read_soa,
}  # fmt: skip
