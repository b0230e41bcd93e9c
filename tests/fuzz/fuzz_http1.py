"""Feeds coverage-guided bytes to an HTTP/1.1 connection without a socket: ``python fuzz_http1.py -runs=10000``.

Whatever comes in, the connection must answer with well-formed heads, blame nobody but the client (4xx, 501, 505), raise
nothing, and answer the same however the bytes are cut. Anything else is a bug, and the message says which sentence of
this is broken.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "serve"))
with atheris.instrument_imports(include=["townhall.serve", "townhall.wire", "townhall.face"]):
    from serve_support import FakeFace, FakeHub, get, post

    from townhall.face import Reply, Request
    from townhall.serve.driver import Driver
    from townhall.serve.http1 import Connection
    from townhall.serve.options import HttpOptions

SEEDS = [
    get("/hello") + get("/names/a%2Fb?x=1&y", "Accept-Encoding: gzip"),
    post("/echo", b"hello", "Expect: 100-continue") + get("/hello", method="HEAD"),
    get("/echo", "Transfer-Encoding: chunked", method="POST")
    + b"3;x=y\r\nabc\r\n0\r\nTrailer: t\r\n\r\n"
    + get("/cached"),
    post("/submit", b"a refuse b") + b"\r\n" + get("http://x/hello", "Connection: close"),
    get("/duplex", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n0\r\n\r\n" + get("*", method="OPTIONS"),
    b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /stream HTTP/1.0\r\n\r\n",
]
BLAMED = {b"501", b"505"}


WORDS = [
    b"GET /",
    b"POST /",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"\r\n",
    b"\r\n\r\n",
    b"Host: x",
    b"Content-Length: ",
    b"chunked",
    b"close",
]


class Face(FakeFace):
    """Without the handlers that are meant to fail, and nothing of what came in may look like an answer of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.routes = [
            route for route in self.routes if not route.pattern.startswith(("/broken", "/nonsense", "/large"))
        ]

    def echo(self, request: Request, reader: object) -> Reply:
        return Reply(200, (request.path.encode() + request.body).hex().encode())


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
        self.closed = self.ended = False

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        assert not self.closed, "something was written to a closed transport"
        assert not self.ended, "something was written after the last answer"
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close


def answers(pieces: list[bytes]) -> bytes:
    """What a fresh connection says to these pieces, without dates and interim answers."""
    face, hub, turns, wire = Face(), FakeHub(), Turns(), Wire()
    hub.hold = True
    face.wait_ms = 0
    driver = Driver(face, hub, HttpOptions(header_size_max=2_000, target_size_max=1_000), turns)  # type: ignore[arg-type]
    # The parts of a duplex answer depend on the cuts by design; their sum must not.
    face.steps = lambda data: []
    connection = Connection(driver)
    connection.connection_made(wire)  # type: ignore[arg-type]
    for piece in pieces:
        if wire.closed:
            break
        connection.data_received(piece)
        while hub.waiting or turns.waiting:
            hub.release()
            turns.run()
    assert driver.counters.errors == 0, "an exception that no handler raised"
    connection.connection_lost(None)
    assert not hub.tickets, "a lost connection left a cursor behind"
    counters = driver.counters
    assert counters.open == counters.parked == counters.streams == 0, "a lost connection is still counted"
    return check(wire.written)


def check(written: bytes) -> bytes:
    """Every status line is one that blames the client."""
    kept = []
    for line in written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").split(b"\r\n"):
        if line.startswith(b"HTTP/1.1 "):
            status = line[9:12]
            assert status.isdigit(), "a status line without status"
            assert status[:1] in b"24" or status in BLAMED, f"the answer {status.decode()} blames ourselves"
        if not line.startswith(b"Date: "):
            kept.append(line)
    return b"\r\n".join(kept)


def outcome(said: bytes) -> list[bytes]:
    """The statuses in order; which of two faults of one head is found first may depend on the cuts, so 4xx are one."""
    statuses = [line[9:12] for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [b"4xx" if status[:1] == b"4" or status in BLAMED else status for status in statuses]


def one_input(data: bytes) -> None:
    whole = answers([data])
    step = 1 + (len(data) * 7) % 13
    cut = answers([data[start : start + step] for start in range(0, len(data), step)])
    assert outcome(whole) == outcome(cut), f"cut into pieces of {step} bytes it is answered differently"


def main() -> None:
    for seed in SEEDS:
        one_input(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        for index, seed in enumerate(SEEDS):
            (folder / "corpus" / f"seed{index}").write_bytes(seed)
        words = "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS)
        (folder / "words").write_text(words)
        atheris.Setup([*sys.argv, f"-dict={folder / 'words'}", str(folder / "corpus")], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
