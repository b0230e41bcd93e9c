"""aiohttp sessions over a Consumer: balanced, repeated elsewhere, and counted until the answer is done with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from backends import Backend
from fake_registry import FakeRegistry
from raw_server import serving
from test_client_handle import backends

import townhall
from free_ports import free_port
from townhall.client.consumer import Consumer
from townhall.client.handle import ServiceHandle
from townhall.model.errors import NoInstance

Scene = Callable[[aiohttp.ClientSession, ServiceHandle, dict[str, Backend]], Awaitable[None]]


def play(scene: Scene, *names: str, **options: object) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            backends(fake, *names) as made,
            Consumer(fake.url, snapshot_directory=None, balancer="round_robin") as consumer,
            aiohttp.ClientSession(middlewares=[townhall.aiohttp.Balanced(consumer, **options)]) as session,  # type: ignore[arg-type]
        ):
            await scene(session, consumer["user"], made)

    asyncio.run(main())


async def text(session: aiohttp.ClientSession, url: str = "http://user/", **options: object) -> str:
    async with session.get(url, **options) as answer:  # type: ignore[arg-type]
        return await answer.text()


def test_calls_are_balanced_also_over_kept_connections() -> None:
    async def scene(session: aiohttp.ClientSession, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        assert Counter([await text(session, "http://user/x", params={"q": "1"}) for _ in range(6)]) == {"a": 3, "b": 3}
        assert set(made["a"].requests) == {"GET /x?q=1 HTTP/1.1"}
        async with session.post("http://user/", json={"n": 1}) as answer:
            assert answer.status == 200
        assert handle.chooser.tally.running == 0
        assert handle.chooser.tally.attempts == 7

    play(scene, "a", "b")


def test_one_that_dies_costs_no_call() -> None:
    async def scene(session: aiohttp.ClientSession, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        await text(session)
        await text(session)
        await made["a"].die()
        assert {await text(session) for _ in range(6)} == {"b"}
        assert handle.chooser.ejections

    play(scene, "a", "b")


def test_what_is_overloaded_is_asked_elsewhere() -> None:
    async def scene(session: aiohttp.ClientSession, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        made["a"].status = 503
        for _ in range(4):
            async with session.get("http://user/") as answer:
                assert answer.status == 200
        made["b"].status = 502
        async with session.get("http://user/") as answer:
            assert answer.status in {502, 503}
            assert await answer.text() in {"a", "b"}
        before = handle.chooser.tally.attempts
        async with session.post("http://user/", data=b"x") as answer:
            assert answer.status in {502, 503}

        async def body() -> AsyncIterator[bytes]:
            yield b"once"

        async with session.put("http://user/", data=body(), headers={"content-length": "4"}) as answer:
            assert answer.status in {502, 503}
        assert handle.chooser.tally.attempts == before + 2, "neither is repeated"
        assert handle.chooser.tally.running == 0

    play(scene, "a", "b")


def test_attempts_and_calls_have_their_time() -> None:
    async def scene(session: aiohttp.ClientSession, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        made["a"].hang = True
        assert {await text(session) for _ in range(3)} == {"b"}
        made["b"].hang = True
        with pytest.raises(asyncio.TimeoutError):
            await text(session, timeout=aiohttp.ClientTimeout(total=0.2))
        with pytest.raises(aiohttp.ServerTimeoutError):
            await text(session)
        assert handle.chooser.tally.running == 0

    play(scene, "a", "b", try_timeout=0.8)


def test_a_streamed_answer_counts_until_it_is_closed() -> None:
    async def main() -> None:
        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            await asyncio.Event().wait()

        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            serving(slow) as origin,
            Consumer(fake.url, snapshot_directory=None) as consumer,
            aiohttp.ClientSession(middlewares=[townhall.aiohttp.Balanced(consumer)]) as session,
        ):
            await fake.put("user", "a", port=origin.port)
            async with session.get("http://user/") as answer:
                assert await answer.content.read(3) == b"one"
                assert consumer["user"].chooser.tally.running == 1
                answer.close()
            assert consumer["user"].chooser.tally.running == 0

    asyncio.run(main())


def test_what_is_no_service_passes() -> None:
    async def scene(session: aiohttp.ClientSession, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        assert await text(session, f"http://127.0.0.1:{made['a'].port}/") == "a"
        assert await text(session, "http://user.svc/") in "ab"
        assert await text(session, "http://members/") in "ab"
        with pytest.raises(aiohttp.ClientConnectionError) as caught:
            await text(session, "http://nobody.svc/")
        assert isinstance(caught.value.__cause__, NoInstance)

    play(scene, "a", "b", suffix=".svc", services={"members": "user"})


def test_the_resolver_gives_all_and_aiohttp_tries_them() -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            backends(fake, "a") as made,
            Consumer(fake.url, snapshot_directory=None, balancer="round_robin") as consumer,
        ):
            await fake.put("user", "dead", port=free_port())
            resolver = townhall.aiohttp.Resolver(consumer)
            await consumer["user"].wait_callable(2)
            found = await resolver.resolve("user", 80)
            assert {one["port"] for one in found} >= {made["a"].port}
            assert len(found) == 2
            with pytest.raises(OSError, match="nobody"):
                await resolver.resolve("nobody")
            assert (await resolver.resolve("localhost", made["a"].port))[0]["port"] == made["a"].port
            connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
            async with aiohttp.ClientSession(connector=connector) as session:
                assert {await text(session) for _ in range(4)} == {"a"}

    asyncio.run(main())
