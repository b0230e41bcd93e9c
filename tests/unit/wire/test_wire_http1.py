from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.model.errors import Misuse, TooLarge
from townhall.model.limits import CHUNK_LINE_SIZE_MAX
from townhall.wire import http1
from townhall.wire.http1 import ChunkDecoder


def status(error: pytest.ExceptionInfo[Misuse]) -> object:
    return error.value.fields["http_status"]


GOOD_HEADS = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /a?b=c&d HTTP/1.0\r\nHost: x\r\n\r\n",
    b"M-SEARCH * HTTP/1.1\r\nA:\r\nB: \t x \t\r\n\r\n",
    b"GET /{a|b} HTTP/1.1\r\nX: \xff\x80\r\n\r\n",
]
BAD_HEADS = [
    (b"GET / HTTP/1.1\nHost: x\n\n", "bare LF"),
    (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "bare LF"),
    (b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", "bare CR"),
    (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "obs-fold"),
    (b"GET / HTTP/1.1\r\nA: b\r\n\tc\r\n\r\n", "obs-fold"),
    (b"GET / HTTP/1.1\r\n A: b\r\n\r\n", "obs-fold"),
    (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", "before the colon"),
    (b"GET / HTTP/1.1\r\nA\t: b\r\n\r\n", "before the colon"),
    (b"GET / HTTP/1.1\r\n: b\r\n\r\n", "field name"),
    (b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", "field name"),
    (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "field name"),
    (b"GET / HTTP/1.1\r\nA\xe9: c\r\n\r\n", "field name"),
    (b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n", "NUL"),
    (b"GET / HTTP/1.1\r\nA: \x01\r\n\r\n", "invalid header"),
    (b"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", "invalid header"),
    (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", "percent-encoded"),
    (b"GET /a#b HTTP/1.1\r\n\r\n", "percent-encoded"),
    (b"GET  / HTTP/1.1\r\n\r\n", "request line"),
    (b"GET / HTTP/1.1 \r\n\r\n", "invalid header"),
    (b"GET /\r\n\r\n", "request line"),
    (b"GET / HTTP/1\r\n\r\n", "invalid header"),
    (b"GET / http/1.1\r\n\r\n", "request line"),
    (b"G(T / HTTP/1.1\r\n\r\n", "method"),
    (b" / HTTP/1.1\r\n\r\n", "method"),
]


@pytest.mark.parametrize("raw", GOOD_HEADS)
def test_heads_that_may_be_sent(raw: bytes) -> None:
    http1.check_head(raw, count_max=10)


@pytest.mark.parametrize(("raw", "reason"), BAD_HEADS)
def test_heads_that_two_parsers_could_read_differently(raw: bytes, reason: str) -> None:
    with pytest.raises(Misuse, match=reason) as error:
        http1.check_head(raw, count_max=10)
    assert status(error) == 400


def test_versions_and_counts() -> None:
    for version in (b"2.0", b"0.9", b"1.2", b"3.0"):
        with pytest.raises(Misuse) as error:
            http1.check_head(b"GET / HTTP/" + version + b"\r\n\r\n", count_max=10)
        assert status(error) == 505
    http1.check_head(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10 + b"\r\n", count_max=10)
    with pytest.raises(TooLarge) as large:
        http1.check_head(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 11 + b"\r\n", count_max=10)
    assert large.value.fields == {"http_status": 431, "limit": 10}


def test_a_long_bad_head_is_refused_without_backtracking() -> None:
    for raw in (b"A" * 30_000, b"GET / HTTP/1.1\r\n" + b"A: " + b" " * 30_000 + b"\x00", b"GET " + b"/" * 30_000):
        with pytest.raises(Misuse):
            http1.check_head(raw + b"\r\n\r\n", count_max=10)


@pytest.mark.parametrize("raw", GOOD_HEADS)
def test_no_beginning_of_a_good_head_is_hopeless(raw: bytes) -> None:
    for end in range(len(raw)):
        http1.check_partial(raw[:end], 0)


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nA\rB", b"GET /\x00", b"\x7f"]
)
def test_what_cannot_become_a_head_is_known_early(raw: bytes) -> None:
    with pytest.raises(Misuse) as error:
        http1.check_partial(raw, 0)
    assert status(error) == 400


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([], 0),
        ([(b"content-length", b"0")], 0),
        ([(b"content-length", b"0017")], 17),
        ([(b"transfer-encoding", b"Chunked")], http1.CHUNKED),
    ],
)
def test_lengths(fields: list[tuple[bytes, bytes]], length: int) -> None:
    assert http1.body_length(fields, old=False) == length


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], 400),
        ([(b"content-length", b"5"), (b"content-length", b"5")], 400),
        ([(b"content-length", b"5"), (b"content-length", b"6")], 400),
        ([(b"content-length", b"5, 5")], 400),
        ([(b"content-length", b"+5")], 400),
        ([(b"content-length", b"-5")], 400),
        ([(b"content-length", b"5 5")], 400),
        ([(b"content-length", b"0x5")], 400),
        ([(b"content-length", b"5_0")], 400),
        ([(b"content-length", "٥".encode())], 400),
        ([(b"content-length", b"")], 400),
        ([(b"content-length", b"9" * 19)], 400),
        ([(b"transfer-encoding", b"gzip")], 501),
        ([(b"transfer-encoding", b"identity")], 501),
        ([(b"transfer-encoding", b"gzip, chunked")], 501),
        ([(b"transfer-encoding", b"xchunked")], 501),
        ([(b"transfer-encoding", b"chunked;q=1")], 501),
        ([(b"transfer-encoding", b"")], 501),
        ([(b"transfer-encoding", b"chunked, chunked")], 400),
        ([(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], 400),
    ],
)
def test_ambiguous_lengths_are_refused(fields: list[tuple[bytes, bytes]], expected: int) -> None:
    with pytest.raises(Misuse) as error:
        http1.body_length(fields, old=False)
    assert status(error) == expected


def test_chunks_do_not_exist_in_http_1_0() -> None:
    with pytest.raises(Misuse):
        http1.body_length([(b"transfer-encoding", b"chunked")], old=True)


def test_hosts() -> None:
    http1.check_host([(b"host", b"[::1]:80")], required=True)
    http1.check_host([(b"host", b"")], required=True)
    http1.check_host([], required=False)
    for fields in (
        [],
        [(b"host", b"a"), (b"host", b"a")],
        [(b"host", b"a b")],
        [(b"host", b"a/b")],
        [(b"host", b"a@b")],
    ):
        with pytest.raises(Misuse) as error:
            http1.check_host(fields, required=True)
        assert status(error) == 400


@pytest.mark.parametrize(
    ("method", "target", "parts"),
    [
        ("GET", b"/", ("/", "")),
        ("GET", b"/a%2Fb?c=d?e", ("/a%2Fb", "c=d?e")),
        ("GET", b"http://host:80/a?b", ("/a", "b")),
        ("GET", b"HTTPS://host", ("/", "")),
        ("GET", b"http://host?b=/c", ("/", "b=/c")),
        ("OPTIONS", b"*", ("*", "")),
    ],
)
def test_targets(method: str, target: bytes, parts: tuple[str, str]) -> None:
    assert http1.split_target(method, target) == parts


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", b"*", 400),
        ("GET", b"a", 400),
        ("GET", b"ftp://a/b", 400),
        ("GET", b"http:///a", 400),
        ("CONNECT", b"a:80", 501),
    ],
)
def test_targets_that_are_no_path(method: str, target: bytes, expected: int) -> None:
    with pytest.raises(Misuse) as error:
        http1.split_target(method, target)
    assert status(error) == expected


def test_percent_encoding() -> None:
    assert http1.decode_text("a%20b+c%C3%A9") == "a b+cé"
    assert http1.decode_path("/a%2Fb/c//") == ("a/b", "c", "", "")
    for text in ("%", "a%2", "%zz", "%ff", "%C3", "%ED%A0%80", "%+1"):
        with pytest.raises(Misuse) as error:
            http1.decode_text(text)
        assert status(error) == 400


def test_queries() -> None:
    assert http1.parse_query("") == {}
    assert http1.parse_query("a=1&b&a=2&&c=x+y%2B&d==&%C3%A9=") == {
        "a": ["1", "2"], "b": [""], "c": ["x y+"], "d": ["="], "é": [""],
    }  # fmt: skip
    with pytest.raises(Misuse):
        http1.parse_query("a=%f")


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5))
def test_what_a_form_encodes_is_read_back(pairs: list[tuple[str, str]]) -> None:
    from urllib.parse import urlencode

    pairs = [(n.encode("utf-8", "ignore").decode() or "x", v.encode("utf-8", "ignore").decode()) for n, v in pairs]
    expected: dict[str, list[str]] = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    assert http1.parse_query(urlencode(pairs)) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("GZIP", True), ("gzip;q=0", False), ("*", True),
        ("gzip; q=0.000, *", False), ("br", False), ("*;q=0", False), ("gzip;q=1.0", True), ("xgzip", False),
    ],
)  # fmt: skip
def test_gzip_is_used_only_where_it_is_allowed(accept: str, expected: bool) -> None:
    assert http1.accepts_gzip(accept) is expected


def test_heads_are_rendered_and_cannot_be_broken() -> None:
    assert http1.render_head(200, [(b"A", b"b")]) == b"HTTP/1.1 200 OK\r\nA: b\r\n"
    assert http1.render_head(472, []) == b"HTTP/1.1 472 \r\n"
    for value in (b"a\r\nb", b"a\nb", b"a\rb", b"\0"):
        with pytest.raises(ValueError, match="break"):
            http1.render_head(200, [(b"A", value)])
    assert http1.chunk(b"") == b""
    assert http1.chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def decode(data: bytes, *, step: int = 0, size_max: int | None = 1_000) -> tuple[bytes, bytes, bool]:
    """Body, what is left over, and whether it ended."""
    decoder = ChunkDecoder(size_max=size_max, trailer_size_max=200)
    step = step or max(len(data), 1)
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        end = decoder.feed(piece, 0)
        if decoder.ended:
            return b"".join(decoder.parts), piece[end:] + data[start + step :], True
        assert end == len(piece)
    return b"".join(decoder.parts), b"", False


GOOD_CHUNKS = [
    (b"0\r\n\r\n", b""),
    (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"1\r\na\r\nA;ext=\"x y\";b\r\n\r\n34567\r\n9\r\n000\r\n\r\n", b"a\r\n34567\r\n9"),
    (b"00000001\r\nx\r\n0;last\r\nTrailer: a\r\nB:\r\n\r\n", b"x"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "body"), GOOD_CHUNKS)
def test_chunked_bodies_however_they_are_cut(data: bytes, body: bytes) -> None:
    for step in (0, 1, 2, 3, 5):
        assert decode(data, step=step) == (body, b"", True)
        assert decode(data + b"GET /", step=step) == (body, b"GET /", True)
    for end in range(len(data)):
        assert decode(data[:end])[2] is False
        assert body.startswith(decode(data[:end])[0])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\r\n", 400),
        (b"g\r\n", 400),
        (b"-1\r\n", 400),
        (b"0x1\r\n", 400),
        (b" 1\r\n", 400),
        (b"1 \r\n", 400),
        (b"1\nx", 400),
        (b"1\rx", 400),
        (b"1;a\x00\r\n", 400),
        (b"123456789\r\n", 400),
        (b"F" * 30 + b"\r\n", 400),
        (b"FFFFFFFF\r\n", 413),
        (b"3e9\r\n", 413),
        (b"1;" + b"x" * CHUNK_LINE_SIZE_MAX + b"\r\n", 400),
        (b"1;" + b"x" * CHUNK_LINE_SIZE_MAX, 400),
        (b"1\r\nab\r\n", 400),
        (b"1\r\na\n\n", 400),
        (b"1\r\na\r\r", 400),
        (b"0\r\nbad trailer\r\n\r\n", 400),
        (b"0\r\n folded\r\n\r\n", 400),
        (b"0\r\nA: b\n\r\n", 400),
        (b"0\r\nA: " + b"x" * 200 + b"\r\n\r\n", 431),
        (b"0\r\n" + b"A: b\r\n" * 40 + b"\r\n", 431),
    ],
)
def test_bad_chunks(data: bytes, expected: int) -> None:
    for step in (0, 1):
        with pytest.raises(Misuse) as error:
            decode(data, step=step)
        assert status(error) == expected


def test_the_size_limit_counts_all_chunks_and_can_be_off() -> None:
    data = b"64\r\n" + b"x" * 100 + b"\r\n"
    with pytest.raises(TooLarge):
        decode(data * 11)
    assert decode(data * 11, size_max=None) == (b"x" * 1100, b"", False)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 30))
def test_what_we_chunk_we_can_read(parts: list[bytes], step: int) -> None:
    data = b"".join(http1.chunk(part) for part in parts) + http1.LAST_CHUNK
    assert decode(data, step=step) == (b"".join(parts), b"", True)


@given(st.binary(max_size=200), st.integers(1, 7))
def test_random_bytes_are_refused_the_same_however_they_are_cut(data: bytes, step: int) -> None:
    def outcome(step: int) -> object:
        try:
            return decode(data, step=step)
        except Misuse as error:
            return type(error)

    assert outcome(step) == outcome(0)
