"""Instances of HTTP/2: here another gateway, whose instances speak HTTP/1.1, so that all four ways are gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from gateway_support import HELLO, Instance, Stand, get, read_message, run, until

from free_ports import free_port
from http2_client import ask, request
from townhall.gateway.answers import UNTIL_CLOSE
from townhall.gateway.config import read_config
from townhall.gateway.endpoint_http2 import EndpointHttp2
from townhall.gateway.http2_heads import answer_of, request_block
from townhall.gateway.outbound_http2 import OutboundHttp2
from townhall.gateway.problems import TABLE, said_in_grpc
from townhall.model import limits

BACK = 'via = "back"\n[[route]]\nservice = "static://{a}"\n'


@contextlib.asynccontextmanager
async def chain(instance: Instance, *, more: str = "") -> AsyncIterator[tuple[Stand, Stand]]:
    """A gateway that speaks HTTP/2 with a second one."""
    async with Stand(BACK, a=instance) as back:
        text = f'via = "front"\n[[route]]\nprotocol = "h2"\nservice = "static://127.0.0.1:{back.port}"\n' + more
        async with Stand(text) as front:
            yield front, back


def test_requests_and_answers() -> None:
    async def main() -> None:
        instance = Instance(HELLO.replace(b"\r\n\r\n", b"\r\nX: y\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"))
        async with chain(instance) as (front, back):
            answer = await front.ask(get("/a?b", "Cookie: c=1", "Connection: x", "X: hop"))
            assert answer == (
                b"HTTP/1.1 200 \r\nx: y\r\nset-cookie: a\r\nset-cookie: b\r\nvia: 1.1 back, 2 front\r\n"
                b"content-length: 5\r\n\r\nhello"
            )
            assert (await front.ask(get("/p", method="POST", body=b"body"))).endswith(b"hello")
            assert (
                await front.ask(get("/p", "Transfer-Encoding: chunked", method="PUT") + b"2\r\nab\r\n0\r\n\r\n")
            ).endswith(b"hello")
            assert (await asyncio.to_thread(ask, ("127.0.0.1", front.port), request("/q"))).body == b"hello"
            # All of them went over one connection.
            assert front.gateway.services[0].connections == 1
            assert len(back.gateway.plane.clients) == 1
        (first, _), (second, body), (third, chunks), _ = instance.seen
        assert first.startswith(b"GET /a?b HTTP/1.1\r\nhost: x\r\ncookie: c=1\r\n")
        assert b"\r\nvia: 1.1 front, 2 back\r\n" in first
        assert b"hop" not in first
        assert (b"content-length: 4" in second, body) == (True, b"body")
        assert (b"transfer-encoding: chunked" in third, chunks) == (True, b"2\r\nab\r\n0\r\n\r\n")

    run(main())


def test_answers_without_a_body() -> None:
    async def main() -> None:
        for raw, method, length in (
            (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", b""),
            (b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n", "GET", b""),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HEAD", b"content-length: 7\r\n"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", b"content-length: 0\r\n"),
        ):
            async with chain(Instance(raw)) as (front, _):
                answers = await front.raw(get(method=method) + get("/", "Connection: close", method=method))
                assert answers.count(b"HTTP/1.1 " + raw[9:12]) == 2
                assert length in answers
                assert answers.endswith(b"\r\n\r\n")

    run(main())


def test_interim_answers_and_trailers() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")

    async def main() -> None:
        async with chain(Instance(script=script)) as (front, _):
            reader, writer = await front.connect()
            writer.write(get("/", "TE: trailers", "Connection: TE"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 103 \r\nlink: a\r\n\r\n"
            assert b"transfer-encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
            writer.close()

    run(main())


def test_large_bodies_both_ways_at_the_others_pace() -> None:
    size = 256 * limits.PROXY_BUFFER_SIZE_MAX
    go = asyncio.Event()
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        assert len(await reader.readexactly(size)) == size
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(65_536))
            sent += 65_536
            await writer.drain()

    async def main() -> None:
        async with chain(Instance(script=script)) as (front, _):
            reader, writer = await front.connect()
            writer.write(get("/", f"Content-Length: {size}", method="POST"))
            before, given = -1, 0
            while before != given:
                before = given
                while given < size and writer.transport.get_write_buffer_size() < 65_536:
                    writer.write(bytes(65_536))
                    given += 65_536
                await asyncio.sleep(0.3)
            # Nobody has read it, and nobody holds it.
            assert given < size
            go.set()
            writer.write(bytes(size - given))
            await reader.readuntil(b"\r\n\r\n")
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < size
            assert len(await reader.readexactly(size)) == size
            writer.close()

    run(main())


def test_more_than_a_connection_takes() -> None:
    go = asyncio.Event()
    waiting = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        while True:
            await read_message(reader)
            waiting += 1
            await go.wait()
            writer.write(HELLO)

    async def main() -> None:
        many = limits.PROXY_STREAMS_MAX
        async with chain(Instance(script=script), more="max_connections = 1\nmax_pending = 2\n") as (front, _):
            tasks = [asyncio.create_task(front.ask(get())) for _ in range(2)]
            await until(lambda: waiting == 2)
            # One after the other, since only two may wait for the connection.
            while len(tasks) < many:
                tasks.append(asyncio.create_task(front.ask(get())))
                await until(lambda: waiting == len(tasks))
            service = front.gateway.services[0]
            tasks += [asyncio.create_task(front.ask(get())) for _ in range(2)]
            await until(lambda: service.pending == 2)
            assert b'"code":"overloaded"' in await front.ask(get())
            assert service.connections == 1
            go.set()
            assert all(one.endswith(b"hello") for one in await asyncio.gather(*tasks))

    run(main())


def test_what_was_not_looked_at_goes_elsewhere_whatever_the_method() -> None:
    async def main() -> None:
        async with chain(Instance()) as (front, back):
            assert (await front.ask(get())).endswith(b"hello")
            # It leaves, as an instance does that is restarted; the next one finds another connection.
            for client in tuple(back.gateway.plane.clients):
                client.leave()
            for _ in range(50):
                assert (await front.ask(get(method="POST", body=b"body"))).endswith(b"hello")
                await asyncio.sleep(0.005)
            for client in tuple(back.gateway.plane.clients):
                client.abort()
            for _ in range(5):
                assert (await front.ask(get())).endswith(b"hello")
            assert not front.gateway.plane.counters.failures
            (endpoint,) = front.gateway.services[0]._endpoints.values()
            assert isinstance(endpoint, EndpointHttp2)
            assert isinstance(endpoint._all[0], OutboundHttp2)
            endpoint.expire()
            assert endpoint.connections
            endpoint._all[0].idle_since -= limits.PROXY_INSTANCE_IDLE_MS / 1000 + 1
            endpoint.expire()
            await until(lambda: not endpoint.connections)
            assert (await front.ask(get())).endswith(b"hello")
            assert not endpoint.busy
            endpoint.forget_idle()
            await until(lambda: not endpoint.connections)

    run(main())


def test_faults_are_told() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    async def main() -> None:
        async with chain(Instance(script=cut)) as (front, _):
            answer = await front.raw(get())
            assert answer.endswith(b"\r\n\r\n3\r\nabc\r\n")
            assert front.gateway.plane.counters.failures[front.gateway.services[0].name, "reset"] == 1
        text = '[[route]]\nprotocol = "h2"\nretries = 0\nservice = "static://{a}"\n'
        async with Stand(text, a=Instance(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as stand:
            # It does not speak HTTP/2.
            assert b'"code":"reset"' in await stand.ask(get())
        gone = await Instance().start(free_port())
        await gone.stop()
        async with Stand(text, a=gone) as stand:
            assert b'"code":"connect_failed"' in await stand.ask(get())
            rows = request("/a", (b"content-type", b"application/grpc"), (b"te", b"trailers"), method="POST")
            answer = await asyncio.to_thread(ask, ("127.0.0.1", stand.port), rows, b"")
            (fields,) = answer.heads
            assert (fields[":status"], fields["grpc-status"], answer.body) == ("200", "14", b"")
            assert fields["grpc-message"].startswith("connect_failed: static://")

    run(main())


def test_a_connection_that_hangs_is_not_used_again() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_message(reader)
            if b"/slow" in head:
                await go.wait()
            elif b"/hang" in head:
                await asyncio.sleep(60)
            writer.write(HELLO)

    async def main() -> None:
        async with chain(Instance(script=script)) as (front, back):
            text = (
                f'[[route]]\nprotocol = "h2"\nservice = "static://127.0.0.1:{back.port}"\nretries = 0\n'
                'first_byte_timeout = "300ms"\n[[route]]\npath = "/slow"\nprotocol = "h2"\n'
                f'service = "static://127.0.0.1:{back.port}"\n'
            )
            front.gateway.route(read_config(text).routes)
            slow = asyncio.create_task(front.ask(get("/slow")))
            await until(lambda: front.gateway.services[0].requests)
            assert b'"code":"timeout"' in await front.ask(get("/hang"))
            assert (await front.ask(get("/again"))).endswith(b"hello")
            # The first one waits for its last stream.
            assert front.gateway.services[0].connections == 2
            go.set()
            assert (await slow).endswith(b"hello")
            await until(lambda: front.gateway.services[0].connections == 1)

    run(main())


@pytest.mark.parametrize("code", TABLE)
def test_every_answer_of_our_own_has_a_grpc_status(code: str) -> None:
    fields = dict(said_in_grpc(TABLE[code], "why"))
    expected = {"no_route": b"12", "unknown_service": b"12", "loop": b"13", "request_timeout": b"4", "timeout": b"4"}
    assert fields[b"grpc-status"] == expected.get(code, b"4" if code == "last_hop" else b"14")
    assert fields[b"grpc-message"] == code.encode() + b": why"


def test_heads() -> None:
    block = b"host: x\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\na: b\r\n\r\n"
    made = request_block(b"GET", b"/a", block, scheme=b"http", ends=False)
    assert made.fields.count(b"\0\x0a:authority\x01x") == 1
    assert made.fields.endswith(b"\0\x02te\x08trailers\0\x01a\x01b")
    assert request_block(b"GET", b"/a", block, scheme=b"http", ends=False) is made
    long = b"host: x\r\na: " + b"b" * limits.PROXY_MEMO_SIZE_MAX + b"\r\n\r\n"
    assert request_block(b"GET", b"/", long, scheme=b"http", ends=True).ends
    head = answer_of(200, [(b"content-length", b"5"), (b"via", b"1.1 a"), (b"x", b"y")], ended=False)
    assert (head.length, head.announced, head.via, head.onward) == (5, b"5", b"1.1 a", b"x: y\r\n")
    assert answer_of(200, [], ended=True).length == 0
    assert answer_of(200, [], ended=False).length == UNTIL_CLOSE
