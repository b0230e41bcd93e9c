"""Frames, settings and the guard."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.model.limits import HTTP2_NOISE_MAX, HTTP2_NOISE_PER_TICK, HTTP2_UNSENT_SIZE_MAX
from townhall.wire.http2 import ErrorCode, Fault, Http2Limits, frames
from townhall.wire.http2.guard import Guard
from townhall.wire.http2.settings import Settings, greeting

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=300).map(str.encode)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300).map(str.encode)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.sampled_from([b"200", b"404"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_blocks_are_read_by_hpack_and_need_no_table(fields: list[tuple[bytes, bytes]], status: bytes) -> None:
    listed = [(b":status", status), *fields]
    decoder = hpack.Decoder()
    assert [tuple(field) for field in decoder.decode(frames.block(listed, ends=False).fields, raw=True)] == listed
    assert not decoder.header_table.dynamic_entries


def test_a_large_block_goes_on_in_continuations() -> None:
    made = frames.block([(b"x", b"y" * 40_000)], ends=True)
    data = frames.headers(made, 7)
    kinds, block = [], b""
    while data:
        high, low, kind, flags, number = frames.head_of(data)
        size = high << 8 | low
        assert number == 7
        assert size <= frames.FRAME_SIZE_MIN
        kinds.append((kind, flags))
        block, data = block + data[9 : 9 + size], data[9 + size :]
    assert kinds == [(frames.HEADERS, frames.END_STREAM), (frames.CONTINUATION, 0), (frames.CONTINUATION, 4)]
    assert block == made.fields


def test_the_greeting() -> None:
    said = greeting(Http2Limits(streams_max=5, stream_window_size=100_000, connection_window_size=70_000))
    size = (said[0] << 16) | (said[1] << 8) | said[2]
    pairs = [(said[at + 1], int.from_bytes(said[at + 2 : at + 6], "big")) for at in range(9, 9 + size, 6)]
    assert pairs[:2] == [(3, 5), (4, 100_000)]
    assert said[9 + size :] == frames.window_update(0, 70_000 - 65_535)
    assert b"\x08" not in greeting(Http2Limits(connection_window_size=10))[9 + size : 9 + size + 4]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({4: 2**31}, ErrorCode.FLOW_CONTROL_ERROR),
        ({5: 16_383}, ErrorCode.PROTOCOL_ERROR),
        ({5: 2**24}, ErrorCode.PROTOCOL_ERROR),
        ({2: 2}, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_settings_out_of_bounds(values: dict[int, int], error: ErrorCode) -> None:
    with pytest.raises(Fault) as caught:
        Settings().read(frames.settings(values)[9:])
    assert (caught.value.error, caught.value.stream) == (error, 0)


def test_settings_are_taken_in_order_and_unknown_ones_passed_over() -> None:
    settings = Settings()
    settings.read(frames.settings({4: 5})[9:] + frames.settings({4: 6, 5: 20_000, 99: 7, 1: 0, 2: 1, 3: 9, 6: 1})[9:])
    assert (settings.window, settings.frame_size_max) == (6, 20_000)
    with pytest.raises(Fault) as caught:
        settings.read(b"12345")
    assert caught.value.error is ErrorCode.FRAME_SIZE_ERROR


def test_limits_are_above_zero() -> None:
    with pytest.raises(ValueError, match="streams_max"):
        Http2Limits(streams_max=0)
    assert Http2Limits().unsent_size_max == HTTP2_UNSENT_SIZE_MAX


def test_noise_is_paid_for_and_time_and_work_pay() -> None:
    guard = Guard(10)
    for _ in range(10):
        guard.spend(1, 0)
    guard.spend(1, 1)
    with pytest.raises(Fault) as caught:
        guard.spend(1, 1)
    assert caught.value.error is ErrorCode.ENHANCE_YOUR_CALM
    guard.tick = 1
    for _ in range(min(10, HTTP2_NOISE_PER_TICK) - 1):
        guard.spend(1, 1)
    assert HTTP2_NOISE_MAX >= 2 * 10_000, "ten thousand calls may be cancelled at once"
