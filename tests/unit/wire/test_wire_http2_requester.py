"""The client's end of HTTP/2, against bytes that a server might say."""

from __future__ import annotations

import struct

import pytest

from townhall.model.limits import HTTP2_CONTINUATIONS_MAX
from townhall.wire.http2 import PREFACE, ErrorCode, Http2Limits
from townhall.wire.http2 import frames as f
from townhall.wire.http2.frames import END, block
from townhall.wire.http2.requester import Requested, Requester

LIMITS = Http2Limits(streams_max=3, stream_window_size=1_000, connection_window_size=100_000, noise_max=50)
OK = [(b":status", b"200"), (b"x", b"y")]


class Sink:
    def __init__(self) -> None:
        self.said: list[object] = []

    def answered(self, stream: Requested, status: int, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        self.said.append((stream.id, status, fields, ended))

    def data(self, stream: Requested, data: bytes, *, ended: bool) -> None:
        self.said.append((stream.id, data, ended))

    def trailers(self, stream: Requested, fields: list[tuple[bytes, bytes]]) -> None:
        self.said.append((stream.id, fields))

    def lost(self, stream: Requested, why: str, *, unprocessed: bool) -> None:
        self.said.append((stream.id, "lost", unprocessed))

    def writable(self, stream: object) -> None:
        self.said.append("writable")


def connected(*, asks: int = 1) -> tuple[Requester, Sink]:
    sink = Sink()
    made = Requester(LIMITS, sink, 1_000_000)
    for _ in range(asks):
        made.outbox.begin(made.open(), block([(b":method", b"GET")], ends=True))
    made.outbox.take()
    made.receive(f.settings({}))
    made.outbox.take()
    return made, sink


def head(number: int, rows: list[tuple[bytes, bytes]], *, ends: bool = False) -> bytes:
    return f.headers(block(rows, ends=ends), number)


def data(number: int, payload: bytes, *, ends: bool = False) -> bytes:
    return f.frame(f.DATA, f.END_STREAM if ends else 0, number, payload)


def test_what_it_says_first() -> None:
    made = Requester(LIMITS, Sink(), 1_000)
    said = made.outbox.take()
    assert said.startswith(PREFACE + b"\0\0")
    # No pushes.
    assert struct.pack(">HI", 2, 0) in said


def test_an_answer_however_it_is_cut() -> None:
    whole = head(1, [(b":status", b"103")]) + head(1, OK) + data(1, b"abc") + head(1, [(b"t", b"v")], ends=True)
    expected = [(1, 103, [], False), (1, 200, [(b"x", b"y")], False), (1, b"abc", False), (1, [(b"t", b"v")])]
    for step in (1, 2, 7, len(whole)):
        made, sink = connected()
        for at in range(0, len(whole), step):
            made.receive(whole[at : at + step])
        assert sink.said == expected
        assert not made.streams
        assert not made.over


def test_blocks_in_pieces_and_padding() -> None:
    made, sink = connected()
    fields = block(OK, ends=False).fields
    made.receive(f.frame(f.HEADERS, f.PADDED | f.PRIORITY_FLAG, 1, b"\x02" + bytes(5) + fields[:3] + b"\0\0"))
    made.receive(f.frame(f.CONTINUATION, 0, 1, fields[3:4]) + f.frame(f.CONTINUATION, f.END_HEADERS, 1, fields[4:]))
    made.receive(f.frame(f.DATA, f.PADDED | f.END_STREAM, 1, b"\x01a\0"))
    assert sink.said == [(1, 200, [(b"x", b"y")], False), (1, b"a", True)]


@pytest.mark.parametrize(
    "answer",
    [
        head(1, []),
        head(1, [(b"x", b"y")]),
        head(1, [(b":status", b"20")]),
        head(1, [(b":status", b"101")]),
        head(1, [(b":status", b"100")], ends=True),
        head(1, [*OK, (b":status", b"200")]),
        head(1, [*OK, (b":path", b"/")]),
        head(1, [*OK, (b"X", b"y")]),
        head(1, [*OK, (b"a b", b"y")]),
        head(1, [*OK, (b"a", b"b\r\nc: d")]),
        head(1, [*OK, (b"a", b" b")]),
        head(1, [*OK, (b"transfer-encoding", b"chunked")]),
        head(1, [*OK, (b"connection", b"close")]),
        head(1, [*OK, (b"content-length", b"1"), (b"content-length", b"2")]),
        head(1, [*OK, (b"content-length", b"+1")]),
        head(1, [*OK, (b"content-length", b"1")], ends=True),
        head(1, [*OK, (b"content-length", b"1")]) + data(1, b"ab"),
        head(1, [*OK, (b"content-length", b"2")]) + data(1, b"a", ends=True),
        head(1, [*OK, (b"content-length", b"2")]) + head(1, [], ends=True),
        data(1, b"a"),
        head(1, OK) + head(1, OK),
        head(1, OK) + head(1, [(b":status", b"200")], ends=True),
        head(1, OK) + data(1, bytes(1_001)),
        f.window_update(1, 0),
    ],
)
def test_a_malformed_answer_is_its_streams_fault(answer: bytes) -> None:
    made, sink = connected(asks=2)
    made.receive(answer + head(3, [(b":status", b"204")], ends=True))
    assert (1, "lost", False) in sink.said
    assert sink.said[-1] == (3, 204, [], True)
    assert not made.over
    assert f.RST_STREAM in [made.outbox.take()[3]]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (head(3, OK), ErrorCode.PROTOCOL_ERROR),
        (head(2, OK), ErrorCode.PROTOCOL_ERROR),
        (data(0, b""), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.DATA, 0, 1, bytes(f.FRAME_SIZE_MIN + 1)), ErrorCode.FRAME_SIZE_ERROR),
        (f.frame(f.PUSH_PROMISE, f.END_HEADERS, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.HEADERS, 0, 1) + data(1, b""), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.CONTINUATION, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (
            f.frame(f.HEADERS, 0, 1) + f.frame(f.CONTINUATION, 0, 1) * (HTTP2_CONTINUATIONS_MAX + 1),
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (f.frame(f.HEADERS, f.END_HEADERS, 1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
        (f.frame(f.HEADERS, f.END_HEADERS | f.PADDED, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.SETTINGS, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (f.frame(f.PING, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (f.frame(f.PING, 0, 0, bytes(8)) * 100, ErrorCode.ENHANCE_YOUR_CALM),
        (f.frame(f.RST_STREAM, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (f.frame(f.GOAWAY, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (f.frame(f.WINDOW_UPDATE, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (f.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (f.window_update(0, f.WINDOW_MAX), ErrorCode.FLOW_CONTROL_ERROR),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_what_breaks_the_connections_rules_ends_it(said: bytes, error: ErrorCode) -> None:
    made, sink = connected()
    made.receive(said)
    assert made.over
    assert not made.free
    assert sink.said[-1] == (1, "lost", False)
    assert made.outbox.take().find(f.goaway(0, error)[9:17]) > 0
    made.receive(head(1, OK))
    assert len(sink.said) == 1


def test_what_was_not_looked_at_is_told_apart() -> None:
    made, sink = connected(asks=3)
    assert not made.free
    made.receive(f.reset(1, ErrorCode.REFUSED_STREAM) + f.reset(1, ErrorCode.CANCEL))
    assert made.free
    made.receive(f.goaway(3, ErrorCode.NO_ERROR))
    assert made.leaving
    assert not made.free
    assert sink.said == [(1, "lost", True), (5, "lost", True)]
    made.receive(head(3, OK, ends=True))
    assert sink.said[-1] == (3, 200, [(b"x", b"y")], True)
    assert not made.streams
    other, sink = connected()
    other.receive(f.reset(1, ErrorCode.CANCEL))
    other.lose("gone")
    assert sink.said == [(1, "lost", False)]


def test_settings_are_kept_to() -> None:
    made, _ = connected(asks=1)
    made.receive(f.settings({3: 1, 4: 5, 5: 16_384}))
    assert not made.free
    assert made.outbox.take() == f.frame(f.SETTINGS, f.ACK, 0)
    made.receive(f.settings({3: 10}) + f.frame(f.SETTINGS, f.ACK, 0) + f.frame(f.PRIORITY, 0, 1, bytes(5)))
    assert made.streams_max == LIMITS.streams_max
    made.outbox.take()
    stream = made.open()
    made.outbox.begin(stream, block([], ends=False))
    made.outbox.send(stream, b"1234567")
    made.outbox.end(stream, END)
    assert stream.unsent == 2
    made.receive(f.window_update(3, 2))
    assert stream.finished
    assert made.outbox.take().endswith(b"67" + f.headers(END, 3))


def test_windows_hold_the_server_back() -> None:
    made, sink = connected()
    stream = made.streams[1]
    made.receive(head(1, OK) + data(1, bytes(600)))
    assert made.outbox.take() == f.window_update(1, 600)
    stream.paused = True
    made.receive(data(1, bytes(900)))
    assert not made.outbox.out
    made.resume(stream)
    assert made.outbox.take() == f.window_update(1, 900)
    for _ in range(100):
        made.receive(data(1, bytes(500)))
    assert f.window_update(0, 50_000) in made.outbox.take()
    made.cancel(stream)
    assert made.outbox.take() == f.reset(1, ErrorCode.CANCEL)
    count = len(sink.said)
    made.receive(data(1, b"late", ends=True))
    assert len(sink.said) == count
    assert not made.over
