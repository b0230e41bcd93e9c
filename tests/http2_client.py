"""A small blocking HTTP/2 client for tests: says whatever it is told to, right or wrong, and writes down what comes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import hpack

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WIDE = 1 << 30
Rows = Sequence[tuple[bytes, bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return struct.pack(">BHBBI", size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def literal(rows: Rows) -> bytes:
    """A header block without tables and Huffman code, so that nothing is checked on the way."""
    block = b""
    for name, value in rows:
        block += b"\0" + _text(name) + _text(value)
    return block


def _text(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    size, number = len(text) - 127, b"\x7f"
    while size > 127:
        number += bytes([size & 127 | 128])
        size >>= 7
    return number + bytes([size]) + text


def request(path: str = "/", *more: tuple[bytes, bytes], method: str = "GET") -> list[tuple[bytes, bytes]]:
    """The fields of a good request."""
    rows = [(b":method", method.encode()), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"x")]
    return [*rows, *more]


@dataclass
class Answer:
    """What came on one stream."""

    heads: list[dict[str, str]] = field(default_factory=list)
    """Of interim answers, the answer, trailers."""
    body: bytes = b""
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> str:
        return next((head[":status"] for head in self.heads if head.get(":status", "1")[0] != "1"), "")


class Http2Client:
    """One connection. ``window``: of each stream of answers; the connection's is wide."""

    def __init__(self, address: tuple[str, int], *, window: int = WIDE, timeout_s: float = 30.0) -> None:
        self._socket = socket.create_connection(address, timeout=timeout_s)
        self._decoder = hpack.Decoder()
        self._received = b""
        self._next = 1
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = False
        self.send(
            PREFACE
            + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window))
            + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDE))
        )

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def begin(self, rows: Rows, *, ended: bool = True) -> int:
        """Send a head; the stream's number."""
        number, self._next = self._next, self._next + 2
        self.answers[number] = Answer()
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if ended else 0), number, literal(rows)))
        return number

    def data(self, stream: int, data: bytes, *, ended: bool) -> None:
        """Send a part of a body, however large the windows are."""
        for at in range(0, max(1, len(data)), 16_384):
            last = ended and at + 16_384 >= len(data)
            self.send(frame(DATA, END_STREAM if last else 0, stream, data[at : at + 16_384]))

    def opened(self, stream: int, size: int) -> None:
        """Take so much more of an answer."""
        self.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size)))

    def cancel(self, stream: int) -> None:
        self.send(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))

    def wait(self, stream: int) -> Answer:
        """Read until a stream is over, or the connection is."""
        answer = self.answers[stream]
        while not (answer.ended or answer.reset is not None or self.closed):
            self.read()
        return answer

    def read(self) -> None:
        """Read one frame."""
        head = self._take(9)
        if head is None:
            return
        size, kind, flags, stream = int.from_bytes(head[:3]), head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF
        payload = self._take(size)
        if payload is None:
            return
        answer = self.answers.setdefault(stream, Answer())
        if kind == HEADERS:
            assert flags & END_HEADERS
            answer.heads.append(dict(self._decoder.decode(payload)))  # type: ignore[arg-type]
        elif kind == DATA:
            answer.body += payload
        elif kind == RST_STREAM:
            answer.reset = int.from_bytes(payload)
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8])
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
        answer.ended = answer.ended or (kind in (DATA, HEADERS) and bool(flags & END_STREAM))

    def close(self) -> None:
        self._socket.close()

    def _take(self, size: int) -> bytes | None:
        while len(self._received) < size:
            try:
                data = self._socket.recv(262_144)
            except ConnectionError:
                data = b""
            if not data:
                self.closed = True
                return None
            self._received += data
        data, self._received = self._received[:size], self._received[size:]
        return data


def ask(address: tuple[str, int], rows: Rows, body: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    client = Http2Client(address)
    try:
        stream = client.begin(rows, ended=body is None)
        if body is not None:
            client.data(stream, body, ended=True)
        return client.wait(stream)
    finally:
        client.close()
