"""Messages: whole, truncated at every byte, with something behind, compressed; EDNS and client subnets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.model import limits
from townhall.model.errors import Malformed
from townhall.wire.dns import (
    BADVERS,
    NXDOMAIN,
    Edns,
    Message,
    Question,
    Subnet,
    header_of,
    parse_message,
    parse_query,
    render,
)
from townhall.wire.dns_names import join, name_of
from townhall.wire.dns_records import CNAME, SOA, SRV, TXT, A, Record, Soa, Srv, Target

WEB = name_of("web.service.consul")
NODE = name_of("n1.node.dc1.consul")
ZONE = name_of("consul")
SUBNET = Subnet(1, 20, 0, b"\x7f\0\x10")
QUERY = Message(
    id=7, question=Question(WEB, SRV), response=False, recursion_desired=True, edns=Edns(1232, 0, True, SUBNET)
)
QUERY_BYTES = (
    b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01"
    b"\x03web\x07service\x06consul\x00\x00\x21\x00\x01"
    b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x0b\x00\x08\x00\x07\x00\x01\x14\x00\x7f\x00\x10"
)
ANSWER = Message(
    id=0xABCD,
    question=Question(WEB, SRV),
    authoritative=True,
    truncated=True,
    recursion_desired=True,
    recursion_available=True,
    checking_disabled=True,
    answers=(Record(WEB, SRV, 5, Srv(1, 7, 80, NODE)), Record(WEB, CNAME, 0, Target(NODE))),
    authority=(Record(ZONE, SOA, 0, Soa(name_of("ns.consul"), name_of("hostmaster.consul"), 1, 2, 3, 4, 5)),),
    additional=(Record(NODE, A, 5, b"\x7f\0\0\1"), Record(NODE, TXT, 5, b"\3a=b")),
    edns=Edns(4096),
)


def test_a_query_has_these_bytes():
    assert render(QUERY) == QUERY_BYTES
    query = parse_query(QUERY_BYTES)
    assert (query.header.id, query.question, query.edns) == (7, QUERY.question, QUERY.edns)
    assert query.header.recursion_desired
    assert not query.header.response


@pytest.mark.parametrize("message", [QUERY, ANSWER, Message(id=1, question=None, rcode=NXDOMAIN)])
def test_a_message_is_rendered_and_read_back(message):
    data = render(message)
    assert parse_message(data) == message
    for size in range(len(data)):
        with pytest.raises(Malformed):
            parse_message(data[:size])
    with pytest.raises(Malformed):
        parse_message(data + b"\0")


def test_a_query_cut_at_any_byte_is_malformed():
    for size in range(len(QUERY_BYTES)):
        with pytest.raises(Malformed):
            parse_query(QUERY_BYTES[:size])
    with pytest.raises(Malformed):
        parse_query(QUERY_BYTES + b"\0")


def test_owner_names_are_compressed_and_srv_targets_are_not():
    data = render(ANSWER)
    assert data.count(b"\x07service") == 1
    assert data.count(NODE) == 1  # RFC 2782: whole in the SRV record; CNAME, A and TXT point to it
    assert len(data) < 260


def test_pointers_only_lead_where_fourteen_bits_reach():
    names = [join([b"x%050d" % n]) for n in range(400)]
    message = Message(id=1, question=Question(WEB, A), answers=tuple(Record(n, A, 0, b"\x7f\0\0\1") for n in names * 2))
    data = render(message)
    assert len(data) > 0x4000
    assert parse_message(data) == message


def test_the_upper_bits_of_the_response_code_are_in_the_opt_record():
    message = Message(id=1, question=Question(WEB, A), rcode=BADVERS, edns=Edns(1232))
    data = render(message)
    assert header_of(data).rcode == BADVERS & 0xF
    assert parse_message(data).rcode == BADVERS


def with_additional(*records: bytes, answers: int = 0) -> bytes:
    head = b"\0\1\0\0\0\1" + answers.to_bytes(2, "big") + b"\0\0" + (len(records) - answers).to_bytes(2, "big")
    return head + WEB + b"\0\1\0\1" + b"".join(records)


OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def opt(options: bytes) -> bytes:
    return b"\0\0\x29\x04\xd0\0\0\0\0" + len(options).to_bytes(2, "big") + options


def test_records_beside_opt_are_read_over():
    signature = b"\3key\0\0\xfa\0\xff\0\0\0\0\0\3abc"
    assert parse_query(with_additional(signature, OPT)).edns == Edns(1232)


@pytest.mark.parametrize(
    "data",
    [
        with_additional(OPT, OPT),
        with_additional(OPT, answers=1),
        with_additional(b"\1a" + OPT),
        with_additional(opt(b"\0\x08\0\x05\0\1\0")),
        with_additional(opt(b"\0\x08\0")),
        with_additional(opt(b"\0\x08\0\x02\0\1")),
        with_additional(opt(b"\0\x08\0\x04\0\3\0\0")),
        with_additional(opt(b"\0\x08\0\x05\0\1\x18\0\x7f")),
        with_additional(opt(b"\0\x08\0\x05\0\1\x04\0\xff")),
        with_additional(opt(b"\0\x08\0\x04\0\1\x21\0")),
        with_additional(*[b"\0\xff\0\0\1\0\0\0\0\0\0"] * (limits.DNS_QUERY_RECORDS_MAX + 1)),
        b"\0\1\0\0\0\0\0\0\0\0\0\0",
        b"\0\1\0\0\0\2\0\0\0\0\0\0" + (WEB + b"\0\1\0\1") * 2,
    ],
)
def test_queries_that_break_a_rule_are_malformed(data):
    with pytest.raises(Malformed):
        parse_query(data)


@pytest.mark.parametrize("subnet", [Subnet(1, 0, 0, b""), Subnet(2, 56, 0, b"\x20\1\x0d\xb8\0\0\0"), SUBNET])
def test_client_subnets_are_read_and_written(subnet):
    message = Message(id=1, question=Question(WEB, A), edns=Edns(512, subnet=subnet))
    assert parse_message(render(message)).edns == message.edns


name = st.lists(st.binary(min_size=1, max_size=10), max_size=5).map(join)
record = st.builds(Record, name, st.just(TXT), st.integers(0, 2**32 - 1), st.just(b"\1a")) | st.builds(
    Record, name, st.just(SRV), st.integers(0, 9), st.builds(Srv, *[st.integers(0, 65535)] * 3, name)
) | st.builds(Record, name, st.just(CNAME), st.just(0), st.builds(Target, name))  # fmt: skip


@given(name, st.lists(record, max_size=6), st.lists(record, max_size=3))
def test_any_records_come_back(owner, answers, additional):
    message = Message(id=3, question=Question(owner, 255), answers=tuple(answers), additional=tuple(additional))
    assert parse_message(render(message)) == message


@given(st.binary(max_size=120))
def test_bytes_are_read_or_malformed(data):
    for parse in (parse_query, parse_message):
        try:
            parse(data)
        except Malformed:
            continue
