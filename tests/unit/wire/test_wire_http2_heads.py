"""Heads: what is malformed."""

from __future__ import annotations

import pytest

from townhall.wire.http2.heads import head_of_fields

GOOD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"x")]


def test_a_good_head() -> None:
    head = head_of_fields([*GOOD, (b"te", b"trailers"), (b"content-length", b"7"), (b"x", b"")])
    assert (head.method, head.path, head.length, head.fault) == (b"POST", b"/a", 7, "")
    assert head.authority == b"x"
    assert head.fields == [(b"te", b"trailers"), (b"content-length", b"7"), (b"x", b"")]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        GOOD[1:],
        [GOOD[0], *GOOD[2:]],
        [*GOOD[:2], GOOD[3]],
        [*GOOD[:2], (b":path", b""), GOOD[3]],
        [*GOOD, GOOD[0]],
        [*GOOD, (b":status", b"200")],
        [*GOOD, (b":unknown", b"")],
        [(b"x", b"y"), *GOOD],
        [*GOOD, (b"Upper", b"x")],
        [*GOOD, (b"", b"x")],
        [*GOOD, (b"a b", b"x")],
        [*GOOD, (b"a:b", b"x")],
        [*GOOD, ("é".encode(), b"x")],
        [*GOOD, (b"x", b"a\r\nb")],
        [*GOOD, (b"x", b"a\0")],
        [*GOOD, (b"x", b" a")],
        [*GOOD, (b"x", b"a\t")],
        [*GOOD, (b"connection", b"close")],
        [*GOOD, (b"transfer-encoding", b"chunked")],
        [*GOOD, (b"keep-alive", b"1")],
        [*GOOD, (b"upgrade", b"x")],
        [*GOOD, (b"proxy-connection", b"x")],
        [*GOOD, (b"te", b"gzip")],
        [*GOOD, (b"content-length", b"x")],
        [*GOOD, (b"content-length", b"-1")],
        [*GOOD, (b"content-length", b"")],
        [*GOOD, (b"content-length", b"1"), (b"content-length", b"2")],
        [*GOOD, (b"content-length", b"1" * 30)],
    ],
)
def test_malformed_heads(fields: list[tuple[bytes, bytes]]) -> None:
    assert head_of_fields(fields).fault
