"""The HTTP client over real sockets: the pool, budgets, breaks, streams both ways, TLS and IPv6."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from typing import Any

import pytest
import trustme
from raw_server import answering, ok, serving

from free_ports import free_port
from townhall.client.connection import Origin
from townhall.client.http import HttpClient, Request, _told
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved, Unreachable


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(300):
            await main

    asyncio.run(bounded())


def test_a_connection_is_kept_and_used_again() -> None:
    async def main() -> None:
        connections = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await answering(ok(b"1"), ok(b"2"), ok(b"3"))(reader, writer)

        async with serving(script) as origin, HttpClient() as http:
            bodies = [(await http.request(Request(origin, "GET", "/"))).body for _ in range(3)]
            assert bodies == [b"1", b"2", b"3"]
            assert connections == 1
            # The server has closed it meanwhile; the client notices, or tries once more on a new one.
            assert (await http.request(Request(origin, "GET", "/"))).body == b"1"
            assert connections == 2

    run(main())


def test_what_cannot_be_repeated_is_not() -> None:
    async def main() -> None:
        count = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ok(b""))
            await reader.readuntil(b"\r\n\r\n")
            count += 1

        async with serving(script) as origin, HttpClient() as http:
            await http.request(Request(origin, "GET", "/"))
            with pytest.raises(Unreachable) as caught:
                await http.request(Request(origin, "POST", "/"))
            assert caught.value.fields["kind"] == "reset"
            assert caught.value.fields["sent"] is True
            assert count == 1

    run(main())


def test_nobody_there() -> None:
    async def main() -> None:
        async with HttpClient() as http:
            with pytest.raises(Unreachable) as caught:
                await http.request(Request(Origin("http", "127.0.0.1", free_port()), "GET", "/"))
            assert caught.value.fields["kind"] == "connect"
            assert caught.value.fields["sent"] is False

    run(main())


def test_a_budget_covers_all_of_a_request() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            started.set()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1")
            await asyncio.Event().wait()

        async with serving(script) as origin, HttpClient() as http:
            with pytest.raises(Unreachable) as caught:
                await http.request(Request(origin, "GET", "/", budget_s=0.1))
            assert caught.value.fields["kind"] == "timeout"
            assert started.is_set()
            assert not http._busy, "a connection whose answer is half read is never used again"
            assert not http._idle.get(origin)

    run(main())


def test_garbage_and_too_much() -> None:
    async def main() -> None:
        async with HttpClient() as http:
            async with serving(answering(b"* OK IMAP4 ready\r\n\r\n")) as origin:
                with pytest.raises(PeerMisbehaved):
                    await http.request(Request(origin, "GET", "/"))
            async with serving(answering(ok(b"x" * 11))) as origin:
                with pytest.raises(PeerMisbehaved):
                    await http.request(Request(origin, "GET", "/", size_max=10))
            async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1")) as origin:
                with pytest.raises(Unreachable):
                    await http.request(Request(origin, "GET", "/"))
            assert not http._busy
        assert Request(origin, "GET", "/").size_max == limits.CLIENT_ANSWER_SIZE_MAX
        assert Request(origin, "GET", "/").budget_s * 1000 == limits.CLIENT_TIMEOUT_MS

    run(main())


def test_the_pool_has_a_size_and_an_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_CONNECTIONS_IDLE_MAX", 3)

    async def main() -> None:
        connections = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.02)
                writer.write(ok(b""))

        async with serving(script) as origin, HttpClient() as http:
            await asyncio.gather(*(http.request(Request(origin, "GET", "/")) for _ in range(8)))
            assert connections == 8
            assert len(http._idle[origin]) == 3
            monkeypatch.setattr(limits, "CLIENT_IDLE_MS", 0)
            await asyncio.sleep(0.002)
            await http.request(Request(origin, "GET", "/"))
            assert connections == 9

    run(main())


def test_what_must_not_be_sent_twice_takes_no_connection_that_an_instance_may_be_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ok(b""))

    async def main() -> None:
        async with serving(script) as origin, HttpClient(instances=True) as http, HttpClient() as other:
            for client in (http, other):
                for method in ("GET", "POST"):
                    await client.request(Request(origin, method, "/"))
            assert connections == 2
            monkeypatch.setattr(limits, "CLIENT_REUSE_UNSAFE_MS", -1)
            await http.request(Request(origin, "POST", "/"))
            assert connections == 3
            # The one that was passed over still serves what may be sent twice, and a registry's are kept for long.
            assert len(http._idle[origin]) == 2
            await http.request(Request(origin, "GET", "/"))
            await other.request(Request(origin, "POST", "/"))
            assert connections == 3

    run(main())


def test_cancelling_leaves_no_connection_behind() -> None:
    async def main() -> None:
        async with serving(answering(close=False)) as origin, HttpClient() as http:
            task = asyncio.get_running_loop().create_task(http.request(Request(origin, "GET", "/")))
            while not http._busy:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not http._busy

    run(main())


def test_closing_ends_what_runs() -> None:
    async def main() -> None:
        http = HttpClient()
        async with serving(answering(close=False)) as origin:
            task = asyncio.get_running_loop().create_task(http.request(Request(origin, "GET", "/")))
            while not http._busy:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            http.close()
            with pytest.raises(Unreachable):
                await task
            with pytest.raises(Unreachable):
                await http.request(Request(origin, "GET", "/"))

    run(main())


def test_a_stream_gives_pieces_as_they_come() -> None:
    async def main() -> None:
        more = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            await more.wait()
            writer.write(b"1\r\nb\r\n0\r\n\r\n")
            await writer.drain()
            await asyncio.Event().wait()

        async with serving(script) as origin, HttpClient() as http:
            async with await http.stream(Request(origin, "GET", "/")) as stream:
                found = []
                async for piece in stream.pieces(silence_s=10):
                    found.append(piece)
                    more.set()
                assert found == [b"a", b"b"]
            assert not http._busy

    run(main())


def test_a_stream_that_breaks_or_falls_silent() -> None:
    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
        for close, kind in ((True, "reset"), (False, "timeout")):
            async with serving(answering(head, close=close)) as origin, HttpClient() as http:
                stream = await http.stream(Request(origin, "GET", "/"))
                with pytest.raises(Unreachable) as caught:
                    async for _ in stream.pieces(silence_s=0.1):
                        pass
                assert caught.value.fields["kind"] == kind
                stream.close()

    run(main())


def test_a_duplex_request_talks_both_ways() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"transfer-encoding: chunked" in head
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while size := int(await reader.readuntil(b"\r\n"), 16):
                data = (await reader.readexactly(size + 2))[:-2]
                writer.write(b"%x\r\n%b\r\n" % (len(data), data.upper()))
            writer.write(b"0\r\n\r\n")

        async with serving(script) as origin, HttpClient() as http:
            stream = await http.stream(Request(origin, "POST", "/", body=b"hello"), duplex=True)
            pieces = stream.pieces()
            assert await anext(pieces) == b"HELLO"
            await stream.send(b"more", budget_s=5)
            assert await anext(pieces) == b"MORE"
            await stream.send_end(budget_s=5)
            assert await anext(pieces, None) is None
            stream.close()

    run(main())


def test_a_refused_stream_can_be_read() -> None:
    async def main() -> None:
        refusal = b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy"
        async with serving(answering(refusal)) as origin, HttpClient() as http:
            stream = await http.stream(Request(origin, "GET", "/"))
            assert stream.status == 503
            assert await stream.read(budget_s=5, size_max=10) == b"busy"
            stream.close()

    run(main())


def test_ipv6_on_loopback() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")

    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"host: [::1]:" in head
            writer.write(ok(b"six"))

        async with serving(script, host="::1") as origin, HttpClient() as http:
            assert (await http.request(Request(origin, "GET", "/"))).body == b"six"

    run(main())


def test_tls_checks_the_peer() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async def main() -> None:
        async with serving(answering(ok(b"safe")), ssl=server) as origin:
            async with HttpClient(ssl_context=client) as http:
                assert (await http.request(Request(origin, "GET", "/"))).body == b"safe"
            async with HttpClient() as http:
                with pytest.raises(Unreachable, match="certificate"):
                    await http.request(Request(origin, "GET", "/"))

    run(main())


def test_an_answer_s_conveniences() -> None:
    async def main() -> None:
        async with serving(answering(ok(b'{"a":1}'), ok(b"\xff"))) as origin, HttpClient() as http:
            answer = await http.request(Request(origin, "GET", "/"))
            assert answer.ok
            assert answer.json() == {"a": 1}
            answer = await http.request(Request(origin, "GET", "/"))
            assert answer.text == "\ufffd"
            with pytest.raises(PeerMisbehaved):
                answer.json()

    run(main())


def test_why_a_connection_failed_is_told_in_plain_words() -> None:
    assert _told(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")) == "nothing listens there"
    assert _told(OSError("odd")) == "odd"
    assert _told(EOFError()) == "EOFError"
    unverified = ssl.SSLCertVerificationError("long")
    unverified.verify_message = "self-signed certificate"
    assert _told(unverified) == "its certificate is not trusted: self-signed certificate"
