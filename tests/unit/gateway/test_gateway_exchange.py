"""Requests through a gateway to instances that fail in every way; also plane, services, outbound, inbound, tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest
from gateway_support import HELLO, Instance, Stand, get, read_message, run, until

from free_ports import free_port
from townhall.gateway import exchange, inbound, outbound, plane, services, tunnel
from townhall.model.limits import PROXY_HOLD_SIZE_MAX, PROXY_REPLAY_SIZE_MAX

PARTS = (exchange, inbound, outbound, plane, services, tunnel)

ONE = '[[route]]\npath = "/"\nservice = "static://{a}"\n'
TWO = '[[route]]\npath = "/"\nservice = "static://{a},{b}"\nretries = 3\n'


def test_a_request_and_its_answer() -> None:
    async def main() -> None:
        instance = Instance()
        async with Stand(ONE, a=instance) as stand:
            answer = await stand.ask(get("/x?y", "Connection: keep-alive, X-A", "X-A: 1", "X-B: 2"))
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nhello")
            head = instance.seen[0][0]
            assert head.startswith(b"GET /x?y HTTP/1.1\r\nhost: x\r\nx-b: 2\r\n")
            assert b"x-a" not in head

    run(main())


def test_connections_are_kept_and_pipelined_requests_answered_in_order() -> None:
    async def main() -> None:
        instance = Instance(lambda head, _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + head[5:7])
        async with Stand(ONE, a=instance) as stand:
            reader, writer = await stand.connect()
            writer.write(b"".join(get(f"/{number:02}") for number in range(20)))
            bodies = [(await read_message(reader))[1] for _ in range(20)]
            assert bodies == [b"%02d" % number for number in range(20)]
            assert instance.connections == 1
            writer.close()

    run(main())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_cannot_be_reached_is_passed_over_whatever_the_method(method: str) -> None:
    async def main() -> None:
        gone, there = await Instance().start(), Instance()
        await gone.stop()
        async with Stand(TWO, a=gone, b=there) as stand:
            for _ in range(4):
                assert (await stand.ask(get("/", method=method, body=b"body"))).endswith(b"hello")
            assert [body for _, body in there.seen] == [b"body"] * 4

    run(main())


async def cut_after_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_message(reader)
    writer.transport.abort()


async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_message(reader)
    writer.write(HELLO[:-2])
    await writer.drain()


@pytest.mark.parametrize("script", [cut_after_head, half_an_answer])
def test_an_idempotent_request_survives_the_death_of_its_instance(script) -> None:
    async def main() -> None:
        bad, good = Instance(script=script), Instance()
        async with Stand(TWO, a=bad, b=good) as stand:
            for _ in range(4):
                assert (await stand.ask(get("/", method="PUT", body=b"body"))).endswith(b"hello")
            assert bad.connections > 0

    run(main())


def test_a_kept_connection_that_ends_as_it_is_used_is_nobodys_failure() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(HELLO)
        await read_message(reader)
        writer.transport.abort()

    async def main() -> None:
        instance = Instance(script=once)
        async with Stand(ONE + "retries = 0\n", a=instance) as stand:
            for _ in range(4):
                assert (await stand.ask(get())).endswith(b"hello")
            assert instance.connections == 4
            assert not stand.gateway.plane.counters.failures
        gone = Instance(script=once)
        async with Stand(ONE, a=gone) as stand:
            assert (await stand.ask(get())).endswith(b"hello")
            await gone.stop()
            gone.cut()
            assert b'"code":"connect_failed"' in await stand.ask(get())

    run(main())


def test_who_does_not_take_the_connection_in_time_is_told_so() -> None:
    async def main() -> None:
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            port = full.getsockname()[1]
            # What finds the queue full is answered by nothing at all.
            for _ in range(3):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            text = (
                f'[[route]]\npath = "/"\nservice = "static://127.0.0.1:{port}"\nretries = 0\nconnect_timeout = "50ms"\n'
            )
            async with Stand(text) as stand:
                _, _, body = (await stand.ask(get())).partition(b"\r\n\r\n")
                told = json.loads(body)
                assert told["code"] == "connect_failed"
                assert told["detail"].endswith("no connection in time")

    run(main())


def test_what_may_have_been_done_is_not_done_twice() -> None:
    async def main() -> None:
        bad, good = Instance(script=cut_after_head), Instance()
        async with Stand(TWO, a=bad, b=good) as stand:
            answers = [await stand.ask(get("/", method="POST", body=b"x")) for _ in range(3)]
            refused = [one for one in answers if one.startswith(b"HTTP/1.1 502 ")]
            assert len(refused) == bad.connections
            assert json.loads(refused[0].partition(b"\r\n\r\n")[2])["code"] == "reset"
            assert len(good.seen) + bad.connections == 3
        async with Stand(TWO + "retry_unsafe = true\n", a=Instance(script=cut_after_head), b=Instance()) as stand:
            assert (await stand.ask(get("/", method="POST", body=b"x"))).endswith(b"hello")

    run(main())


def test_a_body_too_large_to_keep_is_sent_once() -> None:
    async def main() -> None:
        body = b"x" * (PROXY_REPLAY_SIZE_MAX + 1)
        bad, good = Instance(script=cut_after_head), Instance()
        async with Stand(TWO, a=bad, b=good) as stand:
            answers = [await stand.ask(get("/", method="PUT", body=body)) for _ in range(2)]
            assert sorted(one[9:12] for one in answers) == [b"200", b"502"]

    run(main())


def test_an_answer_that_has_begun_is_cut_not_completed() -> None:
    async def main() -> None:
        size = PROXY_HOLD_SIZE_MAX + 1

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_message(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nabc" % size)
            await writer.drain()
            await asyncio.sleep(0.1)

        async with Stand(ONE, a=Instance(script=script)) as stand:
            try:
                came = await stand.raw(get())
            except ConnectionResetError:
                came = b""
            assert b"502" not in came
            assert len(came) < size

    run(main())


def test_a_hung_instance_costs_its_attempt_and_no_more() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        text = TWO + 'first_byte_timeout = "500ms"\n'
        async with Stand(text, a=Instance(script=hang), b=Instance()) as stand:
            for _ in range(3):
                assert (await stand.ask(get())).endswith(b"hello")
        async with Stand(ONE + 'first_byte_timeout = "500ms"\n', a=Instance(script=hang)) as stand:
            answer = await stand.ask(get(method="POST"))
            assert answer.startswith(b"HTTP/1.1 504 ")
            assert b'"code":"timeout"' in answer

    run(main())


def test_an_answer_that_never_ends_may_be_bounded() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with Stand(ONE + 'whole_timeout = "200ms"\n', a=Instance(script=pour)) as stand:
            try:
                came = await stand.raw(get())
            except ConnectionResetError:
                came = b""
            assert not came.endswith(b"0\r\n\r\n")

    run(main())


def test_overload_is_asked_elsewhere_and_the_last_word_passed_on() -> None:
    async def main() -> None:
        busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
        async with Stand(TWO, a=Instance(busy), b=Instance()) as stand:
            for _ in range(3):
                assert (await stand.ask(get())).endswith(b"hello")
        async with Stand(TWO, a=Instance(busy), b=Instance(busy)) as stand:
            assert (await stand.ask(get())).endswith(b"busy")
            assert (await stand.ask(get(method="POST"))).endswith(b"busy")

    run(main())


def test_bodies_stream_both_ways() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (line := await reader.readline()) != b"0\r\n":
            data = await reader.readexactly(int(line, 16) + 2)
            writer.write(line + data)
        writer.write(b"0\r\n\r\n")

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=echo)) as stand:
            reader, writer = await stand.connect()
            writer.write(get("/", "Transfer-Encoding: chunked", method="POST"))
            writer.write(b"3;ext=1\r\nabc\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
            assert await reader.readexactly(8) == b"3\r\nabc\r\n"
            writer.write(b"2\r\nde\r\n0\r\n\r\n")
            assert await reader.readexactly(12) == b"2\r\nde\r\n0\r\n\r\n"
            writer.close()

    run(main())


def test_an_answer_until_the_end_of_the_connection_becomes_chunks() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nabc")

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            assert (await stand.ask(get())).endswith(b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            assert (await stand.raw(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"connection: close\r\n\r\nabc")

    run(main())


def test_permission_to_go_on_is_the_instances() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"expect: 100-continue" in head
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(4) == b"body"
        writer.write(HELLO)

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            reader, writer = await stand.connect()
            writer.write(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            assert (await read_message(reader))[1] == b"hello"
            writer.close()

    run(main())


def test_answers_without_a_body() -> None:
    async def main() -> None:
        long = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        async with Stand(ONE, a=Instance(long)) as stand:
            reader, writer = await stand.connect()
            writer.write(get(method="HEAD") * 2)
            for _ in range(2):
                assert b"content-length: 5\r\n" in await reader.readuntil(b"\r\n\r\n")
            writer.close()
        for status in (b"204 No Content", b"304 Not Modified"):
            async with Stand(ONE, a=Instance(b"HTTP/1.1 " + status + b"\r\n\r\n")) as stand:
                answers = await stand.raw(get() + get("/", "Connection: close"))
                assert answers.count(status) == 2

    run(main())


def test_a_web_socket_is_a_tunnel() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: upgrade\r\nupgrade: websocket" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhi")
        while data := await reader.read(100):
            writer.write(data.upper())

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            reader, writer = await stand.connect()
            writer.write(get("/", "Upgrade: websocket", "Connection: Upgrade") + b"early")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(7) == b"hiEARLY"
            writer.write(b"later")
            assert await reader.readexactly(5) == b"LATER"
            writer.close()

    run(main())


def test_a_call_is_unanswered_from_the_choice_to_the_answers_head() -> None:
    """What a drain is acknowledged by: then nothing is on its way to the instance any more."""
    go, end = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        if b"upgrade" in head:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
            await end.wait()
        elif b" /dies" not in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            await end.wait()

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            (service,) = stand.gateway.services
            chooser = service.handle.chooser
            for raw, first in (
                (get("/stream"), b"200"),
                (get("/", "Upgrade: websocket", "Connection: Upgrade"), b"101"),
                (get("/dies", method="POST"), b"502"),
            ):
                go.clear()
                end.clear()
                reader, writer = await stand.connect()
                writer.write(raw)
                await until(lambda: chooser.tally.running == 1)
                assert len(chooser.unanswered()) == 1
                go.set()
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 " + first)
                assert not chooser.unanswered()
                end.set()
                await until(lambda: chooser.tally.running == 0)
                writer.close()

    run(main())


def test_protocols_are_not_switched_unasked() -> None:
    async def main() -> None:
        switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        async with Stand(ONE, a=Instance(switched)) as stand:
            answer = await stand.ask(get(method="POST"))
            assert b'"code":"bad_answer"' in answer

    run(main())


def test_limits_of_a_route() -> None:
    async def main() -> None:
        hang = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await read_message(reader)
                await hang.wait()
                writer.write(HELLO)

        text = ONE + "max_connections = 1\nmax_pending = 1\nmax_requests = 3\n"
        async with Stand(text, a=Instance(script=script)) as stand:
            tasks = [asyncio.create_task(stand.ask(get())) for _ in range(2)]
            service = stand.gateway.services[0]
            await until(lambda: service.pending == 1 and service.connections == 1)
            assert b'"code":"overloaded"' in await stand.ask(get())
            hang.set()
            assert all(one.endswith(b"hello") for one in await asyncio.gather(*tasks))
        async with Stand(ONE + 'rate = "1/m"\nrate_by = "header:x-key"\nbody_size_max = 3\n', a=Instance()) as stand:
            assert (await stand.ask(get("/", "X-Key: a"))).endswith(b"hello")
            second = await stand.ask(get("/", "X-Key: a"))
            assert second.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: " in second
            assert (await stand.ask(get("/", "X-Key: b"))).endswith(b"hello")
            assert (await stand.ask(get("/", "X-Key: c", body=b"four"))).startswith(b"HTTP/1.1 413 ")

    run(main())


def test_an_open_circuit_refuses_at_once() -> None:
    async def main() -> None:
        gone = await Instance().start(free_port())
        await gone.stop()
        async with Stand(ONE + "service_failures = 2\nretries = 0\n", a=gone) as stand:
            codes = [json.loads((await stand.ask(get())).partition(b"\r\n\r\n")[2])["code"] for _ in range(3)]
            assert codes == ["connect_failed", "connect_failed", "circuit_open"]

    run(main())


def test_without_a_route() -> None:
    async def main() -> None:
        async with Stand('[[route]]\nhost = "a.example"\nservice = "static://{a}"\n', a=Instance()) as stand:
            assert b'"code":"no_route"' in await stand.ask(get("/"))
            refused = await stand.ask(get("/", method="POST", body=b"body"))
            assert b'"code":"no_route"' in refused

    run(main())


def test_stopping_lets_running_requests_finish() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_message(reader)
            await go.wait()
            writer.write(HELLO)

        instance = Instance(script=script)
        async with Stand(ONE, a=instance) as stand:
            idle_reader, idle_writer = await stand.connect()
            task = asyncio.create_task(stand.ask(get()))
            await until(lambda: instance.connections)
            stopping = asyncio.create_task(stand.gateway.stop())
            assert await idle_reader.read() == b""
            idle_writer.close()
            with pytest.raises(OSError):  # noqa: PT011
                await stand.connect()
            go.set()
            answer = await task
            assert answer.endswith(b"hello")
            assert b"connection: close" in answer
            await stopping

    run(main())


def test_new_routes_apply_to_new_requests() -> None:
    async def main() -> None:
        first, second = Instance(), Instance(HELLO.replace(b"hello", b"other"))
        async with Stand(ONE, a=first, b=second) as stand:
            assert (await stand.ask(get())).endswith(b"hello")
            text = f'[[route]]\npath = "/"\nservice = "static://127.0.0.1:{second.port}"\n'
            stand.gateway.route(exchange_config(text))
            assert (await stand.ask(get())).endswith(b"other")
            assert len(stand.gateway.services) == 1

    run(main())


def test_a_request_that_goes_round_is_stopped() -> None:
    async def main() -> None:
        async with Stand("", a=Instance()) as stand:
            stand.gateway.route(exchange_config(f'[[route]]\nservice = "static://127.0.0.1:{stand.port}"\n'))
            answer = await stand.ask(get(method="POST"))
            assert answer.startswith(b"HTTP/1.1 508 Loop Detected\r\n")
            assert b'"code":"loop"' in answer
            assert stand.gateway.plane.counters.problems["loop"] == 1
        async with Stand('via = "edge"\n' + ONE, a=Instance()) as stand:
            assert (await stand.ask(get("/", "Via: 1.1 other, 1.1 edge2"))).endswith(b"hello")
            assert b'"code":"loop"' in await stand.ask(get("/", "Via: 1.1 other, 1.1 edge"))

    run(main())


def test_the_last_hop_answers_itself() -> None:
    async def main() -> None:
        instance = Instance()
        async with Stand(ONE, a=instance) as stand:
            answer = await stand.raw(get("/", "Max-Forwards: 0", "Connection: close", method="OPTIONS"))
            assert answer == b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
            assert (await stand.ask(get("/", "Max-Forwards: 1", method="OPTIONS"))).endswith(b"hello")
        (head, _), *rest = instance.seen
        assert b"max-forwards: 0\r\n" in head
        assert not rest

    run(main())


def test_an_old_client_that_keeps_its_connection_sees_where_chunks_end() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_message(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    async def main() -> None:
        async with Stand(ONE, a=Instance(script=script)) as stand:
            answer = await stand.raw(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert answer.endswith(b"connection: close\r\n\r\nabc")

    run(main())


def test_a_client_that_takes_nothing_is_not_the_instances_fault() -> None:
    gone = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        finally:
            gone.set()

    async def main() -> None:
        async with Stand(ONE + 'idle_timeout = "500ms"\n', a=Instance(script=pour)) as stand:
            _, writer = await stand.connect()
            writer.transport.pause_reading()
            writer.write(get())
            await gone.wait()
            await until(lambda: not stand.gateway.services[0].requests)
            counters = stand.gateway.plane.counters
            assert counters.problems["slow_client"] == 1
            assert not counters.failures
            assert not stand.gateway.services[0].handle.chooser.ejections
            writer.close()

    run(main())


def test_an_instance_that_takes_nothing_of_a_body_is_to_blame() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await asyncio.sleep(30)

    async def main() -> None:
        async with Stand(ONE + 'idle_timeout = "500ms"\n', a=Instance(script=deaf)) as stand:
            reader, writer = await stand.connect()
            writer.write(get("/", f"Content-Length: {1 << 26}", method="POST"))
            writer.write(bytes(1 << 26))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 504 ")
            assert stand.gateway.plane.counters.failures[stand.gateway.services[0].name, "timeout"] == 1
            writer.close()

    run(main())


def test_a_reload_keeps_what_clients_have_spent() -> None:
    async def main() -> None:
        async with Stand(ONE + 'name = "r"\nrate = "1/m"\n', a=Instance()) as stand:
            text = ONE.replace("{a}", f"127.0.0.1:{stand.instances['a'].port}")
            assert (await stand.ask(get())).endswith(b"hello")
            stand.gateway.route(exchange_config(text + 'name = "r"\nrate = "2/m"\n'))
            assert (await stand.ask(get())).startswith(b"HTTP/1.1 429 ")
            # Without a rate it is forgotten.
            stand.gateway.route(exchange_config(text + 'name = "r"\n'))
            assert (await stand.ask(get())).endswith(b"hello")

    run(main())


def test_a_reload_keeps_services_without_a_route() -> None:
    async def main() -> None:
        async with Stand("auto = true\nservice_wait = 0.01\n") as stand:
            assert b'"code":"no_instance"' in await stand.ask(get("/user/1"))
            followed = stand.gateway.services
            stand.gateway.route(())
            assert b'"code":"no_instance"' in await stand.ask(get("/user/1"))
            assert stand.gateway.services == followed

    run(main())


def exchange_config(text: str):
    from townhall.gateway.config import read_config

    return read_config(text).routes
