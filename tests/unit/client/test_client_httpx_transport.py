"""httpx clients over a Consumer: balanced, repeated elsewhere, and counted until the answer is closed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from backends import Backend
from fake_registry import FakeRegistry, until
from raw_server import serving
from test_client_handle import backends
from threaded import registry_in_a_thread

import townhall
from townhall.client.consumer import Consumer
from townhall.client.handle import ServiceHandle
from townhall.model.errors import NoInstance

Scene = Callable[[httpx.AsyncClient, ServiceHandle, dict[str, Backend]], Awaitable[None]]
REFUSAL = b"HTTP/1.1 503 X\r\ntownhall-not-acted-on: stopping\r\ncontent-length: 0\r\n\r\n"


def play(scene: Scene, *names: str, **options: object) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            backends(fake, *names) as made,
            Consumer(fake.url, snapshot_directory=None, balancer="round_robin") as consumer,
            httpx.AsyncClient(transport=townhall.httpx.Transport(consumer, **options)) as client,  # type: ignore[arg-type]
        ):
            await scene(client, consumer["user"], made)

    asyncio.run(main())


def test_calls_are_balanced_and_carry_what_the_caller_said() -> None:
    async def scene(client: httpx.AsyncClient, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        answers = [await client.get("http://user/users/1", params={"q": "a b"}) for _ in range(6)]
        assert Counter(one.text for one in answers) == {"a": 3, "b": 3}
        assert set(made["a"].requests) == {"GET /users/1?q=a+b HTTP/1.1"}
        assert answers[0].extensions["townhall"].id == answers[0].text
        assert (await client.post("townhall://user/users", json={"n": 1})).status_code == 200
        assert {'POST /users HTTP/1.1 {"n":1}'} & {*made["a"].requests, *made["b"].requests}
        assert handle.chooser.tally.running == 0
        assert handle.chooser.tally.attempts == 7

    play(scene, "a", "b")


def test_one_that_dies_costs_no_call_and_is_left_out_and_reported() -> None:
    async def scene(client: httpx.AsyncClient, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        await client.get("http://user/")
        await made["a"].die()
        assert {(await client.get("http://user/")).text for _ in range(6)} == {"b"}
        assert (await client.post("http://user/", content=b"x")).text == "b", "refused connections are safe to repeat"
        assert handle.chooser.tally.failures["connect"] == 1
        assert handle.chooser.ejections

    play(scene, "a", "b")


def test_what_is_overloaded_is_asked_elsewhere_and_its_answer_is_the_last_word() -> None:
    async def scene(client: httpx.AsyncClient, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        made["a"].status = 503
        assert {(await client.get("http://user/")).status_code for _ in range(4)} == {200}
        made["b"].status = 502
        answer = await client.get("http://user/")
        assert answer.status_code in {502, 503}
        assert answer.text in {"a", "b"}
        before = handle.chooser.tally.attempts
        assert (await client.post("http://user/")).status_code in {502, 503}
        assert handle.chooser.tally.attempts == before + 1, "a POST that may have been acted on is not repeated"
        assert handle.chooser.tally.running == 0

    play(scene, "a", "b")


def test_a_refusal_that_says_so_is_repeated_whatever_the_method() -> None:
    async def main() -> None:
        bodies: list[bytes] = []

        async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            bodies.append(await reader.readexactly(4))
            writer.write(REFUSAL)
            await writer.drain()

        async with (
            FakeRegistry() as fake,
            serving(refusing) as origin,
            Consumer(fake.url, snapshot_directory=None) as consumer,
            httpx.AsyncClient(transport=townhall.httpx.Transport(consumer)) as client,
            Backend("good") as good,
        ):
            await fake.put("user", "bad", port=origin.port, weight=1000.0)
            await fake.put("user", "good", port=good.port, weight=0.001)
            await consumer["user"].wait_callable(2)
            assert (await client.post("http://user/", content=b"once")).text == "good"
            assert bodies == [b"once"]
            # The SDK's own client follows the same word.
            consumer["user"].chooser.ejections.retain(())
            consumer["user"]._rebuild()
            assert (await consumer["user"].request("POST", "/", body=b"once")).text == "good"
            assert bodies == [b"once"] * 2

    asyncio.run(main())


def test_attempts_and_calls_have_their_time() -> None:
    async def scene(client: httpx.AsyncClient, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        made["a"].hang = True
        options = {"townhall": {"try_timeout": 0.8}}
        assert {(await client.get("http://user/", extensions=options)).text for _ in range(3)} == {"b"}
        made["b"].hang = True
        with pytest.raises(httpx.TimeoutException):
            await client.get("http://user/", timeout=0.2)
        with pytest.raises(httpx.ReadTimeout):
            await client.get("http://user/", timeout=120, extensions={"townhall": {"timeout": 0.2}})
        assert handle.chooser.tally.failures["timeout"] >= 3
        assert handle.chooser.tally.running == 0

    play(scene, "a", "b")


def test_a_streamed_answer_counts_until_it_is_closed() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
                await go.wait()
                writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
                await writer.drain()

        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            serving(slow) as origin,
            Consumer(fake.url, snapshot_directory=None, balancer="least_outstanding") as consumer,
            httpx.AsyncClient(transport=townhall.httpx.Transport(consumer)) as client,
        ):
            await fake.put("user", "a", port=origin.port)
            tally = consumer["user"].chooser.tally
            async with client.stream("GET", "http://user/") as answer:
                pieces = answer.aiter_bytes()
                assert await anext(pieces) == b"one"
                assert tally.running == 1
                go.set()
                assert b"".join([piece async for piece in pieces]) == b"two"
            assert tally.running == 0
            go.clear()
            async with client.stream("GET", "http://user/") as answer:
                assert tally.running == 1
            assert tally.running == 0, "closed before its end"

    asyncio.run(main())


def test_a_stream_that_breaks_is_reported_and_raised() -> None:
    async def main() -> None:
        async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            await writer.drain()

        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            serving(breaking) as origin,
            Consumer(fake.url, snapshot_directory=None) as consumer,
            httpx.AsyncClient(transport=townhall.httpx.Transport(consumer)) as client,
        ):
            await fake.put("user", "a", port=origin.port)
            with pytest.raises(httpx.TransportError):
                await client.get("http://user/")
            assert consumer["user"].chooser.tally.failures["reset"] == 1
            assert consumer["user"].chooser.tally.running == 0
            await until(lambda: fake.reports)

    asyncio.run(main())


def test_a_body_that_exists_once_is_not_sent_twice() -> None:
    async def scene(client: httpx.AsyncClient, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        made["a"].status = made["b"].status = 503

        async def body() -> AsyncIterator[bytes]:
            yield b""

        answer = await client.put("http://user/", content=body(), headers={"content-length": "0"})
        assert answer.status_code == 503
        assert handle.chooser.tally.attempts == 1
        await client.put("http://user/", content=b"x")
        assert handle.chooser.tally.attempts == 1 + 3

    play(scene, "a", "b")


def test_what_is_no_service_passes() -> None:
    async def scene(client: httpx.AsyncClient, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        port = made["a"].port
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "a"
        assert (await client.get("http://user.svc/")).text in "ab"
        assert (await client.get("http://members/")).text in "ab"
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://user:{port}/")
        with pytest.raises(httpx.ConnectError) as caught:
            await client.get("http://nobody.svc/")
        assert isinstance(caught.value.__cause__, NoInstance)

    play(scene, "a", "b", suffix=".svc", services={"members": "user"})


def test_the_caller_s_own_faults_are_nobody_else_s() -> None:
    async def scene(client: httpx.AsyncClient, handle: ServiceHandle, made: dict[str, Backend]) -> None:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("gopher://user/")
        assert not handle.chooser.ejections

    play(scene, "a")


def test_without_an_event_loop() -> None:
    with (
        registry_in_a_thread("a", "b") as (url, made),
        townhall.blocking.Consumer(url, snapshot_directory=None, balancer="round_robin") as consumer,
        httpx.Client(transport=townhall.httpx.BlockingTransport(consumer, retries=2)) as client,
    ):
        assert Counter(client.get("http://user/").text for _ in range(4)) == {"a": 2, "b": 2}
        made["a"].status = 503
        assert {client.get("http://user/").text for _ in range(4)} == {"b"}
        made["b"].status = 503
        assert client.get("http://user/").status_code == 503
        made["a"].status = made["b"].status = 200
        made["a"].hang = True
        assert {client.get("http://user/", extensions={"townhall": {"try_timeout": 0.8}}).text for _ in range(2)} == {
            "b"
        }
        made["a"].hang = False
        tally = consumer["user"]._handle.chooser.tally
        with client.stream("GET", "http://user/") as answer:
            assert tally.running == 1
            answer.read()
        assert tally.running == 0
        with pytest.raises(httpx.ConnectError):
            client.get("http://nobody/")
        with pytest.raises(httpx.ConnectError):
            client.get("http://127.0.0.1:1/")
