from __future__ import annotations

import asyncio
import contextlib
import socket
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from serve_support import Answer, Serving, get, post, run_loop, serving, until

from townhall.core import Outcome
from townhall.face import Reply
from townhall.model.limits import UNSENT_IN_KERNEL_SIZE_MAX

SEQUENCE = (
    get("/hello")
    + post("/echo", b"first")
    + get("/names/a%2Fb?x=1")
    + get("/echo", "Transfer-Encoding: chunked", method="POST")
    + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
    + get("/nowhere")
    + b"\r\n"
    + get("/hello", method="HEAD")
    + post("/submit", b"a refuse b")
    + get("/cached")
    + get("/cached")
    + get("/echo", "Content-Length: 4", "Expect: 100-continue", "Connection: close", method="POST")
    + b"last"
)
STATUSES = [200, 200, 200, 200, 404, 200, 200, 200, 200, 200]


def strip(answers: bytes) -> bytes:
    """Without what the clock says, and without 100 Continue, which depends on when the body came."""
    lines = answers.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"Date:"))


async def talk(server: Serving, pieces: list[bytes]) -> bytes:
    client = await server.client()
    for piece in pieces:
        client.send(piece)
        await asyncio.sleep(0)
        await client.writer.drain()
    return strip(await client.rest())


def cut(data: bytes, edges: list[int]) -> list[bytes]:
    ends = [0, *sorted(edges), len(data)]
    return [data[a:b] for a, b in pairwise(ends) if a < b]


def test_answers_come_in_order_and_each_one_once() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(SEQUENCE)
        answers = [await client.answer(bodyless=index == 5) for index in range(len(STATUSES))]
        assert [answer.status for answer in answers] == STATUSES
        assert answers[1].body == b"POST /echo {} {} first"
        assert answers[2].body == b"GET /names/a/b {'name': 'a/b'} {'x': ['1']} "
        assert answers[3].body.endswith(b"abcde")
        assert answers[5].headers["content-length"] == "17"
        assert answers[6].body == b"a@1,not_found,b@3"
        assert answers[9].headers["connection"] == "close"
        assert answers[9].body.endswith(b"last")
        assert await client.rest() == b""
        assert server.counters.cached == 1

    serving(test)


def test_however_the_requests_are_cut_the_answers_are_the_same() -> None:
    async def test(server: Serving) -> None:
        async def fresh(pieces: list[bytes]) -> bytes:
            server.hub.position = 0
            return await talk(server, pieces)

        whole = await fresh([SEQUENCE])
        assert whole.count(b"HTTP/1.1 ") == len(STATUSES)
        assert await fresh(cut(SEQUENCE, list(range(len(SEQUENCE))))) == whole, "byte by byte"
        for step in (2, 3, 5, 17, 100):
            assert await fresh(cut(SEQUENCE, list(range(0, len(SEQUENCE), step)))) == whole

    serving(test)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, len(SEQUENCE)), max_size=10))
def test_wherever_the_requests_are_cut_the_answers_are_the_same(edges: list[int]) -> None:
    async def test(server: Serving) -> None:
        whole = await talk(server, [SEQUENCE])
        server.hub.position = 0
        server.hub.change()
        server.hub.position = 0
        assert await talk(server, cut(SEQUENCE, edges)) == whole

    serving(test)


def test_a_request_cut_short_at_any_byte_gets_no_answer_and_changes_nothing() -> None:
    async def test(server: Serving) -> None:
        for request in (
            post("/submit", b"never"),
            get("/submit", "Transfer-Encoding: chunked", method="POST") + b"5\r\nnever\r\n0\r\n\r\n",
        ):
            for end in range(len(request)):
                client = await server.client()
                client.send(request[:end])
                client.writer.write_eof()
                assert await client.rest() == b"", request[:end]
                client.close()
        assert server.hub.submitted == []
        assert (await server.ask(post("/submit", b"now"))).body == b"now@1"

    serving(test)


BAD = [
    (b"GET /hello HTTP/1.1\nHost: x\n\n", 400),
    (b"GET /hello HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
    (b"GET /hello HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400),
    (b"GET /hello HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
    (b"GET /hello HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    (b"GET /hello HTTP/1.1\r\nHost: x\r\nB\x00d: x\r\n\r\n", 400),
    (b"GET /hello HTTP/1.1\r\n\r\n", 400),
    (b"GET /hello HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
    (b"hello\r\n\r\n", 400),
    (b"\r\n\r\n\r\n\r\n", 400),
    (get("/%zz"), 400),
    (get("/%ff"), 400),
    (get("/hello?%"), 400),
    (get("/echo", "Content-Length: 3", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n", 400),
    (get("/echo", "Content-Length: 3", "Content-Length: 3", method="POST") + b"abc", 400),
    (get("/echo", "Content-Length: three", method="POST") + b"abc", 400),
    (get("/echo", "Transfer-Encoding: gzip", method="POST"), 501),
    (get("/echo", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n", 400),
    (get("/echo", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    (get("/echo", "Transfer-Encoding: chunked", method="POST") + b"3\nabc\n0\n\n", 400),
    (get("/echo", "Transfer-Encoding: chunked", method="POST") + b"fffffffffffffffff\r\n", 400),
    (get("/echo", "Transfer-Encoding: chunked", method="POST") + b"7fffffff\r\n", 413),
    (get("/small", "Transfer-Encoding: chunked", method="POST") + b"6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n", 413),
    (post("/small", b"x" * 11), 413),
    (post("/nowhere", b"x" * 70_000), 413),
    (get("/" + "a" * 3_000), 414),
    (b"GET /" + b"a" * 9_000, 414),
    (get("/hello", "X: " + "y" * 5_000), 431),
    (get("/hello", *["X: y"] * 200), 431),
    (get("/hello", "Expect: the-unexpected"), 417),
    (b"GET /hello HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    (b"BREW /hello HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
]


def test_bad_input_gets_its_status_and_the_connection_ends() -> None:
    smuggled = get("/names/smuggled")

    async def test(server: Serving) -> None:
        for data, status in BAD:
            for pieces in ([data + smuggled], [data[:20], data[20:], smuggled]):
                client = await server.client()
                for piece in pieces:
                    client.send(piece)
                    await asyncio.sleep(0)
                answer = await client.answer()
                assert answer.status == status, data
                assert answer.headers["connection"] == "close"
                assert await client.rest() == b"", data
                client.close()
        assert server.face.calls == []
        assert server.counters.malformed == 2 * len(BAD)
        assert server.counters.errors == 0

    serving(test, header_size_max=4_096, target_size_max=2_048)


def test_a_large_body_that_is_refused_early_does_not_lose_the_answer() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/small", "Content-Length: 6000000", method="POST"))
        with contextlib.suppress(ConnectionError):
            for _ in range(60):
                client.send(b"x" * 100_000)
                await client.writer.drain()
        assert (await client.answer()).status == 413

    serving(test)


def test_random_bytes_never_crash_or_hang_the_server() -> None:
    pieces = st.sampled_from(
        [
            b"GET ", b"POST ", b"/hello", b"/echo", b"/submit", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n",
            b"\r\n", b"\n", b"\r", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n",
            b"0\r\n\r\n", b"%41", b"\x00", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
            b"Connection: keep-alive\r\n", b" ", b":", b"abc",
        ]
    )  # fmt: skip

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.one_of(pieces, st.binary(max_size=30)), max_size=14))
    @example(
        [b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"]
    )
    def feed(parts: list[bytes]) -> None:
        async def test(server: Serving) -> None:
            client = await server.client()
            for part in parts:
                client.send(part)
                await asyncio.sleep(0)
            client.writer.write_eof()
            while True:
                head = await client.reader.readline()
                if not head:
                    break
                status = int(head.split(b" ")[1])
                assert status in (100, 200, 204) or 400 <= status < 506, head
                rest = await client.reader.readuntil(b"\r\n\r\n") if head != b"\r\n" else b""
                length = [
                    int(line.split(b":")[1]) for line in rest.split(b"\r\n") if line.startswith(b"Content-Length")
                ]
                await client.reader.readexactly(length[0] if length else 0)
            assert server.counters.errors == 0
            assert server.counters.failed_server <= 1, "501 and 505 only"

        serving(test)

    feed()


def test_pipelined_requests_wait_behind_a_parked_one() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/hello") + get("/park") + get("/names/after") + get("/park") + post("/submit", b"end"))
        assert (await client.answer()).body == b'{"hello":"world"}'
        await until(lambda: server.counters.parked)
        assert server.hub.submitted == []
        other = await server.client()
        assert (await other.get("/hello")).status == 200
        server.face.ready = Reply(200, b"ready")
        server.hub.change()
        assert (await client.answer()).body == b"ready"
        assert (await client.answer()).body.startswith(b"GET /names/after")
        assert (await client.answer()).body == b"ready"
        assert (await client.answer()).body.startswith(b"end@")

    serving(test)


def test_reading_stops_while_too_much_waits() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/park"))
        await until(lambda: server.counters.parked)
        flood = get("/names/x") * 20_000
        client.send(flood)
        await until(lambda: server.counters.received_bytes > 10_000)
        before = -1
        while before != server.counters.received_bytes:
            before = server.counters.received_bytes
            await asyncio.sleep(0.1)
        assert before < len(flood) / 2
        server.face.ready = Reply(200, b"ready")
        server.hub.change()
        for _ in range(20_001):
            assert (await client.answer()).status == 200

    serving(test, read_ahead_size_max=4_096)


def test_a_pipeline_is_answered_in_turns() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/names/x") * 1_000 + get("/hello"))
        for _ in range(1_000):
            assert (await client.answer()).status == 200
        assert (await client.answer()).body == b'{"hello":"world"}'

    serving(test, pipeline_count_max=7)


def test_expect_continue_is_answered_before_the_body_comes() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/echo", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        assert (await client.head()).status == 100
        client.send(b"abc")
        assert (await client.answer()).body.endswith(b"abc")
        client.send(get("/small", "Content-Length: 11", "Expect: 100-continue", method="POST"))
        assert (await client.answer()).status == 413, "no invitation for a body that is too large"

    serving(test)


def test_http_1_0_and_connection_close() -> None:
    async def test(server: Serving) -> None:
        for request, word in (
            (b"GET /hello HTTP/1.0\r\n\r\n", "close"),
            (get("/hello", "Connection: close"), "close"),
        ):
            client = await server.client()
            client.send(request + get("/names/ignored"))
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, word)
            assert await client.rest() == b""
        client = await server.client()
        for _ in range(2):
            client.send(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await client.answer()).headers["connection"] == "keep-alive"
        assert len(server.face.calls) == 4

    serving(test)


def test_half_closed_clients_get_the_answers_that_are_on_their_way() -> None:
    async def test(server: Serving) -> None:
        server.hub.hold = True
        client = await server.client()
        client.send(post("/submit", b"a") + get("/hello"))
        client.writer.write_eof()
        await until(lambda: server.hub.waiting)
        server.hub.release()
        assert (await client.answer()).body == b"a@1"
        assert (await client.answer()).status == 200
        assert await client.rest() == b""

    serving(test)


def test_a_client_that_is_gone_disturbs_nobody() -> None:
    async def test(server: Serving) -> None:
        server.hub.hold = True
        client, other = await server.client(), await server.client()
        client.send(post("/submit", b"one"))
        other.send(post("/submit", b"two"))
        await until(lambda: len(server.hub.waiting) == 2)
        client.cut()
        await until(lambda: server.counters.open == 1)
        server.hub.release()
        assert (await other.answer()).body == b"two@2"
        assert server.counters.dropped == 1
        assert server.counters.errors == 0
        assert server.hub.submitted == ["one", "two", "undo one"]

    serving(test)


def test_an_answer_to_a_closing_connection_is_dropped() -> None:
    """The peer resets, and the commit comes in the same turn of the loop, before the loss is noticed."""

    async def test(server: Serving) -> None:
        server.hub.hold = True
        client = await server.client()
        client.send(post("/submit", b"one"))
        await until(lambda: server.hub.waiting)
        connection = next(iter(server.server._peers.connections))
        assert connection._transport is not None
        connection._transport.abort()
        server.hub.release()
        await until(lambda: not server.counters.open)
        assert server.counters.errors == 0

    serving(test)


def slow_socket(server: Serving) -> socket.socket:
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    peer.connect(server.address)
    peer.setblocking(False)
    return peer


def test_a_reader_that_never_reads_gets_nothing_further_and_is_cut_off() -> None:
    async def test(server: Serving) -> None:
        with slow_socket(server) as peer:
            peer.send(get("/large/8000000") + get("/hello"))
            await until(lambda: server.counters.open)
            assert (await server.ask(get("/names/other"))).status == 200
            assert len(server.face.calls) == 1, "what is pipelined behind an unread answer waits"
            await until(lambda: server.counters.timed_out == 1)
            await until(lambda: server.counters.open == len(server.clients))

    serving(test, stream_stall_timeout_ms=300, write_buffer_size_max=65_536)


def test_a_slow_reader_gets_everything_as_long_as_it_reads() -> None:
    async def test(server: Serving) -> None:
        with slow_socket(server) as peer:
            peer.send(get("/large/3000000", "Connection: close"))
            loop = asyncio.get_running_loop()
            received = 0
            while data := await loop.sock_recv(peer, 30_000):
                received += len(data)
                await asyncio.sleep(0.001)
            assert received > 3_000_000
            assert server.counters.timed_out == 0

    serving(test, stream_stall_timeout_ms=20_000)


def test_what_a_slow_reader_takes_is_seen_long_before_the_kernel_has_room_for_a_third() -> None:
    async def test(server: Serving) -> None:
        with slow_socket(server) as peer:
            peer.send(get("/large/8000000"))
            await until(lambda: server.counters.open)
            connection: Any = next(iter(server.server._peers.connections))
            unsent = connection._transport.get_write_buffer_size
            await until(unsent)
            # What the kernel takes at once it has taken after some turns.
            for _ in range(20):
                await asyncio.sleep(0.005)
            before, received = unsent(), 0
            while received < 2 * UNSENT_IN_KERNEL_SIZE_MAX:
                received += len(await asyncio.get_running_loop().sock_recv(peer, 30_000))
            await until(lambda: unsent() < before)

    serving(test)


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (b"GET /hello HTT", 408),
        (b"\r", 408),
        (get("/hello") + b"G", 408),
        (get("/echo", "Content-Length: 5", method="POST") + b"ab", 408),
        (get("/echo", "Transfer-Encoding: chunked", method="POST") + b"5\r\nab", 408),
        (b"", 0),
        (get("/hello"), 0),
    ],
)
def test_who_is_too_slow_is_told_and_who_is_idle_is_closed(begin: bytes, status: int) -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(begin)
        if begin.startswith(get("/hello")):
            assert (await client.answer()).status == 200
        if status:
            assert (await client.answer()).status == status
        assert await client.rest() == b""
        assert server.counters.timed_out == (1 if status else 0)

    serving(test, header_timeout_ms=400, body_timeout_ms=400, idle_timeout_ms=450)


def test_slowloris_gains_nothing_by_dribbling() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(b"GET /hello HTTP/1.1\r\n")
        for index in range(200):
            if server.counters.timed_out:
                break
            client.send(b"X-%d: y\r\n" % index)
            await asyncio.sleep(0.02)
        assert server.counters.timed_out == 1
        assert (await client.answer()).status == 408

    serving(test, header_timeout_ms=300)


def test_a_slow_body_is_read_as_long_as_it_comes() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/echo", "Content-Length: 20", method="POST"))
        for _ in range(20):
            client.send(b"x")
            await asyncio.sleep(0.05)
        assert (await client.answer()).body.endswith(b"x" * 20)

    serving(test, body_timeout_ms=800)


def test_parked_connections_outlive_the_idle_timeout() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/park"))
        await asyncio.sleep(0.5)
        server.face.ready = Reply(200, b"ready")
        server.hub.change()
        assert (await client.answer()).body == b"ready"

    serving(test, idle_timeout_ms=100, header_timeout_ms=100)


def test_it_runs_on_the_standard_loop_too() -> None:
    async def test() -> None:
        server = Serving()
        server.address = await server.server.start("127.0.0.1", 0)
        whole = await talk(server, [SEQUENCE])
        assert whole.count(b"HTTP/1.1 ") == len(STATUSES)
        client = await server.client()
        client.send(get("/park"))
        await until(lambda: server.counters.parked)
        await server.server.stop(1_000)
        assert (await client.answer()).body == b"expired"
        for client in server.clients:
            client.cut()

    asyncio.run(test())


def test_outcomes_are_those_of_the_hub() -> None:
    """The fake hub answers with the real type, so that renders see what they will see."""

    async def test() -> None:
        server = Serving()
        seen: list[object] = []
        server.hub.submit("x", None, seen.append)  # type: ignore[arg-type]
        await until(lambda: seen)
        assert isinstance(seen[0], Outcome)

    run_loop(test())
    assert Answer(200, {}, b"").status == 200
