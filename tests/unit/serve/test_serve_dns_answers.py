"""Rendered answers: kept while fresh, shuffled anew, bounded."""

from __future__ import annotations

import itertools
from collections import Counter

from dns_serving import addresses, dns_serving, query

from townhall.model import limits
from townhall.wire.dns import parse_message

ALL = [f"127.0.3.{n}" for n in range(1, 9)]


def test_no_instance_is_preferred_in_the_long_run():
    async def test(world):
        await world.register(*ALL)
        reply = world.server._answers.reply
        answers = [addresses(reply(query(), tcp=False)) for _ in range(16_000)]
        first = Counter(answer[0] for answer in answers)
        assert set(first) == set(ALL)
        # 2,000 each on average; 500 shuffles of which every one is served 32 times spread by about 240.
        assert all(500 < count < 4_000 for count in first.values())
        assert sum(a != b for a, b in itertools.pairwise(answers)) > 8_000
        made = 16_000 // limits.DNS_VARIANT_USES_MAX + limits.DNS_VARIANTS_COUNT
        assert 16_000 - made <= world.server.counters.cached < 16_000 - made // 2

    dns_serving(test)


def test_the_id_is_the_querys_own():
    async def test(world):
        await world.register(ALL[0])
        for id_ in (1, 65_535):
            assert parse_message(world.server._answers.reply(query(id_=id_), tcp=True)).id == id_

    dns_serving(test)


def test_what_is_kept_is_bounded():
    async def test(world):
        answers = world.server._answers
        for n in range(limits.DNS_ANSWERS_CACHED_MAX + 100):
            answers.reply(query(f"a{n}.addr.consul"), tcp=False)
        kept = len(answers._young) + len(answers._old)
        assert limits.DNS_ANSWERS_CACHED_MAX // 2 <= kept <= limits.DNS_ANSWERS_CACHED_MAX

    dns_serving(test)


def test_long_queries_are_not_kept():
    async def test(world):
        answers = world.server._answers
        name = ".".join(["a" * 60] * 3) + ".service.consul"
        option = b"\0\0\x29\x04\xd0\0\0\0\0\0\x84" + b"\xff\x01\0\x80" + bytes(128)
        data = query(name)
        data = data[:11] + b"\1" + data[12:] + option
        assert len(data) > limits.DNS_CACHED_QUERY_SIZE_MAX
        assert parse_message(answers.reply(data, tcp=False)).edns
        assert not answers._young

    dns_serving(test)


def test_what_is_used_outlives_a_generation():
    async def test(world):
        await world.register(ALL[0])
        answers = world.server._answers
        for n in range(limits.DNS_ANSWERS_CACHED_MAX):
            answers.reply(query(f"a{n}.addr.consul"), tcp=False)
            if n % 1_000 == 0:
                answers.reply(query(), tcp=False)
        assert world.server.counters.cached == limits.DNS_ANSWERS_CACHED_MAX // 1_000 - 1

    dns_serving(test)


def test_more_shufflings_are_kept_than_one():
    assert limits.DNS_VARIANTS_COUNT > 1
