"""Heads, bodies and request heads, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.client.connection import Connection, Origin, parse_origin, request_head
from townhall.model import limits
from townhall.model.errors import InvalidField, PeerMisbehaved

ORIGIN = Origin("http", "127.0.0.1", 80)


class NoTransport(asyncio.Transport):
    """Where a connection under test writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.gone = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.gone

    def abort(self) -> None:
        self.gone = True


def fed(data: bytes, *, eof: bool = True) -> Connection:
    """A connection whose peer has sent ``data``. Call it in a running event loop."""
    reader = asyncio.StreamReader(limit=limits.HEADER_SIZE_MAX)
    reader.feed_data(data)
    if eof:
        reader.feed_eof()
    protocol = asyncio.StreamReaderProtocol(reader)
    writer = asyncio.StreamWriter(NoTransport(), protocol, reader, asyncio.get_running_loop())
    return Connection(ORIGIN, reader, writer)


def answer(data: bytes, method: str = "GET", size_max: int = 1_000) -> tuple[int, bytes, bool]:
    async def run() -> tuple[int, bytes, bool]:
        with closing(fed(data)) as connection:
            head = await connection.read_head()
            body = await connection.read_body(head, method, size_max=size_max)
            return head.status, body, head.keep_alive

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", (200, b"ab", True)),
        (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", (200, b"", True)),
        (b"HTTP/1.1 204 No\r\n\r\n", (204, b"", True)),
        (b"HTTP/1.1 304 No\r\ncontent-length: 9\r\n\r\n", (304, b"", True)),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na", (200, b"a", False)),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", (200, b"a", False)),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na", (200, b"a", True)),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", (200, b"until the end", False)),
        (b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 201 C\r\ncontent-length: 1\r\n\r\na", (201, b"a", True)),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: v\r\n\r\n",
            (200, b"abc", True),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
            (200, b"0123456789", True),
        ),
    ],
)
def test_answers(data: bytes, expected: tuple[int, bytes, bool]) -> None:
    assert answer(data) == expected


def test_a_head_has_no_body() -> None:
    assert answer(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", "HEAD") == (200, b"", True)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname : v\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1_0\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n" + b"x" * 1_001,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_001,
        CHUNKED + b"zz\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"2\r\nabc\r\n",
        CHUNKED + b"1" * 20 + b"\r\n",
        CHUNKED + b"1;" + b"x" * 2_000 + b"\r\n",
        CHUNKED + b"3e9\r\n" + b"x" * 1_001 + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * limits.HEADER_SIZE_MAX + b"\r\n\r\n",
        b"garbage that never ends a line",
    ],
    ids=lambda data: repr(data[:60]),
)
def test_what_is_no_http_is_the_peer_s_fault(data: bytes) -> None:
    with pytest.raises(PeerMisbehaved):
        answer(data)


WHOLE = CHUNKED + b"2\r\nab\r\n0\r\n\r\n"


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_an_answer_cut_short_is_a_broken_connection(length: int) -> None:
    with pytest.raises((EOFError, PeerMisbehaved)):
        answer(WHOLE[:length])


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_an_answer_or_the_known_errors(data: bytes) -> None:
    with contextlib.suppress(EOFError, PeerMisbehaved):
        answer(b"HTTP/1.1 200 OK\r\n" + data)


def test_bytes_nobody_asked_for_make_it_unusable() -> None:
    async def run() -> None:
        for data, eof, usable in ((b"", False, True), (b"x", False, False), (b"", True, False)):
            with closing(fed(data, eof=eof)) as connection:
                assert connection.usable is usable
        assert not connection.usable

    asyncio.run(run())


def test_chunks_out() -> None:
    async def run() -> bytes:
        connection = fed(b"", eof=False)
        await connection.send_chunk(b"")
        await connection.send_chunk(b"0123456789")
        await connection.send_end()
        transport = connection._writer.transport
        assert isinstance(transport, NoTransport)
        connection.close()
        return transport.written

    assert asyncio.run(run()) == b"a\r\n0123456789\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:7500", ("http", "127.0.0.1", 7500)),
        ("http://127.0.0.1:7500/", ("http", "127.0.0.1", 7500)),
        ("https://registry", ("https", "registry", 443)),
        ("http://registry", ("http", "registry", 80)),
        ("registry:81", ("http", "registry", 81)),
        ("http://[::1]:7500", ("http", "::1", 7500)),
    ],
)
def test_origins(url: str, origin: tuple[str, str, int]) -> None:
    assert parse_origin(url) == origin


def test_authorities() -> None:
    assert str(parse_origin("http://[::1]:7500")) == "http://[::1]:7500"
    assert parse_origin("registry", port_default=9).authority == "registry:9"


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://a:b@x", "http://x:99999", "http://x:a", "http://x/path", "http://x?q", ""]
)
def test_what_is_no_origin(url: str) -> None:
    with pytest.raises(InvalidField):
        parse_origin(url)


def test_request_heads() -> None:
    head = request_head(ORIGIN, "GET", "/a?b=c", {"accept": "x"})
    assert head == b"GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:80\r\naccept: x\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/a b", {}),
        ("/a\r\nx: y", {}),
        ("/", {"x": "a\r\nevil: 1"}),
        ("/", {"x": "a\nb"}),
        ("/", {"x\n": "a"}),
        ("/", {"x": "\0"}),
        ("/", {"x": "☃"}),
    ],
)
def test_nothing_breaks_out_of_its_place(target: str, fields: dict[str, str]) -> None:
    with pytest.raises(InvalidField):
        request_head(ORIGIN, "GET", target, fields)
