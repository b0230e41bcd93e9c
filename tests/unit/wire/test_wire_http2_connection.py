"""The connection and its outbox, without sockets: a scripted peer and a sink that notes what it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.model.limits import (
    HTTP2_CONNECTION_WINDOW_SIZE,
    HTTP2_CONTINUATIONS_MAX,
    HTTP2_DROPPED_COUNT_MAX,
    HTTP2_FRAMES_PER_TURN,
    HTTP2_STREAM_WINDOW_SIZE,
    HTTP2_STREAMS_MAX,
)
from townhall.wire.grpc import OK_HEAD, OK_TRAILERS
from townhall.wire.http2 import PREFACE, ErrorCode, Fault, Http2Limits, frames
from townhall.wire.http2.connection import Connection
from townhall.wire.http2.heads import Head
from townhall.wire.http2.memory import Memory
from townhall.wire.http2.outbox import Stream

FIELDS = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "x")]


class Sink:
    """Notes what happens; ``answer`` is sent at the end of each request. Whole requests are noted as two events, and
    counted; ``quick`` asks for them.
    """

    def __init__(self) -> None:
        self.quick = True
        self.count_whole = 0
        self.events: list[tuple[object, ...]] = []
        self.streams: dict[int, Stream] = {}
        self.answer: bytes | None = None
        self.connection: Connection | None = None

    def request(self, stream: Stream, head: Head, varying: bytes, ended: bool) -> None:
        head.whole = self.quick
        self._requested(stream, head, varying, ended)
        if ended:
            self._ended(stream)

    def _requested(self, stream: Stream, head: Head, varying: bytes, ended: bool) -> None:
        self.events.append(("request", stream.id, head.path, varying, ended))
        self.streams[stream.id] = stream

    def whole(self, stream: Stream, head: Head, data: bytes) -> None:
        self.count_whole += 1
        self._requested(stream, head, b"", False)
        self.data(stream, data, True)

    def answering(self, stream: Stream) -> Callable[[bytes], bytes | None] | None:
        return None

    def data(self, stream: Stream, data: bytes, ended: bool) -> None:
        self.events.append(("data", stream.id, data, ended))
        if ended:
            self._ended(stream)

    def lost(self, stream: Stream) -> None:
        self.events.append(("lost", stream.id))

    def writable(self, stream: Stream) -> None:
        self.events.append(("writable", stream.id))

    def _ended(self, stream: Stream) -> None:
        if self.answer is not None and self.connection is not None:
            self.connection.outbox.answer(stream, OK_HEAD, b"", self.answer, OK_TRAILERS)


class Peer:
    """A connection under test and the client's side of it."""

    def __init__(self, *, begin: bool = True, room: int = 1_000_000, **limits: int) -> None:
        self.sink = Sink()
        made = Http2Limits(**limits)
        self.connection = Connection(made, Memory(made, varying=b"grpc-timeout"), self.sink, room)
        self.sink.connection = self.connection
        self.outbox = self.connection.outbox
        self.encoder = hpack.Encoder()
        self.encoder.header_table_size = 0
        self.said: list[tuple[int, int, int, bytes]] = []
        if begin:
            self.send(PREFACE + frames.settings({}))
            self.take()

    def send(self, data: bytes) -> bool:
        return self.connection.receive(data)

    def take(self) -> list[tuple[int, int, int, bytes]]:
        """What it has said since the last time."""
        data, found = self.outbox.take(), []
        while data:
            high, low, kind, flags, number = frames.head_of(data)
            size = high << 8 | low
            found.append((kind, flags, number, data[9 : 9 + size]))
            data = data[9 + size :]
        self.said += found
        return found

    def block(self, fields: Sequence[tuple[str, str]] = ()) -> bytes:
        block: bytes = self.encoder.encode([*FIELDS, *fields])
        return block

    def headers(self, number: int, *fields: tuple[str, str], flags: int = frames.END_HEADERS) -> bytes:
        return frames.frame(frames.HEADERS, flags, number, self.block(fields))

    def data(self, number: int, data: bytes, flags: int = 0) -> bytes:
        return frames.frame(frames.DATA, flags, number, data)

    def error(self) -> tuple[str, int]:
        """How the connection or the last stream was ended."""
        for kind, _, number, payload in reversed(self.take()):
            if kind == frames.GOAWAY:
                assert self.connection.over
                return "goaway", int.from_bytes(payload[4:8], "big")
            if kind == frames.RST_STREAM:
                return f"reset {number}", int.from_bytes(payload, "big")
        return "fine", 0


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    return frames.frame(kind, flags, number, payload)


ENDS = frames.END_STREAM


def test_a_request_goes_to_the_sink_and_its_answer_out() -> None:
    peer = Peer()
    peer.sink.answer = b"answer"
    peer.send(peer.headers(1, ("grpc-timeout", "1S")) + peer.data(1, b"body") + peer.data(1, b"", ENDS))
    assert peer.sink.events == [
        ("request", 1, b"/a", b"1S", False),
        ("data", 1, b"body", False),
        ("data", 1, b"", True),
    ]
    assert [(kind, flags, number) for kind, flags, number, _ in peer.take()] == [
        (frames.HEADERS, frames.END_HEADERS, 1),
        (frames.DATA, 0, 1),
        (frames.HEADERS, frames.END_HEADERS | ENDS, 1),
    ]
    assert not peer.connection.streams


@given(st.integers(1, 60), st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bytes_mean_the_same_however_they_are_cut(step: int, data: st.DataObject) -> None:
    whole, cut = Peer(begin=False), Peer(begin=False)
    for peer in (whole, cut):
        peer.sink.answer = b"answer"
    parts = data.draw(
        st.lists(st.sampled_from(["call", "ping", "settings", "window", "reset", "bad", "unknown"]), max_size=12)
    )
    said, number = PREFACE + frames.settings({4: 100}), 1
    for part in parts:
        if part == "call":
            said += whole.headers(number) + whole.data(number, b"body", ENDS)
            number += 2
        elif part == "reset":
            said += whole.headers(number) + frames.reset(number, ErrorCode.CANCEL)
            number += 2
        else:
            said += {
                "ping": frame(frames.PING, 0, 0, b"12345678"),
                "settings": frames.settings({4: 5}),
                "window": frames.window_update(0, 5),
                "bad": frame(frames.DATA, 0, 1001, b"x"),
                "unknown": frame(99, 255, 3, b"x"),
            }[part]
    whole.send(said)
    for at in range(0, len(said), step):
        cut.send(said[at : at + step])
    assert whole.sink.events == cut.sink.events
    assert whole.outbox.take() == cut.outbox.take()


BROKEN = {
    "frame too large": (frame(frames.DATA, 0, 1, b"x" * 16_385), "goaway", ErrorCode.FRAME_SIZE_ERROR),
    "data on stream 0": (frame(frames.DATA, 0, 0, b"x"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "data on an idle stream": (frame(frames.DATA, 0, 5, b"x"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "padding too long": (frame(frames.DATA, frames.PADDED, 1, b"\x05abc"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "padding of nothing": (frame(frames.DATA, frames.PADDED, 1, b""), "goaway", ErrorCode.PROTOCOL_ERROR),
    "even stream": (frame(frames.HEADERS, 4, 2, b"\x82"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "headers too short": (frame(frames.HEADERS, 0x24, 3, b"\0\0"), "goaway", ErrorCode.FRAME_SIZE_ERROR),
    "depends on itself": (frame(frames.HEADERS, 0x24, 3, b"\0\0\0\3\0"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "interrupted block": (
        frame(frames.HEADERS, 0, 3, b"\x82") + frame(frames.PING, 0, 0, b"12345678"),
        "goaway",
        ErrorCode.PROTOCOL_ERROR,
    ),
    "continuation of nothing": (frame(frames.CONTINUATION, 4, 1, b""), "goaway", ErrorCode.PROTOCOL_ERROR),
    "continuation of another": (
        frame(frames.HEADERS, 0, 3, b"\x82") + frame(frames.CONTINUATION, 4, 5, b""),
        "goaway",
        ErrorCode.PROTOCOL_ERROR,
    ),
    "priority on stream 0": (frame(frames.PRIORITY, 0, 0, b"\0\0\0\0\0"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "priority too short": (frame(frames.PRIORITY, 0, 1, b"\0\0\0\0"), "reset 1", ErrorCode.FRAME_SIZE_ERROR),
    "priority on itself": (frame(frames.PRIORITY, 0, 1, b"\0\0\0\1\0"), "reset 1", ErrorCode.PROTOCOL_ERROR),
    "reset too short": (frame(frames.RST_STREAM, 0, 1, b"\0\0\0"), "goaway", ErrorCode.FRAME_SIZE_ERROR),
    "reset of stream 0": (frame(frames.RST_STREAM, 0, 0, b"\0\0\0\0"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "reset of an idle stream": (frame(frames.RST_STREAM, 0, 7, b"\0\0\0\0"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "settings on a stream": (frame(frames.SETTINGS, 0, 1), "goaway", ErrorCode.PROTOCOL_ERROR),
    "settings acknowledged with more": (frame(frames.SETTINGS, 1, 0, b"x"), "goaway", ErrorCode.FRAME_SIZE_ERROR),
    "push": (frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "ping on a stream": (frame(frames.PING, 0, 1, b"12345678"), "goaway", ErrorCode.PROTOCOL_ERROR),
    "ping too short": (frame(frames.PING, 0, 0, b"1234"), "goaway", ErrorCode.FRAME_SIZE_ERROR),
    "goaway on a stream": (frame(frames.GOAWAY, 0, 1, b"\0" * 8), "goaway", ErrorCode.PROTOCOL_ERROR),
    "goaway too short": (frame(frames.GOAWAY, 0, 0, b"\0" * 7), "goaway", ErrorCode.FRAME_SIZE_ERROR),
    "window too short": (frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\1"), "goaway", ErrorCode.FRAME_SIZE_ERROR),
    "window by nothing": (frames.window_update(0, 0), "goaway", ErrorCode.PROTOCOL_ERROR),
    "stream window by nothing": (frames.window_update(1, 0), "reset 1", ErrorCode.PROTOCOL_ERROR),
    "window of an idle stream": (frames.window_update(9, 1), "goaway", ErrorCode.PROTOCOL_ERROR),
    "window too large": (frames.window_update(0, 2**31 - 1), "goaway", ErrorCode.FLOW_CONTROL_ERROR),
    "stream window too large": (frames.window_update(1, 2**31 - 1), "reset 1", ErrorCode.FLOW_CONTROL_ERROR),
    "trailers that end nothing": (frame(frames.HEADERS, 4, 1, b"\x82"), "reset 1", ErrorCode.PROTOCOL_ERROR),
    "malformed head": (frame(frames.HEADERS, 5, 3, b"\x82"), "reset 3", ErrorCode.PROTOCOL_ERROR),
    "no block": (frame(frames.HEADERS, 5, 3, b"\x80"), "goaway", ErrorCode.COMPRESSION_ERROR),
    "fine": (
        frame(frames.GOAWAY, 0, 0, b"\0" * 8) + frame(99, 0, 0) + frame(frames.PRIORITY, 0, 9, b"\0" * 5),
        "fine",
        0,
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rules(case: str) -> None:
    data, what, error = BROKEN[case]
    peer = Peer()
    peer.send(peer.headers(1))
    peer.take()
    peer.send(data)
    assert peer.error() == (what, error)
    lost = ("lost", 1) in peer.sink.events
    assert lost == (what in ("goaway", "reset 1"))
    assert peer.connection.streams.keys() == ({1} if what in ("fine", "reset 3") else set())


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE[:-1] + b"x",
        PREFACE + frame(frames.PING, 0, 0, b"12345678"),
        PREFACE + frame(frames.SETTINGS, 1, 0),
    ],
)
def test_a_connection_begins_with_preface_and_settings(first: bytes) -> None:
    peer = Peer(begin=False)
    peer.send(first)
    assert peer.error() == ("goaway", ErrorCode.PROTOCOL_ERROR)
    assert not peer.send(b"more"), "nothing is read after that"


def test_frames_on_streams_that_have_ended() -> None:
    peer = Peer()
    peer.send(peer.headers(1, flags=frames.END_HEADERS | ENDS))
    peer.send(peer.data(1, b"late"))
    assert peer.error() == ("reset 1", ErrorCode.STREAM_CLOSED)
    peer = Peer()
    peer.sink.answer = b""
    peer.send(peer.headers(3) + peer.data(3, b"x", ENDS))
    peer.take()
    peer.send(frames.window_update(3, 5) + frames.reset(3, ErrorCode.CANCEL))
    assert peer.error() == ("fine", 0), "these may have been on their way"
    peer.send(peer.headers(1))
    assert peer.error() == ("goaway", ErrorCode.STREAM_CLOSED)


def test_what_comes_late_for_a_stream_that_we_ended_is_passed_over() -> None:
    peer = Peer()
    peer.send(peer.headers(1))
    peer.connection.reset(peer.sink.streams[1], ErrorCode.CANCEL)
    assert peer.error() == ("reset 1", ErrorCode.CANCEL)
    peer.send(peer.data(1, b"late") + peer.headers(1, flags=frames.END_HEADERS | ENDS))
    assert peer.error() == ("fine", 0)
    peer.send(peer.data(1, b"later"))
    assert peer.error() == ("reset 1", ErrorCode.STREAM_CLOSED)
    for number in range(3, 3 + 2 * HTTP2_DROPPED_COUNT_MAX + 2, 2):
        peer.send(peer.headers(number))
        peer.connection.reset(peer.sink.streams[number], ErrorCode.CANCEL)
    assert len(peer.outbox.dropped) == HTTP2_DROPPED_COUNT_MAX


PIECES = st.one_of(
    st.tuples(st.just("whole"), st.sampled_from([0, 1, 300])),
    st.tuples(
        st.sampled_from(["head", "two", "padded", "late", "timed", "other", "again", "large", "window"]), st.just(0)
    ),
)


def known(peer: Peer) -> None:
    """Two requests, after which the head is remembered: without a table, a block means the same whenever it comes."""
    peer.send(frame(frames.SETTINGS, frames.ACK, 0) * 2)
    for number in (1, 3):
        peer.send(peer.headers(number) + peer.data(number, b"x", ENDS))
    peer.take()


def pieces_of(peer: Peer, wanted: list[tuple[str, int]]) -> bytes:
    """Requests of all kinds; most are whole."""
    sent, number = b"", 3
    for kind, size in wanted:
        number += 2
        head = peer.headers(number)
        body = peer.data(number, b"x" * size, ENDS)
        match kind:
            case "whole":
                sent += head + body
            case "head":
                sent += peer.headers(number, flags=frames.END_HEADERS | ENDS)
            case "two":
                sent += head + peer.data(number, b"a") + body
            case "padded":
                sent += head + frame(frames.DATA, ENDS | frames.PADDED, number, b"\x02body\0\0")
            case "late":
                sent += head + body + peer.data(number, b"late")
            case "timed":
                sent += peer.headers(number, ("grpc-timeout", "1S")) + body
            case "other":
                sent += head + peer.headers(number + 2) + body + peer.data(number + 2, b"", ENDS)
                number += 2
            case "again":
                sent += head + body + head
            case "large":
                sent += head + peer.data(number, b"x" * (frames.FRAME_SIZE_MIN + 1), ENDS)
            case _:
                sent += frames.window_update(0, 2_000) + head + body
    return sent


@given(st.lists(PIECES, max_size=8), st.booleans(), st.integers(0, 3), st.integers(1, 9))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whole_requests_are_as_their_parts(
    wanted: list[tuple[str, int]], answered: bool, streams_max: int, step: int
) -> None:
    seen = []
    for quick in (True, False):
        peer = Peer(streams_max=streams_max or 100, connection_window_size=100_000)
        peer.sink.quick = quick
        peer.sink.answer = b"answer" if answered else None
        known(peer)
        sent = pieces_of(peer, wanted)
        if quick:
            peer.send(sent)
        else:
            for at in range(0, len(sent), step):
                peer.send(sent[at : at + step])
        assert quick or not peer.sink.count_whole
        if quick and wanted[:1] == [("whole", 1)] and (answered or not streams_max):
            assert peer.sink.count_whole
        connection = peer.connection
        seen.append((
            peer.sink.events, peer.take(), connection.over, connection.last, connection._unacked, sorted(connection.streams),
            {number: (stream.ended, stream.finished, stream.started) for number, stream in peer.sink.streams.items()},
        ))  # fmt: skip
    assert seen[0] == seen[1]


def test_a_whole_request_waits_for_answers_that_wait() -> None:
    peer = Peer(room=3)
    known(peer)
    peer.sink.answer = b"answer"
    for number, unsent in ((5, 3), (7, 9)):
        peer.send(peer.headers(number) + peer.data(number, b"x", ENDS))
        assert (peer.sink.count_whole, peer.outbox.unsent) == (1, unsent)
    peer.outbox.room = 100
    peer.outbox.pump()
    peer.send(peer.headers(9) + peer.data(9, b"x", ENDS))
    assert (peer.sink.count_whole, peer.outbox.unsent) == (2, 0)


def test_trailers_end_a_request() -> None:
    peer = Peer()
    peer.send(peer.headers(1) + peer.data(1, b"x"))
    peer.send(frame(frames.HEADERS, frames.END_HEADERS | ENDS, 1, peer.encoder.encode([("x", "y")])))
    assert peer.sink.events[-1] == ("data", 1, b"", True)


@pytest.mark.parametrize(
    ("length", "parts", "fine"), [(3, 3, True), (3, 2, False), (3, 4, False), (0, 0, True), (1, 0, False)]
)
def test_a_body_is_as_long_as_it_says(length: int, parts: int, fine: bool) -> None:
    peer = Peer()
    peer.send(peer.headers(1, ("content-length", str(length))))
    for _ in range(parts):
        peer.send(peer.data(1, b"x"))
    peer.send(peer.data(1, b"", ENDS))
    assert (peer.error() == ("fine", 0)) == fine
    assert (peer.sink.events[-1] == ("data", 1, b"", True)) == fine
    peer = Peer()
    peer.send(peer.headers(1, ("content-length", "1"), flags=frames.END_HEADERS | ENDS))
    assert peer.error() == ("reset 1", ErrorCode.PROTOCOL_ERROR)


def test_too_many_streams_are_refused_and_their_headers_read() -> None:
    peer = Peer(streams_max=2)
    peer.send(peer.headers(1) + peer.headers(3) + peer.headers(5, ("x", "y")))
    assert peer.error() == ("reset 5", ErrorCode.REFUSED_STREAM)
    peer.send(peer.data(5, b"late", ENDS) + frames.reset(1, ErrorCode.CANCEL) + peer.headers(7, ("x", "y")))
    assert peer.error() == ("fine", 0)
    assert [event[1] for event in peer.sink.events if event[0] == "request"] == [1, 3, 7]
    assert HTTP2_STREAMS_MAX >= 10_000


def test_windows_that_the_peer_may_fill() -> None:
    peer = Peer(stream_window_size=20_000, connection_window_size=65_535)
    peer.send(peer.headers(1))
    peer.send(peer.data(1, b"x" * 10_000))
    assert frames.window_update(1, 10_000)[9:] in [payload for *_, payload in peer.take()]
    peer.sink.streams[1].paused = True
    peer.send(peer.data(1, b"x" * 10_000) + peer.data(1, b"x" * 10_000))
    assert peer.take() == []
    peer.connection.resume(peer.sink.streams[1])
    assert [(kind, number) for kind, _, number, _ in peer.take()] == [(frames.WINDOW_UPDATE, 1)]
    peer.sink.streams[1].paused = True
    peer.send(peer.data(1, b"x" * 10_000) + peer.data(1, b"x" * 10_001))
    assert peer.error() == ("reset 1", ErrorCode.FLOW_CONTROL_ERROR)
    assert HTTP2_CONNECTION_WINDOW_SIZE >= HTTP2_STREAM_WINDOW_SIZE


def test_the_window_of_the_connection_is_kept_to() -> None:
    peer = Peer(connection_window_size=10)
    peer.send(peer.headers(1) + peer.data(1, b"x" * 11))
    assert peer.error() == ("goaway", ErrorCode.FLOW_CONTROL_ERROR)


def test_turns_are_bounded() -> None:
    peer = Peer()
    said = b"".join(peer.headers(number) for number in range(1, 2 * HTTP2_FRAMES_PER_TURN + 21, 2))
    assert peer.send(said)
    assert len(peer.sink.events) == HTTP2_FRAMES_PER_TURN
    assert peer.connection.held
    assert not peer.send(b"")
    assert len(peer.sink.events) == HTTP2_FRAMES_PER_TURN + 10
    assert not peer.connection.held


def test_who_calls_is_asked_to_use_no_table() -> None:
    peer = Peer()
    peer.connection.settle()
    peer.connection.settle()
    assert peer.take() == [(frames.SETTINGS, 0, 0, b"\0\1\0\0\0\0")]
    acknowledged = frame(frames.SETTINGS, frames.ACK, 0)
    peer.encoder = hpack.Encoder()
    peer.send(acknowledged + peer.headers(1, ("token", "abc")) + peer.headers(3, ("token", "abc")))
    peer.send(acknowledged)
    peer.encoder.header_table_size = 0
    peer.send(peer.headers(5, ("token", "abc")) + peer.headers(7, ("token", "abc")))
    assert peer.error() == ("fine", 0)
    assert len(peer.sink.events) == 4


def test_settings_and_pings_are_answered() -> None:
    peer = Peer()
    peer.send(
        frames.settings({4: 7, 5: 20_000})
        + frame(frames.PING, 0, 0, b"12345678")
        + frame(frames.PING, 1, 0, b"87654321")
    )
    assert peer.take() == [(frames.SETTINGS, 1, 0, b""), (frames.PING, 1, 0, b"12345678")]
    assert (peer.outbox.initial_window, peer.outbox.frame_size_max) == (7, 20_000)


FLOODS = {
    "ping": frame(frames.PING, 0, 0, b"12345678"),
    "settings": frames.settings({}),
    "priority": frame(frames.PRIORITY, 0, 1, b"\0" * 5),
    "empty data": frame(frames.DATA, 0, 1),
    "padding": frame(frames.DATA, frames.PADDED, 1, b"\0"),
    "unknown": frame(77, 0, 0),
    "window": frames.window_update(1, 1),
    "goaway": frame(frames.GOAWAY, 0, 0, b"\0" * 8),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_are_cut(flood: str) -> None:
    peer = Peer(noise_max=1_000)
    peer.send(peer.headers(1))
    for _ in range(20):
        peer.send(FLOODS[flood] * 100)
    assert peer.error() == ("goaway", ErrorCode.ENHANCE_YOUR_CALM)


def test_rapid_reset_is_cut() -> None:
    peer = Peer(noise_max=1_000)
    number = 1
    while not peer.connection.over:
        peer.send(peer.headers(number) + frames.reset(number, ErrorCode.CANCEL))
        number += 2
        assert number < 8_000
        assert not peer.connection.streams
    assert peer.error() == ("goaway", ErrorCode.ENHANCE_YOUR_CALM)


def test_a_block_without_end_is_cut() -> None:
    peer = Peer()
    peer.send(frame(frames.HEADERS, 0, 1, b""))
    for _ in range(HTTP2_CONTINUATIONS_MAX):
        peer.send(frame(frames.CONTINUATION, 0, 1, b""))
    assert peer.error() == ("goaway", ErrorCode.ENHANCE_YOUR_CALM)
    peer = Peer(header_size_max=100)
    peer.send(frame(frames.HEADERS, 0, 1, b"x" * 60) + frame(frames.CONTINUATION, 4, 1, b"x" * 60))
    assert peer.error() == ("goaway", ErrorCode.ENHANCE_YOUR_CALM)


def test_blocks_may_come_in_pieces_and_padded() -> None:
    peer = Peer()
    block = peer.block()
    padded = b"\x03" + b"\0\0\0\0\x10" + block[:5] + b"\0\0\0"
    peer.send(frame(frames.HEADERS, frames.PADDED | frames.PRIORITY_FLAG | ENDS, 1, padded))
    peer.send(frame(frames.CONTINUATION, 0, 1, block[5:9]) + frame(frames.CONTINUATION, 4, 1, block[9:]))
    assert peer.sink.events == [("request", 1, b"/a", b"", True)]


def test_leaving_takes_two_steps() -> None:
    peer = Peer()
    peer.send(peer.headers(1))
    peer.connection.leave(last=False)
    peer.send(peer.headers(3))
    peer.connection.leave(last=True)
    peer.send(peer.headers(5))
    assert [payload[:4] for kind, _, _, payload in peer.take() if kind == frames.GOAWAY] == [
        (2**31 - 1).to_bytes(4, "big"),
        (3).to_bytes(4, "big"),
    ]
    assert set(peer.connection.streams) == {1, 3}
    peer.connection.fail(Fault(ErrorCode.INTERNAL_ERROR, "x"))
    peer.connection.fail(Fault(ErrorCode.INTERNAL_ERROR, "x"))
    peer.connection.leave(last=True)
    assert peer.sink.events[-2:] == [("lost", 1), ("lost", 3)]
    assert len(peer.take()) == 1
