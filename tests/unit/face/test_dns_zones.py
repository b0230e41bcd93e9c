"""Names and records of one domain."""

from __future__ import annotations

import pytest
from dns_world import shown

from townhall.face.dns import DnsOptions
from townhall.face.dns.zones import Zone, address_record, meta_records
from townhall.model.check import Node
from townhall.wire.dns_names import name_of
from townhall.wire.dns_records import text_data

NAME = name_of("x.consul")


@pytest.fixture
def zone():
    return Zone("consul", DnsOptions())


def test_names_below(zone):
    assert zone.node_name("n1") == name_of("n1.node.dc1.consul")
    assert zone.node_name("a.b") == name_of("a.b.node.dc1.consul")
    assert zone.service_name("web") == name_of("web.service.dc1.consul")
    assert zone.address_name(b"\x7f\0\0\1") == name_of("7f000001.addr.dc1.consul")


@pytest.mark.parametrize("text", ["x" * 64, "a..b", ".".join(["x" * 60] * 4)])
def test_what_cannot_be_a_name_has_none(zone, text):
    assert zone.node_name(text) is None
    assert zone.service_name(text) is None


def test_a_name_server_with_an_impossible_name_is_called_ns(zone):
    servers, glue = zone.servers(Node(name="x" * 64, address="127.0.0.1"), 3)
    assert shown(servers) == ["consul. 3 NS ns.consul."]
    assert shown(glue) == ["ns.consul. 3 A 127.0.0.1"]
    assert zone.servers(Node(name="n1", address="host.example.test"), 0)[1] == ()


def test_serial_numbers_have_thirty_two_bits(zone):
    assert shown((zone.soa(2**32 + 5),)) == ["consul. 0 SOA ns.consul. 5"]


def test_addresses_and_host_names():
    found = [address_record(NAME, address, 1) for address in ("127.0.0.1", "::1", "h.example.test", "a..b")]
    assert [None if record is None else record.type for record in found] == [1, 28, 5, None]


def test_metadata_is_bounded_and_some_of_it_bare():
    records = meta_records(NAME, {"a": "b", "rfc1035-x": "y", "c": "d"}, 0, 2)
    assert [record.data for record in records] == [text_data(b"a=b"), text_data(b"y")]
