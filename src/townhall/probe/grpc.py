"""gRPC health checking protocol v1, over HTTP/2 with or without TLS.

One call needs so little of HTTP/2 that no library is worth it: our header fields are literals, and of the answer only
the DATA frame counts. A call that ends without one has failed, whatever its trailers say.
"""

from __future__ import annotations

import asyncio
from typing import Final

from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.connection import FAILURES, Tls, connected, failed, split_target, why

__all__ = ["probe_grpc"]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Frame types and flags, RFC 9113 §6.
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 1, 1, 4, 8
_STREAM: Final = 1
_FRAMES_MAX: Final = 64
"""Frames read before an answer: settings, window updates, pings."""
_STATUS: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING: Final = 1


async def probe_grpc(definition: CheckDefinition, ground: Ground) -> Finding:
    """Call ``grpc.health.v1.Health/Check`` once. The service is that of the target, or ``grpc_service``."""
    where, _, named = definition.target.partition("/")
    service = definition.grpc_service or named
    tls = Tls(not definition.tls_skip_verify, definition.tls_server_name, ("h2",)) if definition.tls else None
    try:
        async with asyncio.timeout(ground.timeout_ms / 1000):
            async with connected(split_target(where), ground, tls) as (reader, writer):
                writer.write(_call(where, service, scheme="https" if tls else "http"))
                await writer.drain()
                status = await _answer(reader, writer)
    except FAILURES as error:
        return failed(f"gRPC {definition.target}: {why(error)}")
    word = _STATUS.get(status, str(status))
    if status == _SERVING:
        return Finding(CheckStatus.PASSING, f"gRPC check {definition.target}: success")
    return failed(f"gRPC {definition.target}: healthcheck status: {word}")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _field(name: bytes, value: bytes) -> bytes:
    """A literal header field without indexing and without Huffman coding, RFC 7541 §6.2.2."""
    return b"\x00" + _integer(len(name)) + name + _integer(len(value)) + value


def _integer(value: int) -> bytes:
    """An integer with a prefix of seven bits, RFC 7541 §5.1."""
    if value < 0x7F:
        return bytes((value,))
    return b"\x7f" + _varint(value - 0x7F)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _call(authority: str, service: str, *, scheme: str) -> bytes:
    name = service.encode("utf-8", "replace")
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    if len(message) > limits.CHECK_TARGET_SIZE_MAX:
        raise ValueError("the service's name is too long")
    fields = (
        (b":method", b"POST"),
        (b":scheme", scheme.encode()),
        (b":path", b"/grpc.health.v1.Health/Check"),
        (b":authority", authority.encode("ascii", "replace")),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"townhall-probe"),
    )
    return b"".join(
        (
            _PREFACE,
            frame(_SETTINGS, 0, 0),
            frame(_HEADERS, _END_HEADERS, _STREAM, b"".join(_field(*field) for field in fields)),
            frame(_DATA, _END_STREAM, _STREAM, b"\0" + len(message).to_bytes(4, "big") + message),
        )
    )


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """The serving status of the reply. Raises ``FAILURES``."""
    body = b""
    for _ in range(_FRAMES_MAX):
        head = await reader.readexactly(9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        if size > limits.PROBE_READ_SIZE_MAX:
            raise ValueError("not an HTTP/2 peer")
        payload = await reader.readexactly(size)
        if kind in {_SETTINGS, _PING} and not flags & _ACK:
            writer.write(frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in {_RST_STREAM, _GOAWAY}:
            raise ValueError("the peer gave up the call")
        elif kind == _DATA:
            body += payload[1 : size - payload[0]] if flags & _PADDED and payload else payload
            if len(body) >= 5 and len(body) >= 5 + int.from_bytes(body[1:5], "big"):
                return _serving(body[5 : 5 + int.from_bytes(body[1:5], "big")])
        if kind in {_DATA, _HEADERS} and flags & _END_STREAM:
            raise ValueError("the call ended without an answer: no health service there, or it does not know the name")
    raise ValueError("too many frames before an answer")


def _serving(message: bytes) -> int:
    """Field 1 of a HealthCheckResponse; absent means 0."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
