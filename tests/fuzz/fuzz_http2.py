"""Feeds coverage-guided bytes to an HTTP/2 connection with a gRPC face behind it: ``python fuzz_http2.py -runs=10000``.

Whatever comes in, the connection must raise nothing, say well-formed frames only, answer no stream twice, keep to the
windows it was given, leave nothing behind when it is lost, and say the same however the bytes are cut. Header blocks must
mean what the ``hpack`` library alone makes of them. Anything else is a bug, and the message says which sentence of this
is broken.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "serve"))
with atheris.instrument_imports(include=["townhall.serve", "townhall.wire", "hpack"]):
    import hpack
    from grpc_serving import ToyFace
    from serve_support import FakeHub

    from townhall.face.grpc import framed
    from townhall.serve.calls import CallDriver, GrpcOptions
    from townhall.serve.http2 import Http2Peer
    from townhall.serve.options import HttpOptions
    from townhall.serve.peers import Peers
    from townhall.wire.http2 import PREFACE, Fault, Http2Limits, frames
    from townhall.wire.http2.memory import HeadReader, Memory

LIMITS = Http2Limits(streams_max=20, unsent_size_max=5_000, noise_max=200)
MEMORY = Memory(LIMITS, varying=b"grpc-timeout")


class Face(ToyFace):
    """Without the handlers that are meant to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.wait_ms = 0
        self.methods = [
            method for method in self.methods if method.path.rpartition("/")[2] in ("Echo", "Submit", "Park", "Stream", "Chat")
        ]  # fmt: skip


class Turns:
    """As much of a loop as a connection needs."""

    def __init__(self) -> None:
        self.waiting: list[tuple[object, ...]] = []

    def call_soon(self, callback: object, *args: object) -> None:
        self.waiting.append((callback, *args))

    def run(self) -> None:
        while self.waiting:
            callback, *args = self.waiting.pop(0)
            callback(*args)  # type: ignore[operator]


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        assert not self.closed, "something was written to a closed transport"
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close


def call(number: int, path: str, message: bytes, *, ends: bool = True) -> bytes:
    encoder = hpack.Encoder()
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/toy.Toy/{path}"),
        ("content-type", "application/grpc"),
    ]
    block = b"".join(encoder._encode_literal(n.encode(), v.encode(), b"\x00", False) for n, v in fields)
    return frames.frame(1, 4, number, block) + frames.frame(0, int(ends), number, framed(message))


def said(pieces: list[bytes]) -> bytes:
    """What a fresh connection says to these pieces."""
    turns, wire, hub = Turns(), Wire(), FakeHub()
    hub.hold = True
    options = HttpOptions()
    driver = CallDriver(Face(), hub, GrpcOptions(http2=LIMITS), turns, http=options, peers=Peers(options))  # type: ignore[arg-type]
    peer = Http2Peer(driver)
    peer.connection_made(wire)  # type: ignore[arg-type]
    for piece in pieces:
        if wire.closed:
            break
        peer.data_received(piece)
    while not wire.closed and (hub.waiting or turns.waiting):
        turns.run()
        hub.release()
    turns.run()
    assert driver.counters.errors == 0, "an exception that no handler raised"
    peer.connection_lost(None)
    turns.run()
    hub.release()
    counters = driver.counters
    assert not hub.tickets, "a lost connection left a cursor behind"
    assert counters.open == counters.parked == counters.streams == peer.held == 0, "a lost connection is still counted"
    check(wire.written)
    return wire.written


def check(written: bytes) -> None:
    """Frames are whole, and a stream that has ended says nothing more but RST_STREAM."""
    ended: set[int] = set()
    while written:
        assert len(written) >= 9, "a frame that is cut"
        high, low, kind, flags, number = frames.head_of(written)
        size = high << 8 | low
        assert len(written) >= 9 + size, "a frame that is cut"
        if kind in (frames.DATA, frames.HEADERS):
            assert number not in ended, "a stream is answered twice"
            if flags & frames.END_STREAM:
                ended.add(number)
        elif kind == frames.RST_STREAM:
            ended.add(number)
        written = written[9 + size :]


def same_heads(block: bytes) -> None:
    """The remembered reading of a block is that of the library alone."""
    try:
        plain = hpack.Decoder(LIMITS.header_size_max * 4).decode(block, raw=True)
    except (hpack.HPACKError, IndexError):
        plain = None
    try:
        head, varying = HeadReader(MEMORY, LIMITS).read(block)
    except Fault:
        assert plain is None, "a block is refused that the library reads"
        return
    assert plain is not None, "a block is read that the library refuses"
    expected = MEMORY.apart([(bytes(name), bytes(value)) for name, value in plain])
    assert (head.fields, head.path, head.fault, varying) == (
        expected[0].fields, expected[0].path, expected[0].fault, expected[1],
    ), "a block is read differently than by the library"  # fmt: skip


def one_input(data: bytes) -> None:
    if data[:1] == b"H":
        same_heads(data[1:])
        return
    data = PREFACE + frames.settings({}) + data
    whole = said([data])
    step = 1 + (len(data) * 7) % 13
    assert whole == said([data[at : at + step] for at in range(0, len(data), step)]), "cut, it is answered differently"


SEEDS = [
    call(1, "Echo", b"hello") + call(3, "Submit", b"a b") + frames.frame(6, 0, 0, b"12345678"),
    call(1, "Chat", b"x", ends=False) + call(3, "Stream", b"") + frames.reset(1, 8) + frames.window_update(0, 9),  # type: ignore[arg-type]
    frames.settings({4: 3}) + call(1, "Echo", b"hello") + frames.window_update(1, 9) + call(3, "Park", b""),
    b"H\x83\x86\x04\x02/a\x00\x0cgrpc-timeout\x021S\x0f\x10\x10application/grpc",
    b"H" + hpack.Encoder().encode([(":method", "POST"), (":path", "/b"), ("grpc-timeout", "4999871u"), ("x", "y")]),
]


def main() -> None:
    for seed in SEEDS:
        one_input(seed)
    with tempfile.TemporaryDirectory() as name:
        for index, seed in enumerate(SEEDS):
            Path(name, f"seed{index}").write_bytes(seed)
        atheris.Setup([*sys.argv, name], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
