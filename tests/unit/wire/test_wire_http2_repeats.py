"""What is answered at once is answered as one frame after the other would be."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_wire_http2_connection import Peer, Sink, frame

from townhall.model.limits import HTTP2_FRAMES_PER_TURN
from townhall.wire.grpc import OK_HEAD, OK_TRAILERS
from townhall.wire.http2 import frames
from townhall.wire.http2.heads import Head
from townhall.wire.http2.outbox import Stream


class Echoes(Sink):
    """Answers each piece of a body with its last bytes and its stream. Where it may do so at once, streams of odd halves
    are answered by one function and the others by another, and neither knows what begins with "?".
    """

    def __init__(self, *, at_once: bool) -> None:
        super().__init__()
        self.at_once = at_once
        self.count_at_once = 0

    def request(self, stream: Stream, head: Head, varying: bytes, ended: bool) -> None:
        super().request(stream, head, varying, ended)
        assert self.connection is not None
        self.connection.outbox.begin(stream, OK_HEAD)
        stream.due = stream.id // 2 % 2
        stream.again = stream.due if self.at_once and not ended else None

    def answering(self, stream: Stream) -> Callable[[bytes], bytes | None] | None:
        due = stream.due

        def answer(data: bytes) -> bytes | None:
            if data.startswith(b"?"):
                return None
            self.count_at_once += 1
            self.events.append(("data", due, data, False))
            return data[-3:] + b"%d" % due

        return answer

    def data(self, stream: Stream, data: bytes, ended: bool) -> None:
        assert self.connection is not None
        self.events.append(("data", stream.due, data, ended))
        self.connection.outbox.send(stream, data[-3:] + b"%d" % stream.due)
        if ended:
            stream.again = None
            self.connection.outbox.end(stream, OK_TRAILERS)

    def lost(self, stream: Stream) -> None:
        stream.again = None
        super().lost(stream)


def echoing(*, at_once: bool) -> Peer:
    """A connection with small windows both ways and four streams, of which one has said how much is to come."""
    peer = Peer(stream_window_size=200, connection_window_size=500)
    peer.sink = peer.connection._sink = peer.connection._repeats._sink = Echoes(at_once=at_once)  # type: ignore[assignment]
    peer.connection.outbox._sink = peer.sink
    peer.sink.connection = peer.connection
    peer.send(frames.settings({4: 60}))
    peer.send(b"".join(peer.headers(number) for number in (1, 3, 5)) + peer.headers(7, ("content-length", "90")))
    return peer


_PIECES = st.tuples(
    st.sampled_from(["one"] * 12 + ["unknown", "empty", "padded", "last", "odd", "open", "open all", "ping", "reset", "trailers"]),
    st.sampled_from([1, 3, 5, 7, 9]),
    st.integers(1, 70),
)  # fmt: skip


def piece_of(peer: Peer, kind: str, number: int, size: int) -> bytes:
    match kind:
        case "one":
            return peer.data(number, b"%d" % size * (size // 2 + 1))
        case "unknown":
            return peer.data(number, b"?" * size)
        case "empty":
            return peer.data(number, b"")
        case "padded":
            return peer.data(number, b"\x02body\0\0", frames.PADDED)
        case "last":
            return peer.data(number, b"x" * size, frames.END_STREAM)
        case "odd":
            return peer.data(number | 1 << 31, b"reserved bit")
        case "open":
            return frames.window_update(number, 40)
        case "open all":
            return frames.window_update(0, 40)
        case "ping":
            return frame(frames.PING, 0, 0, b"12345678")
        case "trailers":
            return peer.headers(number, flags=frames.END_HEADERS | frames.END_STREAM)
        case _:
            return frame(frames.RST_STREAM, 0, number, b"\0\0\0\x08")


@given(st.lists(_PIECES, max_size=40), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_answers_at_once_are_those_of_one_frame_after_the_other(
    wanted: list[tuple[str, int, int]], step: int, other_step: int
) -> None:
    seen = []
    for at_once, cut in ((True, step), (False, other_step)):
        peer = echoing(at_once=at_once)
        sent = b"".join(piece_of(peer, *piece) for piece in wanted)
        for at in range(0, len(sent), cut):
            peer.send(sent[at : at + cut])
        connection, outbox = peer.connection, peer.outbox
        seen.append((
            peer.take(), peer.sink.events, connection.over, connection._unacked, connection._taken, outbox.window,
            outbox.unsent, outbox.room, list(outbox.dropped),
            {
                number: (stream.window, stream.unacked, stream.unsent, stream.ended, stream.finished, stream.expected)
                for number, stream in peer.sink.streams.items()
            },
        ))  # fmt: skip
    assert seen[0] == seen[1]


def test_they_are_answered_at_once() -> None:
    peer = echoing(at_once=True)
    peer.send(b"".join(peer.data(number, b"abc%d" % number) for number in (1, 3, 1, 5, 7, 1)))
    assert isinstance(peer.sink, Echoes)
    assert peer.sink.count_at_once == 5, "all but that of a body whose length was said"


def test_a_turn_is_as_long_as_without() -> None:
    left = []
    for at_once in (True, False):
        peer = echoing(at_once=at_once)
        peer.connection._half = peer.connection._stream_half = 10**6
        peer.connection._repeats._stream_size_max = 10**6
        count = HTTP2_FRAMES_PER_TURN + 9
        assert peer.send(peer.data(1, b"abc") * count)
        assert isinstance(peer.sink, Echoes)
        assert peer.sink.count_at_once == (HTTP2_FRAMES_PER_TURN if at_once else 0)
        left.append((peer.connection.held, len(peer.sink.events)))
        assert not peer.connection.proceed()
    assert left[0] == left[1]
