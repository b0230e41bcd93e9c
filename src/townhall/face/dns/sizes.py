"""How much of an answer fits the transport.

Answers are left out from the end, each with the records that go with it, until the whole fits; metadata goes first.
What was left out is told with the TC bit, so that a client may ask again over TCP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from townhall.model import limits
from townhall.wire.dns import Edns, Message, Query, render
from townhall.wire.dns_records import TXT, Record

if TYPE_CHECKING:
    from townhall.face.dns import DnsOptions, Resolution

__all__ = ["allowance", "fit"]


def allowance(query: Query, *, tcp: bool) -> int:
    """Bytes that an answer may have."""
    if tcp:
        return limits.DNS_TCP_SIZE_MAX
    # RFC 6891 §6.2.5: what is less than 512 counts as 512.
    size = query.edns.size if query.edns is not None else 0
    return min(max(size, limits.DNS_UDP_SIZE_MIN), limits.DNS_UDP_SIZE_MAX)


def fit(query: Query, resolution: Resolution, options: DnsOptions, *, tcp: bool) -> bytes:
    """The answer's bytes, within what the client takes."""
    size_max = allowance(query, tcp=tcp)
    count = len(resolution.answers)
    if not tcp and size_max == limits.DNS_UDP_SIZE_MIN:
        count = min(count, options.answers_udp_max)
    build = _builder(query, resolution, options)
    data = build(count, True)
    if len(data) <= size_max:
        return data
    bare = build(count, False)
    if len(bare) <= size_max:
        return bare
    fits, too_many = 0, count
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if len(build(middle, False)) <= size_max:
            fits = middle
        else:
            too_many = middle
    return build(fits, False)


def _builder(query: Query, resolution: Resolution, options: DnsOptions) -> Callable[[int, bool], bytes]:
    """Renders the answer with so many of its records, with or without metadata."""
    header, question, edns = query
    if edns is not None:
        subnet = edns.subnet._replace(scope=0) if edns.subnet is not None else None
        edns = Edns(edns.size, 0, edns.dnssec, subnet)
    whole = len(resolution.answers)

    def build(count: int, with_meta: bool) -> bytes:
        answers, extras = resolution.answers[:count], resolution.extras[:count]
        return render(
            Message(
                id=header.id,
                question=question,
                opcode=header.opcode,
                authoritative=resolution.authoritative,
                truncated=count < whole,
                recursion_desired=header.recursion_desired,
                recursion_available=options.recursion,
                checking_disabled=header.checking_disabled,
                rcode=resolution.rcode,
                answers=tuple(answers),
                authority=resolution.authority,
                additional=(*_flat(extras, with_meta), *resolution.additional),
                edns=edns,
            )
        )

    return build


def _flat(extras: Sequence[tuple[Record, ...]], with_meta: bool) -> list[Record]:
    return [record for group in extras for record in group if with_meta or record.type != TXT]
