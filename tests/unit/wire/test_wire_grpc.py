"""gRPC's messages, timeouts and statuses."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.wire import grpc


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 7), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_messages_however_they_are_cut(messages: list[bytes], step: int, gzip: bool) -> None:
    data = b"".join(
        grpc.prefixed(grpc.compress(m), compressed=True) if gzip and i % 2 else grpc.prefixed(m)
        for i, m in enumerate(messages)
    )
    deframer = grpc.Deframer(100, gzip=gzip)
    found = []
    for at in range(0, len(data), step):
        deframer.feed(data[at : at + step])
        while (message := deframer.next()) is not None:
            found.append(message)
    assert found == messages
    assert deframer.size == 0
    assert deframer.next() is None


@given(st.binary(max_size=12), st.binary(max_size=12), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_one_message_is_what_the_slow_way_finds(data: bytes, message: bytes, whole: bool) -> None:
    data = grpc.prefixed(message) + data if whole else data
    deframer = grpc.Deframer(10, gzip=True)
    one = deframer.is_one(data)
    if whole and data == grpc.prefixed(message):
        assert one == (len(message) <= 10)
    deframer.feed(data)
    assert deframer.empty == (deframer.size == 0)
    if one:
        assert not deframer.is_one(data), "something is held before it"
        assert deframer.next() == data[grpc.PREFIX_SIZE :]
        assert deframer.size == 0
        assert deframer.empty
        assert deframer.is_one(data)


def test_a_large_message_in_tiny_pieces_is_joined_now_and_then() -> None:
    deframer = grpc.Deframer(10_000, gzip=False)
    for byte in grpc.prefixed(b"x" * 5_000):
        deframer.feed(bytes((byte,)))
    assert len(deframer._parts) <= 1_025
    assert deframer.next() == b"x" * 5_000


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\2\0\0\0\0", 13),
        (b"\1\0\0\0\1x", 13),
        (b"\0\0\0\0\x65", 8),
        (b"\0\xff\xff\xff\xff", 8),
    ],
)
def test_what_is_no_message(data: bytes, status: int) -> None:
    deframer = grpc.Deframer(100, gzip=False)
    deframer.feed(data)
    with pytest.raises(grpc.GrpcFault) as caught:
        deframer.next()
    assert caught.value.status == status


def test_gzip_that_is_none_or_too_much() -> None:
    bomb = grpc.compress(b"\0" * 10_000_000)
    assert len(bomb) < 50_000
    for data, status in (
        (b"nonsense", 13),
        (bomb, 8),
        (grpc.compress(b"a") + b"!", 13),
        (grpc.compress(b"a")[:-1], 13),
    ):
        with pytest.raises(grpc.GrpcFault) as caught:
            grpc.decompress(data, 1_000)
        assert caught.value.status == status
    assert grpc.decompress(grpc.compress(b"a" * 1_000), 1_000) == b"a" * 1_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1H", 3_600_000),
        (b"2M", 120_000),
        (b"3S", 3_000),
        (b"4m", 4),
        (b"5000u", 5),
        (b"99999999n", 99.999999),
        (b"0n", 0),
    ],
)
def test_timeouts(text: bytes, expected: float) -> None:
    assert grpc.timeout_ms(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"123456789S", b"-1S", b"1S ", b"1.5S", b"1x", "١S".encode()])
def test_timeouts_that_are_none(text: bytes) -> None:
    with pytest.raises(grpc.GrpcFault):
        grpc.timeout_ms(text)


@given(st.text(max_size=200))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_status_texts_are_escaped(text: str) -> None:
    from urllib.parse import unquote

    encoded = grpc.percent_encoded(text)
    assert all(32 <= byte < 127 for byte in encoded)
    assert encoded == encoded.strip(b" "), "HTTP/2 forbids spaces at the ends of a value"
    assert unquote(encoded.decode("ascii")) == text.encode("utf-8", "replace").decode("utf-8")


def test_long_status_texts_are_cut() -> None:
    assert len(grpc.percent_encoded("x" * 100_000)) < 5_000


def test_blocks_say_what_they_should() -> None:
    refusal = grpc.refusal_block(5, "no süch", ((b"x", b"y"),))
    assert refusal.ends
    assert hpack.Decoder().decode(refusal.fields) == [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "5"),
        ("grpc-message", "no%20s%C3%BCch"),
        ("x", "y"),
    ]
    assert hpack.Decoder().decode(grpc.trailers(0, "").fields) == [("grpc-status", "0")]
    assert hpack.Decoder().decode(grpc.OK_TRAILERS.fields) == [("grpc-status", "0")]
