"""A small blocking gRPC client for tests: frames by hand, ``hpack`` for headers, one connection of the caller's thread.

It knows as much of HTTP/2 as a client needs that trusts its server: one call at a time, small requests, wide windows.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Any, TypeVar

import hpack

from townhall.wire.protobuf import Message
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW = 1 << 30
M = TypeVar("M", bound=Message)


class Refused(Exception):
    """The call ended with another status than OK."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class Stream:
    """One call: what was heard of it and not yet taken."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.buffer = b""
        self.messages: deque[bytes] = deque()
        self.fields: dict[str, str] = {}
        self.ended = False


class Connection:
    """To ``host:port``. Every method may raise OSError, also when the server goes away."""

    def __init__(self, address: str, *, timeout_s: float = 30.0) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._streams: dict[int, Stream] = {}
        self._next = 1
        settings = struct.pack(">HIHI", 4, WINDOW, 2, 0)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, settings))
        self._socket.sendall(_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW)))

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def call(self, path: str, request: Message, response: type[M]) -> M:
        """One unary call. Raises Refused."""
        stream = self.open(path)
        self.send(stream, request, end=True)
        while not stream.ended:
            self._read()
        self._check(stream)
        return decode(response, stream.messages.popleft())

    def open(self, path: str, *metadata: tuple[str, str]) -> Stream:
        """Begin a call."""
        fields = [
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "127.0.0.1"),
            ("content-type", "application/grpc"), ("te", "trailers"), *metadata,
        ]  # fmt: skip
        stream = self._streams[self._next] = Stream(self._next)
        self._next += 2
        self._socket.sendall(_frame(HEADERS, END_HEADERS, stream.number, self._encoder.encode(fields)))
        return stream

    def send(self, stream: Stream, message: Message, *, end: bool = False) -> None:
        """One message of a call."""
        data = encode(message)
        body = b"\0" + len(data).to_bytes(4, "big") + data
        self._socket.sendall(_frame(DATA, END_STREAM if end else 0, stream.number, body))

    def take(self, stream: Stream, response: type[M]) -> M:
        """The next message of a call. Raises Refused at its end, TimeoutError when none comes."""
        while not stream.messages:
            if stream.ended:
                self._check(stream)
                raise Refused(0, "the stream ended")
            self._read()
        return decode(response, stream.messages.popleft())

    def _check(self, stream: Stream) -> None:
        code = int(stream.fields.get("grpc-status", "2"))
        if code:
            raise Refused(code, stream.fields.get("grpc-message", ""))

    def _read(self) -> None:
        while len(self._received) < 9 or len(self._received) < 9 + int.from_bytes(self._received[:3], "big"):
            chunk = self._socket.recv(1 << 18)
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            self._received += chunk
        size, kind, flags = int.from_bytes(self._received[:3], "big"), self._received[3], self._received[4]
        number = int.from_bytes(self._received[5:9], "big")
        payload, self._received = self._received[9 : 9 + size], self._received[9 + size :]
        self._take(kind, flags, self._streams.get(number), payload)

    def _take(self, kind: int, flags: int, stream: Stream | None, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._socket.sendall(_frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._socket.sendall(_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            raise ConnectionResetError(f"the server goes away: {payload[8:]!r}")
        elif kind == HEADERS:
            assert flags & END_HEADERS, "a continuation"
            fields: Any = self._decoder.decode(payload)
            if stream is not None:
                stream.fields.update(fields)
        elif kind == DATA and stream is not None:
            stream.buffer += payload
            while len(stream.buffer) >= 5 and len(stream.buffer) >= 5 + int.from_bytes(stream.buffer[1:5], "big"):
                size = int.from_bytes(stream.buffer[1:5], "big")
                stream.messages.append(stream.buffer[5 : 5 + size])
                stream.buffer = stream.buffer[5 + size :]
        elif kind == RST_STREAM and stream is not None:
            stream.fields.setdefault("grpc-status", "13")
            stream.ended = True
        if stream is not None and kind in (HEADERS, DATA) and flags & END_STREAM:
            stream.ended = True


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload
