from __future__ import annotations

import asyncio
import socket

import pytest
from serve_support import Client, FakeFace, FakeHub, Serving, get, post, run_loop, serving, until

from townhall.face import Pulled, Stream
from townhall.model.limits import LISTEN_BACKLOG_COUNT
from townhall.serve.options import HttpOptions
from townhall.serve.server import HttpServer


def test_several_listeners_of_both_families() -> None:
    async def test() -> None:
        server = HttpServer(FakeFace(), FakeHub())
        four = await server.start("127.0.0.1", 0)
        six = await server.start("::1", 0)
        also = await server.start("127.0.0.2", four[1])
        assert (four[0], six[0], also) == ("127.0.0.1", "::1", ("127.0.0.2", four[1]))
        for address in (four, six, also):
            client = Client(*await asyncio.open_connection(*address))
            assert (await client.get("/hello")).status == 200
            client.cut()
        await server.stop(100)
        for address in (four, six, also):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)

    run_loop(test())


def test_the_peer_of_an_ipv6_connection_has_brackets() -> None:
    async def test() -> None:
        face = FakeFace()
        server = HttpServer(face, FakeHub(), HttpOptions())
        client = Client(*await asyncio.open_connection(*await server.start("::1", 0)))
        await client.get("/hello")
        assert face.calls[0].peer.startswith("[::1]:")
        client.cut()
        await server.stop(100)

    run_loop(test())


def test_an_address_in_use_is_an_error_and_leaves_nothing_open() -> None:
    async def test() -> None:
        server = HttpServer(FakeFace(), FakeHub())
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
            await server.start("127.0.0.1", taken.getsockname()[1])
        await server.stop(0)

    run_loop(test())
    assert LISTEN_BACKLOG_COUNT >= 1_024


def test_a_graceful_stop_answers_what_is_in_flight_and_releases_what_waits() -> None:
    async def test(server: Serving) -> None:
        server.face.stream = Stream((), server.face.pull, leaving=b"leaving\n")
        server.face.pulled = [Pulled(b"hello")]
        idle, parked, streaming, submitting, fresh, session = [await server.client() for _ in range(6)]
        assert (await idle.get("/hello")).status == 200
        parked.send(get("/park"))
        streaming.send(get("/stream"))
        await streaming.head()
        assert await streaming.chunk() == b"hello"
        session.send(get("/duplex", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n")
        await session.head()
        assert await session.chunk() == b"<x>"
        server.hub.hold = True
        submitting.send(post("/submit", b"a"))
        await until(lambda: server.hub.waiting and server.counters.parked and server.counters.open == 6)

        stopping = asyncio.create_task(server.server.stop(10_000))
        answer = await parked.answer()
        assert (answer.body, answer.headers["connection"]) == (b"expired", "close")
        assert await streaming.chunk() == b"leaving\n"
        assert await streaming.chunk() is None
        assert await session.chunk() == b"leaving\n"
        assert await session.chunk() is None
        for client in (idle, parked, streaming, fresh, session):
            assert await client.rest() == b""
        assert not stopping.done(), "the write is still waited for"
        server.hub.release()
        answer = await submitting.answer()
        assert (answer.body, answer.headers["connection"]) == (b"a@1", "close")
        assert await submitting.rest() == b""
        await stopping
        assert server.counters.open == 0
        assert server.hub.submitted == ["a"], "it is we who left: no session counts as broken"
        with pytest.raises(ConnectionRefusedError):
            await server.client()

    serving(test)


def test_a_request_that_is_being_read_is_still_answered() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(post("/echo", b"abc")[:-1])
        await until(lambda: server.counters.received_bytes)
        stopping = asyncio.create_task(server.server.stop(10_000))
        await asyncio.sleep(0.05)
        client.send(b"c" + get("/hello"))
        answer = await client.answer()
        assert answer.body.endswith(b"abc")
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""
        await stopping

    serving(test)


def test_what_does_not_end_within_the_grace_is_cut() -> None:
    async def test(server: Serving) -> None:
        server.hub.hold = True
        submitting, half = await server.client(), await server.client()
        submitting.send(post("/submit", b"a"))
        half.send(b"GET /hel")
        await until(lambda: server.hub.waiting and server.counters.received_bytes > 60)
        await server.server.stop(50)
        assert server.counters.open == 0
        server.hub.release()
        assert server.counters.dropped == 1
        assert await submitting.rest() == await half.rest() == b""

    serving(test)


def test_a_park_that_comes_while_stopping_does_not_wait() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/park")[:-2])
        await until(lambda: server.counters.received_bytes)
        stopping = asyncio.create_task(server.server.stop(10_000))
        await asyncio.sleep(0.05)
        client.send(b"\r\n")
        assert (await client.answer()).body == b"expired"
        await stopping

    serving(test)


def test_many_parked_reads_are_released_in_slices() -> None:
    async def test(server: Serving) -> None:
        clients = [await server.client() for _ in range(600)]
        for client in clients:
            client.send(get("/park"))
        await until(lambda: server.counters.parked == 600)
        stopping = asyncio.create_task(server.server.stop(10_000))
        answers = await asyncio.gather(*(client.answer() for client in clients))
        assert {answer.body for answer in answers} == {b"expired"}
        await stopping

    serving(test)


def test_counters_add_up() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        sent = get("/hello") + get("/nowhere") + get("/empty")
        client.send(sent)
        for _ in range(3):
            await client.answer()
        counters = server.counters
        assert (counters.successful, counters.refused_client, counters.failed_server) == (2, 1, 0)
        assert counters.received_bytes == len(sent)
        assert counters.sent_bytes > 200
        assert (counters.accepted, counters.open) == (1, 1)

    serving(test)
