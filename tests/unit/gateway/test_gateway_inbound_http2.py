"""Clients of HTTP/2: the same exchanges as over HTTP/1.1, side by side on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Iterator

import pytest
from gateway_support import HELLO, Instance, Stand, get, held, read_message, run, until

from free_ports import free_port
from http2_client import PING, PREFACE, SETTINGS, Answer, Http2Client, ask, frame, request
from townhall.gateway.answers import AnswerReader
from townhall.gateway.entry import Entry
from townhall.gateway.http2_heads import Http2Heads, answer_block, trailer_block
from townhall.gateway.inbound_http2 import InboundHttp2
from townhall.gateway.inbound_stream import InboundStream
from townhall.gateway.options import GatewayOptions
from townhall.gateway.requests import RequestHeads
from townhall.model import limits
from townhall.model.errors import Misuse
from townhall.wire.http2.heads import head_of_fields

ONE = '[[route]]\nservice = "static://{a}"\n'


def place(stand: Stand) -> tuple[str, int]:
    return "127.0.0.1", stand.port


async def asked(stand: Stand, rows: list[tuple[bytes, bytes]], body: bytes | None = None) -> Answer:
    return await asyncio.to_thread(ask, place(stand), rows, body)


@contextlib.contextmanager
def connected(stand: Stand, **options: int) -> Iterator[Http2Client]:
    client = Http2Client(place(stand), **options)
    try:
        yield client
    finally:
        client.close()


def test_requests_and_answers_are_those_of_http1() -> None:
    async def main() -> None:
        instance = Instance(HELLO.replace(b"\r\n\r\n", b"\r\nConnection: x\r\nX: y\r\nSet-Cookie: a\r\n\r\n"))
        async with Stand('via = "gw"\n' + ONE, a=instance) as stand:
            rows = request("/a?b=c", (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"te", b"trailers"))
            answer = await asked(stand, rows)
            assert answer.heads == [{":status": "200", "set-cookie": "a", "via": "1.1 gw", "content-length": "5"}]
            assert (answer.body, answer.ended) == (b"hello", True)
            await asked(stand, request("/p", method="POST"), b"body")
            await asked(stand, request("/p", (b"content-length", b"4"), method="PUT"), b"body")
        heads = [head.partition(b"\r\n")[0] for head, _ in instance.seen]
        assert heads == [b"GET /a?b=c HTTP/1.1", b"POST /p HTTP/1.1", b"PUT /p HTTP/1.1"]
        first, chunked, sized = (head for head, _ in instance.seen)
        assert b"\r\nhost: x\r\ncookie: a=1; b=2\r\n" in first
        assert b"\r\nvia: 2 gw\r\nte: trailers\r\nconnection: te\r\n" in first
        assert b"\r\ntransfer-encoding: chunked\r\n" in chunked
        assert instance.seen[1][1] == b"4\r\nbody\r\n0\r\n\r\n"
        assert b"\r\ncontent-length: 4\r\n" in sized
        assert instance.seen[2][1] == b"body"

    run(main())


def test_requests_do_not_wait_for_each_other() -> None:
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_message(reader)
            if b"/slow" in head:
                await go.wait()
            writer.write(HELLO)

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            with connected(stand) as client:
                slow = client.begin(request("/slow"))
                others = [client.begin(request(f"/{number}")) for number in range(20)]
                for one in others:
                    assert (await asyncio.to_thread(client.wait, one)).body == b"hello"
                assert not client.answers[slow].ended
                go.set()
                assert (await asyncio.to_thread(client.wait, slow)).body == b"hello"

    run(main())


def test_requests_at_the_same_time_are_bounded() -> None:
    go = asyncio.Event()

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=held(go))) as stand:
            with connected(stand) as client:
                streams = [client.begin(request()) for _ in range(limits.PROXY_STREAMS_MAX + 1)]
                # REFUSED_STREAM: nothing was done with it.
                assert (await asyncio.to_thread(client.wait, streams.pop())).reset == 7
                go.set()
                for one in streams:
                    assert (await asyncio.to_thread(client.wait, one)).body == b"hello"

    run(main())


def test_our_own_answers() -> None:
    async def main() -> None:
        gone = await Instance().start(free_port())
        await gone.stop()
        text = '[[route]]\nhost = "x"\nservice = "static://{a}"\nretries = 0\n'
        async with Stand(text, a=gone) as stand:
            answer = await asked(stand, request())
            assert (answer.status, answer.heads[0]["content-type"]) == ("502", "application/problem+json")
            assert b'"code":"connect_failed"' in answer.body
            assert (await asked(stand, request(method="HEAD"))).body == b""
            assert (await asked(stand, [*request()[:3], (b":authority", b"y")])).status == "404"
            last = await asked(stand, request("/", (b"max-forwards", b"0"), method="OPTIONS"))
            assert (last.heads, last.body) == ([{":status": "204"}], b"")
            assert stand.gateway.plane.counters.problems["connect_failed"] == 2
        async with Stand(ONE + "body_size_max = 3\n", a=Instance()) as stand:
            for rows in (request(method="PUT"), request("/", (b"content-length", b"4"), method="PUT")):
                assert (await asked(stand, rows, b"four")).status == "413"
            assert (await asked(stand, request(method="PUT"), b"fou")).status == "200"

    run(main())


@pytest.mark.parametrize("size", [1, limits.PROXY_HOLD_SIZE_MAX * 4])
def test_answers_wait_for_the_clients_windows(size: int) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        async with Stand(ONE + 'idle_timeout = "700ms"\n', a=Instance(answer)) as stand:
            with connected(stand, window=0) as client:
                stream = client.begin(request())
                while not client.answers[stream].heads:
                    await asyncio.to_thread(client.read)
                if size > limits.PROXY_HOLD_SIZE_MAX:
                    # Nothing is taken for so long that it is cut off, and nobody is blamed.
                    assert (await asyncio.to_thread(client.wait, stream)).reset == 2
                    assert not stand.gateway.plane.counters.failures
                    assert stand.gateway.plane.counters.problems["slow_client"] == 1
                else:
                    client.opened(stream, size)
                    assert (await asyncio.to_thread(client.wait, stream)).body == bytes(size)

    run(main())


def test_bodies_wait_for_the_instance() -> None:
    go = asyncio.Event()
    size = 8 * (limits.PROXY_STREAM_WINDOW_SIZE + limits.PROXY_BUFFER_SIZE_MAX)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        await go.wait()
        writer.transport.resume_reading()
        await reader.readexactly(size)
        writer.write(HELLO)

    class Patient(Http2Client):
        """Sends as much as its windows allow."""

        window = limits.PROXY_STREAM_WINDOW_SIZE

        def pour(self, stream: int, left: int) -> int:
            while left and self.window:
                step = min(left, self.window, 16_384)
                self.window -= step
                left -= step
                self.data(stream, bytes(step), ended=not left)
            return left

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            client = Patient(place(stand))
            stream = client.begin(request("/", (b"content-length", b"%d" % size), method="POST"), ended=False)
            left = client.pour(stream, size)
            opened = 0

            def take() -> None:
                nonlocal opened
                head = client._take(9)
                assert head is not None
                payload = client._take(int.from_bytes(head[:3])) or b""
                if head[3] == 8 and head[5:] == struct.pack(">I", stream):
                    client.window += int.from_bytes(payload)
                    opened += 1
                elif head[3] == 0:
                    client.answers[stream].body += payload

            service = stand.gateway.services[0]
            await until(lambda: service.connections)
            go.set()
            while left:
                await asyncio.to_thread(take)
                left = client.pour(stream, left)
            while client.answers[stream].body != b"hello":
                await asyncio.to_thread(take)
            assert opened > 4
            client.close()

    run(main())


def test_a_client_that_takes_its_request_back() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        assert await reader.read() == b""
        gone.set()

    gone = asyncio.Event()

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            with connected(stand) as client:
                stream = client.begin(request())
                service = stand.gateway.services[0]
                await until(lambda: service.requests and service.connections)
                (one,) = stand.gateway.plane.clients
                assert isinstance(one, InboundHttp2)
                assert isinstance(one.wire.streams[stream].owner, InboundStream)
                client.cancel(stream)
                await gone.wait()
                await until(lambda: not service.requests)
            await until(lambda: not stand.gateway.plane.clients)
            assert stand.gateway.plane.counters.routes["/"].classes[4] == 1

    run(main())


def test_a_client_that_takes_back_most_of_its_requests() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    def rapid(client: Http2Client) -> None:
        try:
            for _ in range(limits.PROXY_CANCELLED_MAX + 10):
                client.cancel(client.begin(request()))
            while not client.closed:
                client.read()
        except OSError:
            client.closed = True

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            with connected(stand) as client:
                await asyncio.to_thread(rapid, client)
                assert client.closed
                assert client.goaway in (11, None)
            assert stand.gateway.plane.counters.routes["/"].classes[4] > limits.PROXY_CANCELLED_MAX

    run(main())


def test_an_answer_that_breaks_off_resets_its_stream() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            answer = await asked(stand, request())
            assert (answer.status, answer.body, answer.reset, answer.ended) == ("200", b"abc", 2, False)

    run(main())


def test_interim_answers_and_trailers_pass() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_message(reader)
            writer.write(
                b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            writer.write(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n")

    async def main() -> None:
        async with Stand('via = "gw"\n' + ONE, a=Instance(script=script)) as stand:
            answer = await asked(stand, request("/", (b"te", b"trailers")))
            assert answer.heads == [
                {":status": "103", "link": "a"},
                {":status": "200", "via": "1.1 gw"},
                {"x-sum": "1"},
            ]
            assert len((await asked(stand, request())).heads) == 2

    run(main())


def test_an_early_answer_ends_the_request() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HELLO)

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            with connected(stand) as client:
                stream = client.begin(request(method="POST"), ended=False)
                answer = await asyncio.to_thread(client.wait, stream)
                assert (answer.status, answer.body) == ("200", b"hello")
                while answer.reset is None:
                    await asyncio.to_thread(client.read)
                assert answer.reset == 0

    run(main())


def test_the_first_bytes_tell() -> None:
    async def main() -> None:
        async with Stand(ONE + "", a=Instance()) as stand:
            assert (await stand.ask(get("/", method="PUT"))).endswith(b"hello")
            reader, writer = await stand.connect()
            for byte in PREFACE + frame(SETTINGS, 0, 0):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            writer.write(frame(PING, 0, 0, b"12345678"))
            await reader.readuntil(b"12345678")
            writer.close()
            # Who has said nothing yet is let go when the gateway leaves.
            silent, writer = await stand.connect()
            await until(lambda: any(isinstance(one, Entry) for one in stand.gateway.plane.clients))
            await stand.gateway.stop()
            assert await silent.read() == b""
            writer.close()
        async with Stand("http2 = false\n" + ONE, a=Instance()) as stand:
            assert (await stand.raw(PREFACE)).startswith(b"HTTP/1.1 505 ")
        async with Stand('client_idle = "50ms"\n' + ONE, a=Instance()) as stand:
            assert await stand.raw(b"") == b""
            with connected(stand) as client:
                await asyncio.to_thread(client.wait, client.begin(request()))
                while not client.closed:
                    await asyncio.to_thread(client.read)
                assert client.goaway == 0
        async with Stand("connections_max = 1\n" + ONE, a=Instance()) as stand:
            _, writer = await stand.connect()
            await until(lambda: stand.gateway.plane.clients)
            assert (await stand.raw(b"")).startswith(b"HTTP/1.1 503 ")
            writer.close()

    run(main())


def test_leaving_lets_what_runs_come_to_its_end() -> None:
    go = asyncio.Event()

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=held(go))) as stand:
            with connected(stand) as client:
                stream = client.begin(request())
                service = stand.gateway.services[0]
                await until(lambda: service.requests)
                stopping = asyncio.create_task(stand.gateway.stop())
                while client.goaway is None:
                    await asyncio.to_thread(client.read)
                go.set()
                assert (await asyncio.to_thread(client.wait, stream)).body == b"hello"
                while not client.closed:
                    await asyncio.to_thread(client.read)
                await stopping

    run(main())


def test_heads_are_remembered_and_large_ones_refused() -> None:
    heads = Http2Heads(RequestHeads(target_size_max=100), header_size_max=500)
    head = head_of_fields(request())
    first = heads.read(head, b"", ended=True)
    assert heads.read(head, b"", ended=True) is first
    assert heads.read(head, b"", ended=False).fields.length == -1
    timed = heads.read(head, b"10S", ended=False)
    assert timed.fields.by_name[b"grpc-timeout"] == b"10S"
    for rows, varying, status in (
        (request("/", (b"a", bytes(500))), b"", 431),
        (request(), b"1\r\nx: y", 400),
        (request("/" + "a" * 100), b"", 414),
    ):
        with pytest.raises(Misuse) as refused:
            heads.read(head_of_fields(rows), varying, ended=True)
        assert refused.value.fields["http_status"] == status


def test_blocks_of_answers() -> None:
    assert trailer_block(b"Grpc-Status: 0\r\n").fields == b"\0\x0bgrpc-status\x010"
    reader = AnswerReader(GatewayOptions())
    reader.expect(b"HEAD")
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    head = reader.head()
    assert head is not None
    made = answer_block(head, 0, name=b"gw", ends=True)
    assert made.ends
    assert made.fields.endswith(b"\0\x0econtent-length\x017")
    assert answer_block(head, 0, name=b"gw", ends=True) is made
    assert answer_block(head, 0, name=b"other", ends=True) is not made
