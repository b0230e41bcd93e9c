from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.model.errors import Misuse
from townhall.serve.options import HttpOptions
from townhall.wire.http1 import CHUNKED
from townhall.wire.http1_reader import RequestReader

OPTIONS = HttpOptions(header_size_max=2_000, target_size_max=1_000)
FIXED = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
CODED = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n"
STREAM = FIXED + b"hello" + PLAIN + CODED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + b"\r\n" + PLAIN + FIXED + b"there"
MESSAGES = [(FIXED, b"hello"), (PLAIN, b""), (CODED, b"abcde"), (PLAIN, b""), (FIXED, b"there")]


def pieces(data: bytes, step: int) -> Iterator[bytes]:
    yield from (data[start : start + step] for start in range(0, len(data), step))


def messages(parts: Iterator[bytes], *, size_max: int | None = 100) -> list[tuple[bytes, bytes]]:
    """All complete messages, however they came."""
    reader = RequestReader(OPTIONS)
    found: list[tuple[bytes, bytes]] = []
    head: bytes | None = None
    for part in parts:
        reader.feed(part)
        while True:
            if head is None:
                head = reader.head()
                if head is None:
                    break
                length = CHUNKED if b"chunked" in head else 5 if b"Content-Length" in head else 0
                reader.begin_body(length, size_max=size_max)
            body = reader.body()
            if body is None:
                break
            assert reader.ended
            found.append((head, body))
            head = None
    return found


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_messages_are_the_same_however_they_are_cut(step: int) -> None:
    assert messages(pieces(STREAM, step)) == MESSAGES


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_messages_are_the_same_wherever_they_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert messages(STREAM[a:b] for a, b in pairwise(edges)) == MESSAGES


def test_nothing_comes_out_of_a_truncated_message() -> None:
    ends = [len(FIXED) + 5]
    for raw in (FIXED, CODED):
        body = b"hello" if raw is FIXED else b"5\r\nhello\r\n0\r\n\r\n"
        for end in range(len(raw + body)):
            assert messages(iter([(raw + body)[:end]])) == []
        assert messages(iter([raw + body])) == [(raw, b"hello")]
    assert ends


def refused(data: bytes, step: int) -> object:
    reader = RequestReader(OPTIONS)
    try:
        for piece in pieces(data, step):
            reader.feed(piece)
            if reader.head() is not None:
                return None
    except Misuse as error:
        return error.fields["http_status"]
    return None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET /" + b"a" * 900 + b" HTTP/1.1\r\nHost: x\r\n\r\n", None),
        (b"GET /" + b"a" * 1_100 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 5_000, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 1_900 + b"\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 2_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 9_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2_000, 431),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /\x00", 400),
        (b"GET / HTTP/1.1\r\nA: b\rc", 400),
        (b"\r\n\r\n\r\n", None),
    ],
)
def test_limits_hold_however_the_head_is_cut(data: bytes, expected: int | None) -> None:
    for step in (1, 100, 100_000):
        assert refused(data, step) == expected


def test_bodies_over_the_limit_are_refused_when_they_are_announced() -> None:
    reader = RequestReader(OPTIONS)
    with pytest.raises(Misuse) as error:
        reader.begin_body(11, size_max=10)
    assert error.value.fields == {"http_status": 413, "limit": 10}
    reader.begin_body(CHUNKED, size_max=10)
    reader.feed(b"b\r\n")
    with pytest.raises(Misuse) as error:
        reader.body()
    assert error.value.fields["http_status"] == 413


def test_parts_come_as_they_are() -> None:
    reader = RequestReader(OPTIONS)
    reader.begin_body(CHUNKED, size_max=None)
    reader.feed(b"3\r\nab")
    assert reader.part() == b"ab"
    assert reader.part() == b""
    reader.feed(b"c\r\n4\r\n")
    assert reader.part() == b"c"
    reader.feed(b"defg\r\n0\r\n\r\nGET")
    assert not reader.ended
    assert reader.part() == b"defg"
    assert reader.ended
    assert reader.size == 3
    reader.begin_body(4, size_max=None)
    assert reader.part() == b"GET"
    reader.drop()
    assert reader.size == 0


def test_a_body_in_small_pieces_does_not_cost_more_than_itself() -> None:
    reader = RequestReader(OPTIONS)
    body = bytes(range(256)) * 40
    reader.begin_body(len(body), size_max=len(body))
    for piece in pieces(body[:-1], 2):
        reader.feed(piece)
        assert reader.body() is None
    assert len(reader._parts) < 2_000
    reader.feed(body[-1:])
    assert reader.body() == body
