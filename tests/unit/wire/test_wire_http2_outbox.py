"""Answers cut to windows: nothing is lost, doubled or sent beyond what the peer and the socket take."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_wire_http2_connection import Sink

from townhall.wire.grpc import OK_HEAD, OK_TRAILERS
from townhall.wire.http2 import ErrorCode, Fault, frames
from townhall.wire.http2.outbox import Outbox, Stream


def opened(outbox: Outbox, number: int, window: int, *, ended: bool = True) -> Stream:
    stream = outbox.streams[number] = Stream(number, window)
    stream.ended = ended
    return stream


def data_of(said: bytes) -> dict[int, bytes]:
    """Stream → its data."""
    found: dict[int, bytes] = {}
    while said:
        high, low, kind, _, number = frames.head_of(said)
        size = high << 8 | low
        if kind == frames.DATA:
            found[number] = found.get(number, b"") + said[9 : 9 + size]
        said = said[9 + size :]
    return found


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40_000)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 30_000)), max_size=30),
    st.integers(0, 40_000),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_everything_arrives_once_and_in_order(
    answers: list[tuple[int, int]], updates: list[tuple[int, int]], window: int
) -> None:
    outbox = Outbox(Sink(), 10**9)
    streams = [opened(outbox, 2 * index + 1, window) for index in range(4)]
    allowed = {stream.id: window for stream in streams}
    total = 65_535
    wanted = dict.fromkeys(allowed, b"")
    said = b""
    for stream in streams:
        outbox.begin(stream, OK_HEAD)
    for index, size in answers:
        wanted[streams[index].id] += bytes((size % 251,)) * size
        outbox.send(streams[index], bytes((size % 251,)) * size)
    for stream in streams:
        outbox.end(stream, OK_TRAILERS)
    for index, size in updates:
        if index < 0:
            total += size
            outbox.opened(None, size)
        elif not streams[index].finished:
            allowed[streams[index].id] += size
            outbox.opened(streams[index], size)
    said = outbox.take() if outbox.out else b""
    sent = data_of(said)
    assert sum(map(len, sent.values())) <= total
    for number, data in sent.items():
        assert len(data) <= allowed[number]
        assert wanted[number].startswith(data)
    outbox.opened(None, 10**6)
    for stream in streams:
        if not stream.finished:
            outbox.opened(stream, 10**6)
    said += outbox.take() if outbox.out else b""
    assert data_of(said) == {number: data for number, data in wanted.items() if data}
    assert outbox.unsent == 0
    assert not outbox.streams


def test_a_large_answer_does_not_keep_small_ones_waiting() -> None:
    outbox = Outbox(Sink(), 10**9)
    outbox.window = 0
    large, small = opened(outbox, 1, 10**6), opened(outbox, 3, 10**6)
    outbox.answer(large, OK_HEAD, b"", b"l" * 500_000, OK_TRAILERS)
    outbox.answer(small, OK_HEAD, b"", b"s" * 100, OK_TRAILERS)
    outbox.opened(None, 20_000)
    assert small.finished
    assert not large.finished


def test_the_socket_sets_the_pace() -> None:
    outbox = Outbox(Sink(), 30_000)
    outbox.window = 10**6
    stream = opened(outbox, 1, 10**6)
    outbox.answer(stream, OK_HEAD, b"", b"x" * 100_000, OK_TRAILERS)
    assert len(data_of(outbox.take())[1]) == 30_000
    for _ in range(3):
        outbox.room = 30_000
        outbox.pump()
    assert stream.finished
    assert len(data_of(outbox.take())[1]) == 70_000


def test_a_window_that_shrinks_may_be_negative() -> None:
    outbox = Outbox(Sink(), 10**9)
    outbox.initial_window = 100
    stream = opened(outbox, 1, 100)
    outbox.begin(stream, OK_HEAD)
    outbox.send(stream, b"x" * 150)
    outbox.resized(50)
    assert stream.window == -50
    outbox.take()
    outbox.opened(stream, 60)
    assert len(data_of(outbox.take())[1]) == 10
    outbox.resized(90)
    assert len(data_of(outbox.take())[1]) == 40
    assert stream.pending is None
    stream.window = 2**31 - 10
    with pytest.raises(Fault) as caught:
        outbox.resized(200)
    assert caught.value.error is ErrorCode.FLOW_CONTROL_ERROR


def test_waiting_streams_are_counted_once_and_forgotten_with_their_stream() -> None:
    outbox = Outbox(Sink(), 10**9)
    outbox.window = 0
    stream = opened(outbox, 1, 10)
    outbox.begin(stream, OK_HEAD)
    outbox.send(stream, b"x" * 20)
    for _ in range(100):
        outbox.resized(outbox.initial_window - 10)
        outbox.resized(outbox.initial_window + 10)
    assert len(outbox._waiting) == 1
    outbox.reset(stream, ErrorCode.CANCEL)
    outbox.reset(stream, ErrorCode.CANCEL)
    assert (len(outbox._waiting), outbox.unsent) == (0, 0)
    outbox.send(stream, b"late")
    outbox.end(stream, OK_TRAILERS)
    outbox.begin(stream, OK_HEAD)
    outbox.answer(stream, OK_HEAD, b"", b"", OK_TRAILERS)
    assert [frames.head_of(part)[2] for part in outbox.out] == [frames.HEADERS, frames.RST_STREAM]


def test_an_answer_before_the_end_of_the_request_ends_both() -> None:
    outbox = Outbox(Sink(), 10**9)
    stream = opened(outbox, 1, 100, ended=False)
    outbox.answer(stream, OK_HEAD, b"", b"x", OK_TRAILERS)
    assert outbox.out[-1] == frames.reset(1, ErrorCode.NO_ERROR)
    assert list(outbox.dropped) == [1]
