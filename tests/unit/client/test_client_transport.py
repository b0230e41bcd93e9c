"""Which URL is asked, and what is not asked twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_registry import FakeRegistry, Refusal

from free_ports import free_port
from townhall.client.transport import Call, Transport, decode, part, query_of
from townhall.model.errors import InvalidField, NotFound, PeerMisbehaved, Unauthenticated, Unavailable, Unreachable

STATUS = Call("GET", "/status")
UNSAFE = Call("POST", "/txn")


def test_urls_may_be_one_or_several() -> None:
    two = Transport("http://127.0.0.1:1, 127.0.0.1:2")
    assert [origin.port for origin in two.origins] == [1, 2]
    assert Transport("127.0.0.1").origins[0].port == 7500
    assert Transport("http://127.0.0.1").origins[0].port == 80
    assert len(Transport(["http://127.0.0.1:1", "http://127.0.0.1:1"]).origins) == 1
    for nothing in ("", [], [" , "]):
        with pytest.raises(InvalidField):
            Transport(nothing)
    with pytest.raises(InvalidField, match="url: None is no registry's URL"):
        Transport(None)  # type: ignore[arg-type]


def test_the_next_is_asked_when_one_is_away_and_then_preferred() -> None:
    async def main() -> None:
        async with FakeRegistry(canned={("GET", "/status"): {"n": 1}, ("POST", "/txn"): {"n": 2}}) as fake:
            dead = f"http://127.0.0.1:{free_port()}"
            transport = Transport([dead, fake.url])
            assert await transport.fetch(STATUS, dict[str, Any]) == {"n": 1}
            assert transport.preferred.port == fake.port
            assert (await transport.call(UNSAFE)).json() == {"n": 2}, "never sent, so it may go to the next"
            transport.close()

    asyncio.run(main())


def test_one_that_cannot_serve_now_is_passed_over() -> None:
    async def main() -> None:
        away = {("GET", "/status"): Refusal(503, "stopping"), ("POST", "/txn"): Refusal(503, "outcome_unknown")}
        async with FakeRegistry(canned=away) as first, FakeRegistry(canned={("GET", "/status"): {"n": 2}}) as second:
            transport = Transport([first.url, second.url])
            with pytest.raises(Unavailable):
                await transport.call(UNSAFE)
            assert not second.asked, "what may have been done is not done again elsewhere"
            assert (await transport.call(STATUS)).json() == {"n": 2}
            transport.close()

    asyncio.run(main())


def test_what_may_have_been_done_is_not_repeated() -> None:
    async def main() -> None:
        async with (
            FakeRegistry() as first,
            FakeRegistry(canned={("POST", "/txn"): {}, ("POST", "/renew"): {}}) as second,
        ):
            first.faults.swallow = lambda asked: True
            transport = Transport([first.url, second.url])
            with pytest.raises(Unreachable):
                await transport.call(UNSAFE)
            assert not second.asked
            await transport.call(Call("POST", "/renew", repeatable=True))
            assert len(second.asked) == 1
            transport.close()

    asyncio.run(main())


def test_when_none_answers_the_budget_is_shared() -> None:
    async def main() -> None:
        async with FakeRegistry() as first, FakeRegistry() as second:
            first.faults.delay_s = second.faults.delay_s = 30
            transport = Transport([first.url, second.url], budget_s=1.0)
            async with asyncio.timeout(120):
                with pytest.raises(Unreachable, match="none of 2 registries"):
                    await transport.call(STATUS)
            assert len(first.asked) == len(second.asked) == 1
            transport.close()

    asyncio.run(main())


def test_refusals_are_errors_and_end_the_search() -> None:
    async def main() -> None:
        gone = Refusal(404, "not_found", "no such thing")
        async with FakeRegistry(canned={("GET", "/status"): gone}) as first, FakeRegistry() as second:
            transport = Transport([first.url, second.url], token="s3cret")
            with pytest.raises(NotFound, match="no such thing"):
                await transport.call(STATUS)
            assert first.asked[0].headers["x-townhall-token"] == "s3cret"
            assert not second.asked
            transport.close()

    asyncio.run(main())


def test_streams_fail_over_and_are_refused_likewise() -> None:
    async def main() -> None:
        async with FakeRegistry() as first, FakeRegistry() as second:
            first.faults.refuse = lambda asked: Refusal(503, "stopping")
            transport = Transport([first.url, second.url])
            watch = Call("GET", "/watch", [("service", "a")])
            async with await transport.stream(watch) as stream:
                assert stream.status == 200
            second.faults.refuse = lambda asked: Refusal(401, "unauthenticated", "who?")
            with pytest.raises(Unauthenticated, match="who"):
                await transport.stream(watch)
            second.faults.refuse = lambda asked: Refusal(503, "stopping")
            with pytest.raises(Unavailable):
                await transport.stream(watch)
            await first.stop()
            await second.stop()
            with pytest.raises(Unreachable):
                await transport.stream(watch)
            transport.close()
            await first.start()
            await second.start()

    asyncio.run(main())


def test_garbage_is_said_to_be() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            transport = Transport(fake.url)
            fake.faults.garbage = b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n"
            with pytest.raises(PeerMisbehaved):
                await transport.call(STATUS)
            transport.close()

    asyncio.run(main())
    for body in (b"", b"nope", b"[]", b'{"a":"\xff"}'):
        with pytest.raises(PeerMisbehaved):
            decode(body, dict[str, Any])


def test_queries_and_parts() -> None:
    assert query_of(a=None, b=False, c="", d=True, e=0, f="x", g=["1", "2"]) == [
        ("d", "1"),
        ("e", "0"),
        ("f", "x"),
        ("g", "1"),
        ("g", "2"),
    ]
    assert part("a/b c%") == "a%2Fb%20c%25"
    assert part("a/b c", keep="/") == "a/b%20c"
    assert Call("GET", "/x", [("a b", "&")]).target == "/api/v1/x?a+b=%26"
