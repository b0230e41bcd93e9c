"""Answers that fit the transport, and say when they do not."""

from __future__ import annotations

import pytest
from dns_world import TYPES, DnsWorld, edns

from townhall.face.dns.sizes import allowance
from townhall.model import limits
from townhall.wire.dns_names import text_of


@pytest.fixture(scope="module")
def world():
    world = DnsWorld()
    for n in range(40):
        world.node(f"n{n:02}", f"127.0.1.{n}", rack="r" * 60)
        world.register("big", f"n{n:02}/b", f"127.0.1.{n}", 9000 + n, node=f"n{n:02}", extra={"consul.address": ""})
    return world


def test_what_a_client_takes(world):
    sizes = {None: 512, 100: 512, 512: 512, 1232: 1232, 65535: limits.DNS_UDP_SIZE_MAX}
    for size, taken in sizes.items():
        query = world.query("big.service.consul", edns=edns(size) if size else None)
        assert allowance(query, tcp=False) == taken
        assert allowance(query, tcp=True) == limits.DNS_TCP_SIZE_MAX
    assert limits.DNS_UDP_SIZE_MIN == 512


@pytest.mark.parametrize("size", [None, 512])
def test_old_clients_get_three_answers_and_are_told_of_more(world, size):
    message = world.ask("big.service.consul", edns=edns(size) if size else None)
    assert len(message.answers) == limits.DNS_ANSWERS_UDP_MAX
    assert message.truncated
    assert (message.edns is not None) == (size is not None)


def test_all_addresses_fit_a_usual_datagram(world):
    message = world.ask("big.service.consul", edns=edns(1232))
    assert (len(message.answers), message.truncated) == (40, False)


@pytest.mark.parametrize("size", [600, 700, 1232, 1400, 2000])
def test_places_are_left_out_with_their_addresses(world, size):
    message = world.ask("big.service.consul", "SRV", edns=edns(size))
    assert 0 < len(message.answers) < 40
    assert message.truncated
    assert [text_of(record.data.target) for record in message.answers] == [text_of(r.name) for r in message.additional]


def test_metadata_goes_before_anything_else(world):
    message = world.ask("big.service.consul", "SRV", edns=edns(4096))
    assert (len(message.answers), message.truncated) == (40, False)
    whole = world.ask("big.service.consul", "SRV", tcp=True)
    assert (len(whole.answers), len(whole.additional)) == (40, 80)
    assert {record.type for record in message.additional} == {TYPES["A"]}


def test_a_node_with_much_metadata_is_bounded():
    world = DnsWorld()
    world.node("n1", "127.0.1.1", **{f"k{n}": "v" * 500 for n in range(limits.DNS_TEXT_COUNT_MAX)})
    message = world.ask("n1.node.consul", "TXT", edns=edns(1232))
    assert message.truncated
    assert message.answers
    assert len(world.ask("n1.node.consul", "TXT", tcp=True).answers) == limits.DNS_TEXT_COUNT_MAX


def test_nothing_is_larger_than_a_length_can_say():
    world = DnsWorld()
    for n in range(1200):
        world.register("huge", f"h{n}", f"127.1.{n // 250}.{n % 250}", 1000 + n)
    message = world.ask("huge.service.consul", "SRV", tcp=True)
    assert message.truncated
    assert len(message.answers) > 800
