from __future__ import annotations

import pytest

from townhall.gateway.answers import UNTIL_CLOSE, AnswerReader, body_length_of
from townhall.gateway.options import GatewayOptions
from townhall.model.errors import PeerMisbehaved
from townhall.wire.http1 import CHUNKED

OPTIONS = GatewayOptions()


def reader_of(raw: bytes, method: bytes = b"GET") -> AnswerReader:
    reader = AnswerReader(OPTIONS)
    reader.expect(method)
    reader.feed(raw)
    return reader


def head_of(*lines: str, method: bytes = b"GET"):
    return reader_of("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", method).head()


@pytest.mark.parametrize("step", [1, 3, 1_000])
def test_answers_are_read_however_they_are_cut(step: int) -> None:
    raw = (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n"
    )
    reader = AnswerReader(OPTIONS)
    reader.expect(b"GET")
    heads, body = [], b""
    for start in range(0, len(raw), step):
        reader.feed(raw[start : start + step])
        while len(heads) < 2 and (head := reader.head()) is not None:
            heads.append(head)
        if len(heads) == 2:
            body += reader.part()
    assert [one.status for one in heads] == [103, 200]
    assert body == b"abcde"
    assert reader.ended
    assert reader.held == 0
    assert reader.trailers == b"T: v\r\n"


def test_lengths() -> None:
    assert head_of("HTTP/1.1 200 OK", "Content-Length: 5").length == 5
    assert head_of("HTTP/1.1 200 OK", "Transfer-Encoding: chunked").length == CHUNKED
    assert head_of("HTTP/1.1 200").length == UNTIL_CLOSE
    open_ended = head_of("HTTP/1.1 200 OK")
    assert body_length_of(open_ended, b"GET") == UNTIL_CLOSE
    assert body_length_of(open_ended, b"HEAD") == 0
    assert body_length_of(head_of("HTTP/1.1 204 No Content", "Content-Length: 5"), b"GET") == 0
    assert body_length_of(head_of("HTTP/1.1 304 Not Modified", "Content-Length: 5"), b"GET") == 0


def test_a_body_until_the_end_of_the_connection() -> None:
    reader = reader_of(b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert reader.head() is not None
    assert reader.part() == b"abc"
    assert not reader.ended
    assert reader.closed()
    short = reader_of(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    assert short.head() is not None
    assert short.part() == b"abc"
    assert not short.closed()


def test_what_belongs_to_the_connection_ends_here() -> None:
    head = head_of(
        "HTTP/1.1 200 OK",
        "Connection: close, X-A",
        "X-A: 1",
        "Keep-Alive: 1",
        "Via: 1.0 b",
        "Set-Cookie: a",
        "Set-Cookie: b",
    )
    assert head.onward == b"set-cookie: a\r\nset-cookie: b\r\n"
    assert not head.keep_alive
    assert head.via == b"1.0 b"
    assert head_of("HTTP/1.1 101 S", "Connection: upgrade", "Upgrade: WebSocket").takes_upgrade == b"websocket"
    assert not head_of("HTTP/1.0 200 OK").keep_alive


@pytest.mark.parametrize(
    "lines",
    [
        ("HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 5"),
        ("HTTP/1.1 200 OK", "Content-Length: 5, 5"),
        ("HTTP/1.1 200 OK", "Content-Length: +5"),
        ("HTTP/1.1 200 OK", "Content-Length:"),
        ("HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding : chunked"),
        ("HTTP/1.1 200 OK", "A: b", " folded"),
        ("HTTP/1.1 200 OK", "A\x00: b"),
        ("HTTP/2.0 200 OK",),
        ("HTTP/1.1 2000 OK",),
        ("HTTP/1.1 999 OK",),
        ("HTTP/1.1  200 OK",),
        ("ICY 200 OK",),
        ("", "HTTP/1.1 200 OK"),
        ("HTTP/1.1 200 OK", *[f"A{number}: b" for number in range(101)]),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(PeerMisbehaved):
        head_of(*lines)


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 200 OK\nContent-Length: 5\n\n", b"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", b"\x00"]
)
def test_what_cannot_become_a_head_is_refused_at_once(raw: bytes) -> None:
    with pytest.raises(PeerMisbehaved):
        reader_of(raw).head()


def test_bad_chunks() -> None:
    reader = reader_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5x\r\n")
    assert reader.head() is not None
    with pytest.raises(PeerMisbehaved):
        reader.part()
