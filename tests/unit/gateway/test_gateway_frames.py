"""Ends of WebSocket frames, and what a tunnel does with them when the gateway leaves."""

from __future__ import annotations

import pytest

from townhall.gateway.frames import GOING_AWAY, FrameEnds, close_frame
from townhall.gateway.trace import Trace
from townhall.gateway.tunnel import Tunnel


def frame(payload: bytes, *, masked: bool = False, first: int = 0x82) -> bytes:
    size = len(payload)
    short = size if size < 126 else 126 if size < 65_536 else 127
    head = bytes([first, short | (0x80 if masked else 0)])
    if short > 125:
        head += size.to_bytes(2 if short == 126 else 8)
    return head + (b"mask" if masked else b"") + payload


SAMPLES = [frame(b""), frame(b"abc"), frame(b"abc", masked=True), frame(b"x" * 126), frame(b"x" * 70_000, masked=True)]


@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
def test_ends_are_found_however_the_bytes_are_cut(step: int) -> None:
    data = b"".join(SAMPLES)
    ends, found, boundaries = FrameEnds(), set(), set()
    at = 0
    for one in SAMPLES:
        at += len(one)
        boundaries.add(at)
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        end = ends.feed(piece)
        if end is not None:
            found.add(start + end)
        assert ends.between == (start + len(piece) in boundaries)
    assert found <= boundaries
    if step == 1:
        assert found == boundaries
    assert not ends.closed


def test_nothing_goes_behind_a_close() -> None:
    ends = FrameEnds()
    assert ends.between
    ends.feed(close_frame(GOING_AWAY, masked=True))
    assert ends.closed
    assert not ends.between


def test_close_frames() -> None:
    assert close_frame(1001, masked=False) == b"\x88\x02\x03\xe9"
    assert close_frame(1001, masked=True) == b"\x88\x82\x00\x00\x00\x00\x03\xe9"


class Side:
    """A client or a connection that only keeps what it is given."""

    def __init__(self) -> None:
        self.blocked = False
        self.out = b""
        self.ended = 0
        self.resting: list[bool] = []

    def send(self, data: bytes) -> None:
        self.out += data

    write = send

    def rest(self, rest: bool) -> None:
        self.resting.append(rest)

    def touched(self) -> None:
        pass

    def over(self) -> None:
        self.ended += 1

    hang_up = over


def tunnel() -> tuple[Tunnel, Side, Side, list[str]]:
    client, instance, over = Side(), Side(), []
    made = Tunnel(client, instance, Trace(None, "", 0.0), lambda: over.append("over"), idle_s=1.0)
    return made, client, instance, over


def test_leaving_between_frames_tells_both_at_once() -> None:
    made, client, instance, over = tunnel()
    made.from_client(frame(b"a", masked=True))
    made.received(frame(b"b"))
    made.leave()
    assert client.out == frame(b"b") + close_frame(1001, masked=False)
    assert instance.out == frame(b"a", masked=True) + close_frame(1001, masked=True)
    made.received(frame(b"late"))
    made.from_client(close_frame(1001, masked=True))
    assert (client.ended, instance.ended, over) == (1, 1, ["over"])
    assert client.out.endswith(close_frame(1001, masked=False))


def test_leaving_in_the_midst_of_a_frame_waits_for_its_end() -> None:
    made, client, _, _ = tunnel()
    long = frame(b"x" * 300)
    made.received(long[:100])
    made.leave()
    assert client.out == long[:100]
    made.received(long[100:] + frame(b"next"))
    assert client.out == long + close_frame(1001, masked=False)


def test_a_side_that_waits_holds_the_other_back() -> None:
    made, client, instance, over = tunnel()
    instance.blocked = client.blocked = True
    made.from_client(b"a")
    made.received(b"b")
    assert client.resting == [True]
    assert instance.resting == [True]
    made.writable()
    made.client_writable()
    assert client.resting[-1] is False
    assert instance.resting[-1] is False
    made.lost()
    assert (client.ended, over) == (1, ["over"])
