"""Header blocks: what is malformed, what is remembered, and that remembering changes nothing."""

from __future__ import annotations

from typing import Any

import hpack
import pytest

from townhall.model.limits import HTTP2_HEAD_MEMO_COUNT_MAX, HTTP2_HEAD_MEMO_SIZE_MAX
from townhall.wire.http2 import ErrorCode, Fault, Http2Limits
from townhall.wire.http2 import heads as module
from townhall.wire.http2.heads import HeadReader, Memory, head_of_fields

GOOD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"x")]
LIMITS = Http2Limits()


def encode(fields: list[tuple[bytes, bytes]], encoder: hpack.Encoder | None = None) -> bytes:
    block: bytes = (encoder or hpack.Encoder()).encode(fields)
    return block


def reader() -> HeadReader:
    return HeadReader(Memory(LIMITS, varying=b"grpc-timeout"), LIMITS)


def test_a_good_head() -> None:
    head = head_of_fields([*GOOD, (b"te", b"trailers"), (b"content-length", b"7"), (b"x", b"")])
    assert (head.method, head.path, head.length, head.fault) == (b"POST", b"/a", 7, "")
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


def test_tables_are_used_until_the_peer_has_read_our_settings() -> None:
    encoder, heads = hpack.Encoder(), reader()
    first = encode([*GOOD, (b"token", b"abc")], encoder)
    second = encode([*GOOD, (b"token", b"abc")], encoder)
    assert len(second) < len(first), "the table is in use"
    assert heads.read(first)[0].fields == heads.read(second)[0].fields == [(b"token", b"abc")]
    assert not heads.stateless
    heads.acknowledged()
    encoder.header_table_size = 0
    third = encode([*GOOD, (b"token", b"abc")], encoder)
    assert heads.read(third)[0].fields == [(b"token", b"abc")]
    assert heads.stateless
    again = encode([*GOOD, (b"token", b"abc")], encoder)
    assert heads.read(again)[0] is heads.read(again)[0]


def test_a_peer_that_goes_on_using_its_table_is_cut() -> None:
    encoder, heads = hpack.Encoder(), reader()
    heads.read(encode(GOOD, encoder))
    heads.acknowledged()
    with pytest.raises(Fault) as caught:
        heads.read(encode(GOOD, encoder))
    assert caught.value.error is ErrorCode.COMPRESSION_ERROR


def stateless(memory: Memory) -> tuple[HeadReader, hpack.Encoder]:
    heads, encoder = HeadReader(memory, LIMITS), hpack.Encoder()
    heads.acknowledged()
    encoder.header_table_size = 0
    heads.read(encode(GOOD, encoder))
    assert heads.stateless
    return heads, encoder


def test_the_varying_field_is_kept_apart() -> None:
    heads, encoder = stateless(Memory(LIMITS, varying=b"grpc-timeout"))
    for value in (b"1S", b"2S"):
        head, varying = heads.read(encode([*GOOD, (b"grpc-timeout", value), (b"x", b"y")], encoder))
        assert (varying, head.fields) == (value, [(b"x", b"y")])


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HTTP2_HEAD_MEMO_COUNT_MAX", 10)
    assert HTTP2_HEAD_MEMO_COUNT_MAX > 10
    memory = Memory(LIMITS, varying=b"grpc-timeout")
    heads, encoder = stateless(memory)
    first = encode([*GOOD, (b"x", b"first")], encoder)
    kept: Any = heads.read(first)
    for index in range(100):
        heads.read(encode([*GOOD, (b"x", b"%d" % index)], encoder))
        assert len(memory) <= 20
        if index % 5 == 0:
            assert heads.read(first)[0] is kept[0], "what is asked for stays"
    large = encode([*GOOD, (b"x", b"~" * HTTP2_HEAD_MEMO_SIZE_MAX)], encoder)
    assert heads.read(large)[0] is not heads.read(large)[0]


@pytest.mark.parametrize(
    "block", [b"\x80", b"\xff\xff\xff\xff\xff\xff", b"\x00\x05ab", b"\x40", b"\x3f\xff\xff\x03", b"\xbe"]
)
def test_blocks_that_are_none(block: bytes) -> None:
    for heads in (reader(), stateless(Memory(LIMITS, varying=b""))[0]):
        with pytest.raises(Fault) as caught:
            heads.read(block)
        assert (caught.value.error, caught.value.stream) == (ErrorCode.COMPRESSION_ERROR, 0)


def test_a_bomb_does_not_unfold() -> None:
    encoder, heads = hpack.Encoder(), reader()
    heads.read(encode([*GOOD, (b"x", b"y" * 4_000)], encoder))
    with pytest.raises(Fault) as caught:
        heads.read(b"\xbe" * 16_000)
    assert caught.value.error is ErrorCode.ENHANCE_YOUR_CALM
