from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from serve_support import END, Client, Serving, get, serving, until

from townhall.core.live import Subscriber
from townhall.face import Pulled, Reply, Stream, Submit
from townhall.model.errors import NotFound
from townhall.model.limits import DUPLEX_PENDING_MAX

WEB = ("default", "", "web")
SUBSCRIBER = Subscriber("id", "name", "address", "native", 0)
BEGIN = get("/duplex", "Transfer-Encoding: chunked", method="POST")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def opened(server: Serving, request: bytes = get("/stream")) -> Client:
    client = await server.client()
    client.send(request)
    head = await client.head()
    assert head.status == 200
    return client


def test_a_stream_sends_what_is_pulled_at_its_start_and_after_each_change() -> None:
    async def test(server: Serving) -> None:
        server.face.pulled = [Pulled(b"snapshot")]
        client = await opened(server)
        assert await client.chunk() == b"snapshot"
        server.face.pulled = [None, Pulled(b"delta 1"), Pulled(b"delta 2")]
        for _ in range(3):
            server.hub.change()
            await asyncio.sleep(0.01)
        assert await client.chunk() == b"delta 1"
        assert await client.chunk() == b"delta 2"
        server.face.pulled = [END(b"the end")]
        server.hub.change()
        assert await client.chunk() == b"the end"
        assert await client.chunk() is None
        assert server.counters.streams == 0
        assert (await client.get("/hello")).status == 200, "a stream that ends properly leaves the connection"

    serving(test)


def test_errors_before_the_head_are_answers_and_after_it_cut_the_connection() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        server.face.pulled = [NotFound("no such service")]
        assert (await client.get("/stream")).status == 404
        server.face.pulled = [END(b"nothing to tell")]
        assert (await client.get("/stream")).body == b"nothing to tell"
        client.send(get("/stream", method="HEAD"))
        assert (await client.answer(bodyless=True)).headers["content-type"] == "text/event-stream"
        assert server.counters.streams == 0
        for error in (NotFound("gone"), ZeroDivisionError("a bug")):
            client = await opened(server)
            server.face.pulled = [error]
            server.hub.change()
            assert await client.rest() == b"", "no last chunk: the peer must not take it for the end"
        await until(lambda: server.counters.streams == 0)

    serving(test)


def test_a_token_that_expires_ends_the_stream_properly() -> None:
    async def test(server: Serving) -> None:
        server.hub.secrets.add("s3cret")
        client = await opened(server, get("/stream", "X-Token: s3cret"))
        server.hub.secrets.discard("s3cret")
        server.hub.change()
        assert await client.chunk() is None

    serving(test)


def test_streams_for_http_1_0_end_with_their_connection() -> None:
    async def test(server: Serving) -> None:
        server.face.pulled = [Pulled(b"one"), END(b"two")]
        client = await server.client()
        client.send(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head = await client.head()
        assert head.headers["connection"] == "close"
        await until(lambda: server.counters.streams)
        server.hub.change()
        assert await client.rest() == b"onetwo"

    serving(test)


def test_quiet_streams_beat() -> None:
    async def test(server: Serving) -> None:
        server.face.stream = Stream((), server.face.pull, heartbeat=b": beat\n\n", heartbeat_ms=100)
        client = await opened(server)
        for _ in range(3):
            assert await client.chunk() == b": beat\n\n"

    serving(test)


def test_subscribers_are_told_what_the_kernel_took() -> None:
    async def test(server: Serving) -> None:
        server.face.stream = Stream((), server.face.pull, subscriber=SUBSCRIBER, services=[WEB])
        server.face.pulled = [Pulled(b"one", {WEB: 7})]
        client = await opened(server)
        row = server.hub.subscriptions[0]
        assert await client.chunk() == b"one"
        assert row.revisions == {WEB: 7}
        server.face.pulled = [Pulled(b"", {WEB: 9})]
        server.hub.change()
        await until(lambda: row.revisions == {WEB: 9})
        client.cut()
        await until(lambda: row.closed == 1)

    serving(test)


def test_a_watcher_that_does_not_read_is_not_pulled_and_not_counted_as_told() -> None:
    async def test(server: Serving) -> None:
        server.face.stream = Stream((), server.face.pull, subscriber=SUBSCRIBER, services=[WEB])
        server.face.pulled = [Pulled(b"first", {WEB: 1})]
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            peer.connect(server.address)
            peer.setblocking(False)
            peer.send(get("/stream"))
            await until(lambda: server.hub.subscriptions)
            row = server.hub.subscriptions[0]
            await until(lambda: row.revisions == {WEB: 1})
            size = 8_000_000
            server.face.pulled = [Pulled(b"x" * size, {WEB: 2}), Pulled(b"last", {WEB: 3})]
            for _ in range(5):
                server.hub.change()
                await asyncio.sleep(0.02)
            assert len(server.face.pulled) == 1, "while it holds the large one, nothing more is pulled"
            assert row.revisions == {WEB: 1}
            loop, received = asyncio.get_running_loop(), b""
            while b"last" not in received[-20:]:
                received = received[-20:] + await loop.sock_recv(peer, 1_000_000)
            await until(lambda: row.revisions == {WEB: 3})
            assert server.face.pulled == []

    serving(test)


def test_a_watcher_that_never_reads_is_cut_off() -> None:
    async def test(server: Serving) -> None:
        server.face.pulled = [Pulled(b"x" * 8_000_000)]
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            peer.connect(server.address)
            peer.send(get("/stream"))
            await until(lambda: server.counters.streams == 1)
            await until(lambda: server.counters.streams == 0)
            assert server.counters.timed_out == 1

    serving(test, stream_stall_timeout_ms=200)


def test_both_directions_at_once() -> None:
    async def test(server: Serving) -> None:
        server.face.pulled = [Pulled(b"welcome")]
        client = await opened(server, BEGIN + chunk(b"early"))
        assert await client.chunk() == b"welcome"
        assert await client.chunk() == b"<early>"
        for word in (b"a", b"bc" * 10_000):
            client.send(chunk(word))
            answer = b""
            while not answer.endswith(b">"):
                answer += await client.chunk() or b"."
            assert answer.replace(b"><", b"") == b"<" + word + b">"
        server.face.pulled = [Pulled(b"news")]
        server.hub.change()
        assert await client.chunk() == b"news"
        client.send(b"0\r\n\r\n" + get("/hello"))
        assert await client.chunk() is None
        assert server.face.closed == [True]
        assert (await client.answer()).body == b'{"hello":"world"}'
        assert server.hub.submitted == ["gone"]

    serving(test)


def test_a_duplex_request_may_have_a_known_length_or_no_body() -> None:
    async def test(server: Serving) -> None:
        client = await opened(
            server, get("/duplex", "Content-Length: 6", "Expect: 100-continue", method="POST") + b"abc"
        )
        client.send(b"def" + get("/hello"))
        body = b"".join([part async for part in parts(client)])
        assert body == b"<abc><def>"
        assert (await client.answer()).status == 200
        client.send(get("/duplex", method="POST"))
        assert (await client.answer()).body == b""
        assert server.face.closed == [True, True]

    serving(test)


async def parts(client: Client) -> Any:
    while (part := await client.chunk()) is not None:
        yield part


@pytest.mark.parametrize("how", ["reset", "close", "bad chunk", "half close"])
def test_a_session_that_breaks_is_told_once(how: str) -> None:
    async def test(server: Serving) -> None:
        client = await opened(server, BEGIN)
        client.send(chunk(b"x"))
        assert await client.chunk() == b"<x>"
        if how == "reset":
            client.cut()
        elif how == "close":
            client.close()
        elif how == "half close":
            client.writer.write_eof()
        else:
            client.send(b"zz\r\n")
        await until(lambda: server.face.closed)
        await until(lambda: server.hub.submitted)
        assert server.face.closed == [False]
        assert server.hub.submitted == ["gone"]
        assert server.counters.streams == 0

    serving(test)


def test_answers_to_input_keep_its_order() -> None:
    async def test(server: Serving) -> None:
        def steps(data: bytes) -> Sequence[bytes | Submit]:
            found: list[bytes | Submit] = []
            for word in data.split():
                if word.isupper():
                    found.append(Submit((word,), lambda reader, results: Reply(200, b"done ")))  # type: ignore[arg-type]
                else:
                    found.append(word + b" ")
            return [*found, Submit((), lambda reader, results: Reply(200, b"; "))]

        server.face.steps = steps
        server.hub.hold = True
        client = await opened(server, BEGIN)
        client.send(chunk(b"a B c"))
        await until(lambda: len(server.hub.waiting) == 1)
        client.send(chunk(b"d E f"))
        await until(lambda: len(server.hub.waiting) == 2)
        server.hub.waiting.reverse()
        server.hub.release()
        client.send(b"0\r\n\r\n")
        assert b"".join([part async for part in parts(client)]) == b"a done c ; d done f ; "

    serving(test)


def test_the_end_waits_for_what_is_still_to_be_answered() -> None:
    async def test(server: Serving) -> None:
        server.face.steps = lambda data: [Submit((data,), lambda reader, results: Reply(200, b"done"))]  # type: ignore[arg-type]
        server.hub.hold = True
        client = await opened(server, BEGIN + chunk(b"x") + b"0\r\n\r\n" + get("/hello"))
        await until(lambda: len(server.hub.waiting) == 2)
        assert server.face.closed == [True]
        server.hub.release()
        assert b"".join([part async for part in parts(client)]) == b"done"
        assert (await client.answer()).status == 200

    serving(test)


def test_input_rests_while_too_many_answers_wait() -> None:
    async def test(server: Serving) -> None:
        server.face.steps = lambda data: [
            Submit((data,), lambda reader, results: Reply(200, b"done"))
            for _ in range(DUPLEX_PENDING_MAX)  # type: ignore[arg-type]
        ]
        server.hub.hold = True
        client = await opened(server, BEGIN)
        client.send(chunk(b"first"))
        await until(lambda: server.face.received)
        client.send(chunk(b"second"))
        await asyncio.sleep(0.05)
        assert server.face.received == [b"first"]
        server.hub.release()
        await until(lambda: server.face.received == [b"first", b"second"])
        server.hub.hold = False
        server.hub.release()
        client.send(b"0\r\n\r\n")
        assert b"".join([part async for part in parts(client)]) == b"done" * 2 * DUPLEX_PENDING_MAX

    serving(test)


def test_the_face_may_end_a_session() -> None:
    async def test(server: Serving) -> None:
        def steps(data: bytes) -> Sequence[bytes]:
            raise END(b"goodbye")

        server.face.steps = steps
        client = await opened(server, BEGIN + chunk(b"x"))
        assert await client.chunk() == b"goodbye"
        assert await client.chunk() is None
        assert await client.rest() == b"", "its body has not ended, so the connection does"
        assert server.face.closed == [True]
        server.face.pulled = [Pulled(b""), END(b"enough")]
        client = await opened(server, BEGIN)
        server.hub.change()
        assert await client.chunk() == b"enough"
        assert server.face.closed == [True, True]
        server.face.pulled = [NotFound("no")]
        answer = await server.ask(BEGIN)
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        assert server.face.closed == [True, True, True]

    serving(test)


def test_a_bug_while_receiving_cuts_the_session() -> None:
    async def test(server: Serving) -> None:
        for steps in (lambda data: 1 / 0, lambda data: [Submit((data,), lambda reader, results: 5)]):  # type: ignore[arg-type,return-value]
            server.face.closed.clear()
            server.face.steps = steps
            client = await opened(server, BEGIN + chunk(b"x"))
            assert await client.rest() == b"", "no last chunk"
            await until(lambda: server.face.closed == [False])
        assert server.counters.errors == 2

    serving(test)


def test_a_refusal_leaves_the_body_unread_and_ends_the_connection() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(
            get("/duplex?refuse", "Transfer-Encoding: chunked", method="POST") + chunk(b"GET /hello HTTP/1.1\r\n")
        )
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (403, "close")
        assert await client.rest() == b""
        assert server.face.closed == []

    serving(test)


def test_interests_that_grow_are_watched() -> None:
    async def test(server: Serving) -> None:
        interests: list[Any] = []
        server.face.stream = Stream(interests, server.face.pull)
        client = await opened(server, BEGIN)
        before = list(server.hub.tickets)

        def steps(data: bytes) -> Sequence[bytes]:
            interests.append(data)
            server.face.pulled = [Pulled(b"news of it")]
            return [b"ok"]

        server.face.steps = steps
        client.send(chunk(b"lease"))
        assert await client.chunk() == b"ok"
        assert await client.chunk() == b"news of it", "what happened to it before it was watched is not missed"
        assert len(server.hub.tickets) == 1
        assert server.hub.tickets != before
        server.face.pulled = [Pulled(b"more")]
        server.hub.change()
        assert await client.chunk() == b"more"

    serving(test)


def test_a_stream_that_has_more_is_pulled_without_a_wake_up() -> None:
    async def test(server: Serving) -> None:
        server.face.pulled = [Pulled(b"1", more=True), Pulled(b"2", more=True), END(b"3")]
        client = await opened(server)
        assert [part async for part in parts(client)] == [b"1", b"2", b"3"]

    serving(test)


def test_an_answer_may_outlive_its_input() -> None:
    async def test(server: Serving) -> None:
        server.face.outlives = True
        client = await opened(server, get("/duplex", "Content-Length: 3", method="POST") + b"abc")
        assert await client.chunk() == b"<abc>"
        server.face.pulled = [Pulled(b"later")]
        server.hub.change()
        assert await client.chunk() == b"later"
        assert server.face.closed == []
        client.close()
        await until(lambda: server.face.closed)
        assert server.face.closed == [False]

    serving(test)


def test_an_input_that_is_not_whole_ends_the_answer() -> None:
    def half() -> None:
        raise END(b"half")

    async def test(server: Serving) -> None:
        server.face.outlives, server.face.ended = True, lambda: None
        client = await opened(server, get("/duplex", "Content-Length: 3", method="POST") + b"abc")
        assert await client.chunk() == b"<abc>"
        client.cut()
        server.face.ended = half
        client = await opened(server, get("/duplex", "Content-Length: 3", method="POST") + b"abc")
        assert [part async for part in parts(client)] == [b"<abc>", b"half"]
        server.face.ended = lambda: 1 // 0  # type: ignore[assignment,return-value]
        client = await opened(server, get("/duplex", "Content-Length: 3", method="POST") + b"abc")
        assert await client.chunk() == b"<abc>"
        assert await client.rest() == b""
        assert server.counters.errors == 1

    serving(test)
