"""DNS messages between bytes and values (RFC 1035), with EDNS (RFC 6891) and the client subnet (RFC 7871).

``parse_query`` is what a server reads, ``parse_message`` whatever a resolver answers, ``render`` writes. Everything
that cannot be read raises ``Malformed``, and nothing else; trailing bytes are refused. ``header_of`` gives as much as
an answer to a message that cannot be read needs.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import msgspec

from townhall.model import limits
from townhall.model.errors import Malformed
from townhall.wire.dns_names import ROOT, read_name
from townhall.wire.dns_records import IN, OPT, Record, Srv, read_data, write_data

__all__ = [
    "BADVERS", "FORMERR", "NOERROR", "NOTIMP", "NXDOMAIN", "OPCODE_QUERY", "REFUSED", "SERVFAIL",
    "Edns", "Header", "Message", "Query", "Question", "Subnet", "header_of", "parse_message", "parse_query", "render",
]  # fmt: skip

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16
OPCODE_QUERY: Final = 0

QR: Final = 0x8000
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
CD: Final = 0x0010
_DO: Final = 0x8000
_SUBNET: Final = 8
_POINTER_MAX: Final = 0x3FFF

_HEAD = struct.Struct(">HHHHHH")
_TYPE_CLASS = struct.Struct(">HH")
_RECORD = struct.Struct(">HHIH")
_OPTION = struct.Struct(">HH")
_SUBNET_HEAD = struct.Struct(">HBB")


class Header(NamedTuple):
    """The first twelve bytes of a message."""

    id: int
    flags: int
    questions: int
    answers: int
    authority: int
    additional: int

    @property
    def response(self) -> bool:
        """Whether it is an answer; a server never answers those, or two servers would talk for ever."""
        return bool(self.flags & QR)

    @property
    def recursion_desired(self) -> bool:
        """The client wants names of other domains looked up, too."""
        return bool(self.flags & RD)

    @property
    def checking_disabled(self) -> bool:
        """The client checks signatures itself; repeated in the answer (RFC 4035 §3.2.2)."""
        return bool(self.flags & CD)

    @property
    def opcode(self) -> int:
        """What is asked for; ``OPCODE_QUERY`` is a question."""
        return self.flags >> 11 & 0xF

    @property
    def rcode(self) -> int:
        """The lower four bits of the response code."""
        return self.flags & 0xF

    @property
    def truncated(self) -> bool:
        """Records were left out."""
        return bool(self.flags & TC)


class Question(NamedTuple):
    """What is asked, with the name as it was written."""

    name: bytes
    type: int
    class_: int = IN


class Subnet(NamedTuple):
    """EDNS client subnet (RFC 7871): for whom a resolver asks."""

    family: int
    """1 is IPv4, 2 IPv6."""
    source: int
    """Bits of the address that are given."""
    scope: int
    """Bits that the answer is good for; 0 is everybody."""
    address: bytes
    """As many bytes as ``source`` needs."""


class Edns(NamedTuple):
    """The OPT record."""

    size: int
    """Largest UDP message the sender takes."""
    version: int = 0
    dnssec: bool = False
    subnet: Subnet | None = None


class Query(NamedTuple):
    """A question from a client."""

    header: Header
    question: Question
    edns: Edns | None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A whole message. ``rcode`` may have twelve bits when there is an OPT record to carry the upper eight."""

    id: int
    question: Question | None
    response: bool = True
    opcode: int = OPCODE_QUERY
    authoritative: bool = False
    truncated: bool = False
    recursion_desired: bool = False
    recursion_available: bool = False
    checking_disabled: bool = False
    rcode: int = NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = None


def header_of(data: bytes) -> Header:
    """The header. Raises Malformed when there are not even twelve bytes."""
    if len(data) < _HEAD.size:
        raise Malformed("shorter than a header")
    return Header._make(_HEAD.unpack_from(data, 0))


def parse_query(data: bytes) -> Query:
    """A message with exactly one question, read to its last byte. Raises Malformed.

    Records that a query may carry beside OPT (a signature, an old SOA) are checked for their form and dropped.
    """
    header = header_of(data)
    if header.questions != 1:
        raise Malformed(f"{header.questions} questions, one is allowed")
    question, offset = _read_question(data, _HEAD.size)
    counts = header.answers + header.authority, header.additional
    if counts == (0, 0):
        _end(data, offset)
        return Query(header, question, None)
    if sum(counts) > limits.DNS_QUERY_RECORDS_MAX:
        raise Malformed(f"{sum(counts)} records in a query, at most {limits.DNS_QUERY_RECORDS_MAX}")
    for _ in range(counts[0]):
        record, _, offset = _read_record(data, offset)
        if record is None:
            raise Malformed("an OPT record outside of the additional section")
    edns, _, offset = _read_additional(data, offset, counts[1])
    _end(data, offset)
    return Query(header, question, edns[0] if edns else None)


def parse_message(data: bytes) -> Message:
    """Any message with at most one question, names decompressed, read to its last byte. Raises Malformed."""
    header = header_of(data)
    if header.questions > 1:
        raise Malformed(f"{header.questions} questions, one is allowed")
    question, offset = _read_question(data, _HEAD.size) if header.questions else (None, _HEAD.size)
    answers, offset = _read_section(data, offset, header.answers)
    authority, offset = _read_section(data, offset, header.authority)
    found, additional, offset = _read_additional(data, offset, header.additional)
    _end(data, offset)
    flags = header.flags
    edns, upper = found or (None, 0)
    return Message(
        id=header.id,
        question=question,
        response=header.response,
        opcode=header.opcode,
        authoritative=bool(flags & AA),
        truncated=bool(flags & TC),
        recursion_desired=bool(flags & RD),
        recursion_available=bool(flags & RA),
        checking_disabled=bool(flags & CD),
        rcode=header.rcode | upper << 4,
        answers=tuple(answers),
        authority=tuple(authority),
        additional=tuple(additional),
        edns=edns,
    )


def render(message: Message) -> bytes:
    """The message as bytes, owner names compressed."""
    out = bytearray(_HEAD.size)
    seen: dict[bytes, int] = {}
    questions = 0
    if message.question is not None:
        questions = 1
        _write_name(out, seen, message.question.name)
        out += _TYPE_CLASS.pack(message.question.type, message.question.class_)
    for section in (message.answers, message.authority, message.additional):
        for record in section:
            _write_record(out, seen, record)
    if message.edns is not None:
        out += _opt(message.edns, message.rcode >> 4)
    _HEAD.pack_into(
        out,
        0,
        message.id,
        _flags(message),
        questions,
        len(message.answers),
        len(message.authority),
        len(message.additional) + (message.edns is not None),
    )
    return bytes(out)


# --- reading


def _end(data: bytes, offset: int) -> None:
    if offset != len(data):
        raise Malformed(f"{len(data) - offset} bytes behind the message")


def _read_question(data: bytes, offset: int) -> tuple[Question, int]:
    name, offset = read_name(data, offset)
    if offset + 4 > len(data):
        raise Malformed("the question is cut short")
    return Question(name, *_TYPE_CLASS.unpack_from(data, offset)), offset + 4


def _read_section(data: bytes, offset: int, count: int) -> tuple[list[Record], int]:
    records = []
    for _ in range(count):
        record, _, offset = _read_record(data, offset)
        if record is None:
            raise Malformed("an OPT record outside of the additional section")
        records.append(record)
    return records, offset


def _read_additional(data: bytes, offset: int, count: int) -> tuple[tuple[Edns, int] | None, list[Record], int]:
    """EDNS with the upper bits of the response code, the other records, and the offset behind them."""
    found: tuple[Edns, int] | None = None
    records = []
    for _ in range(count):
        record, edns, offset = _read_record(data, offset)
        if record is not None:
            records.append(record)
        elif found is not None:
            raise Malformed("two OPT records")  # RFC 6891 §6.1.1
        else:
            found = edns
    return found, records, offset


def _read_record(data: bytes, offset: int) -> tuple[Record | None, tuple[Edns, int] | None, int]:
    """A record, or the EDNS that an OPT record is, and the offset behind it."""
    name, offset = read_name(data, offset)
    start = offset + _RECORD.size
    if start > len(data):
        raise Malformed("a record is cut short")
    type_, class_, ttl, size = _RECORD.unpack_from(data, offset)
    end = start + size
    if end > len(data):
        raise Malformed("a record's data is cut short")
    if type_ != OPT:
        return Record(name, type_, ttl, read_data(type_, data, start, end)), None, end
    if name != ROOT:
        raise Malformed("an OPT record with a name")
    edns = Edns(class_, ttl >> 16 & 0xFF, bool(ttl & _DO), _read_options(data, start, end))
    return None, (edns, ttl >> 24), end


def _read_options(data: bytes, offset: int, end: int) -> Subnet | None:
    subnet = None
    while offset < end:
        if offset + 4 > end:
            raise Malformed("an EDNS option is cut short")
        code, size = _OPTION.unpack_from(data, offset)
        offset += 4
        if offset + size > end:
            raise Malformed("an EDNS option is cut short")
        if code == _SUBNET:
            subnet = _read_subnet(data[offset : offset + size])
        offset += size
    return subnet


def _read_subnet(data: bytes) -> Subnet:
    if len(data) < _SUBNET_HEAD.size:
        raise Malformed("a client subnet is cut short")
    family, source, scope = _SUBNET_HEAD.unpack_from(data, 0)
    address = data[_SUBNET_HEAD.size :]
    bits = {1: 32, 2: 128}.get(family)
    # RFC 7871 §6 and §7.1.2: the address has just as many bytes as the prefix needs, and zeros behind the prefix.
    if bits is None or source > bits or scope > bits or len(address) != (source + 7) // 8:
        raise Malformed("a client subnet that does not fit its family")
    if source % 8 and address[-1] & (0xFF >> source % 8):
        raise Malformed("a client subnet with bits behind its prefix")
    return Subnet(family, source, scope, address)


# --- writing


def _flags(message: Message) -> int:
    return (
        (QR if message.response else 0)
        | message.opcode << 11
        | (AA if message.authoritative else 0)
        | (TC if message.truncated else 0)
        | (RD if message.recursion_desired else 0)
        | (RA if message.recursion_available else 0)
        | (CD if message.checking_disabled else 0)
        | message.rcode & 0xF
    )


def _write_name(out: bytearray, seen: dict[bytes, int], name: bytes) -> None:
    """Append a name; a suffix that stands in the message already becomes a pointer (RFC 1035 §4.1.4)."""
    suffix = name
    while len(suffix) > 1:
        at = seen.get(suffix)
        if at is not None:
            out += name[: len(name) - len(suffix)]
            out += (0xC000 | at).to_bytes(2, "big")
            _remember(seen, name, len(out) - 2 - (len(name) - len(suffix)), stop=suffix)
            return
        suffix = suffix[1 + suffix[0] :]
    start = len(out)
    out += name
    _remember(seen, name, start, stop=ROOT)


def _remember(seen: dict[bytes, int], name: bytes, start: int, *, stop: bytes) -> None:
    """Note where the suffixes of a name that begins at ``start`` stand, down to the one that was there before."""
    while name != stop and start <= _POINTER_MAX:
        if name not in seen:
            seen[name] = start
        start += 1 + name[0]
        name = name[1 + name[0] :]


def _write_record(out: bytearray, seen: dict[bytes, int], record: Record) -> None:
    _write_name(out, seen, record.name)
    at = len(out)
    out += _RECORD.pack(record.type, IN, record.ttl, 0)
    data = record.data
    write_data(out, data, lambda name: _write_name(out, seen, name))
    out[at + 8 : at + 10] = (len(out) - at - _RECORD.size).to_bytes(2, "big")
    if isinstance(data, Srv):
        _remember(seen, data.target, len(out) - len(data.target), stop=ROOT)


def _opt(edns: Edns, upper: int) -> bytes:
    options = b""
    if edns.subnet is not None:
        family, source, scope, address = edns.subnet
        body = _SUBNET_HEAD.pack(family, source, scope) + address
        options = _OPTION.pack(_SUBNET, len(body)) + body
    ttl = upper << 24 | edns.version << 16 | (_DO if edns.dnssec else 0)
    return ROOT + _RECORD.pack(OPT, edns.size, ttl, len(options)) + options
