"""The limit of rate, network by network and second by second."""

from __future__ import annotations

from collections import Counter

from townhall.model import limits
from townhall.serve.dns_rate import RateLimit, Ruling


def rulings(limit: RateLimit, address: str, count: int) -> Counter[Ruling]:
    return Counter(limit.judge(address) for _ in range(count))


def test_a_network_gets_its_rate_and_short_answers_beyond():
    limit = RateLimit(10, local=True)
    beyond = 20
    assert rulings(limit, "192.0.2.1", 10) == {Ruling.SEND: 10}
    expected = {Ruling.SHORTEN: beyond // limits.DNS_RATE_SLIP, Ruling.DROP: beyond - beyond // limits.DNS_RATE_SLIP}
    assert rulings(limit, "192.0.2.200", beyond) == expected
    assert limit.judge("198.51.100.1") is Ruling.SEND
    limit.next_second()
    assert limit.judge("192.0.2.1") is Ruling.SEND


def test_ipv6_networks_are_wider():
    limit = RateLimit(1, local=True)
    assert limit.judge("2001:db8:0:1::1") is Ruling.SEND
    assert limit.judge("2001:db8:0:2::1") is not Ruling.SEND
    assert limit.judge("2001:db8:1::1") is Ruling.SEND
    assert limit.judge("fe80::1%eth0") is Ruling.SEND


def test_loopback_and_private_networks_are_not_counted_unless_asked_for():
    assert rulings(RateLimit(1), "127.0.0.1", 5) == {Ruling.SEND: 5}
    assert rulings(RateLimit(1), "::1", 5) == {Ruling.SEND: 5}
    assert rulings(RateLimit(1, local=True), "127.0.0.1", 2)[Ruling.SEND] == 1


def test_no_rate_is_no_limit():
    assert rulings(RateLimit(0, local=True), "192.0.2.1", 5) == {Ruling.SEND: 5}
    assert limits.DNS_RATE_DEFAULT > 0


def test_the_table_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "DNS_RATE_NETWORKS_MAX", 4)
    limit = RateLimit(1, local=True)
    for n in range(20):
        limit.judge(f"127.0.{n}.1")
    assert len(limit._networks) <= 4
