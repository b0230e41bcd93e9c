"""Frames: their types, flags and bytes (RFC 9113 §4 and §6)."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from townhall.wire.http2 import ErrorCode, Fault

__all__ = [
    "ACK", "CONTINUATION", "DATA", "END", "END_HEADERS", "END_STREAM", "FRAME_SIZE_MIN", "GOAWAY", "HEADERS", "PADDED", "PING",
    "PRIORITY", "PRIORITY_FLAG", "PUSH_PROMISE", "RST_STREAM", "SETTINGS", "WINDOW_MAX", "WINDOW_UPDATE", "Block", "block",
    "frame", "goaway", "head_of", "headers", "reset", "settings", "unpadded", "window_update",
]  # fmt: skip

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

FRAME_SIZE_MIN: Final = 16_384
"""What every peer takes; we never ask for more."""
WINDOW_MAX: Final = 2**31 - 1

head_of = struct.Struct(">HBBBI").unpack_from
"""Length (two parts), type, flags, stream of the frame at an offset; the stream's highest bit means nothing."""
_pack_head = struct.Struct(">HBBBI").pack
_pack_number = struct.Struct(">I").pack
_pack_setting = struct.Struct(">HI").pack
_STATUS_200: Final = b"\x88"
_STATUS_NAME: Final = b"\x08"
"""HPACK: indexed field 8; literal with the name of index 8 and not to be indexed (RFC 7541 §6, appendix A)."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return _pack_head(size >> 8, size & 255, kind, flags, stream) + payload


class Block(NamedTuple):
    """Header fields, ready for any stream: its HEADERS frame is ``first``, the stream's four bytes, ``fields``."""

    first: bytes
    fields: bytes
    ends: bool


def block(fields: list[tuple[bytes, bytes]], *, ends: bool) -> Block:
    """Encode without any table, so that the bytes hold for every connection and at any time (RFC 7541 §6.2.2)."""
    encoded = bytearray()
    for name, value in fields:
        if name == b":status":
            encoded += _STATUS_200 if value == b"200" else _STATUS_NAME + _text(value)
        else:
            encoded += b"\0" + _text(name) + _text(value)
    size = min(len(encoded), FRAME_SIZE_MIN)
    flags = (END_STREAM if ends else 0) | (END_HEADERS if len(encoded) <= FRAME_SIZE_MIN else 0)
    return Block(_pack_head(size >> 8, size & 255, HEADERS, flags, 0)[:5], bytes(encoded), ends)


END: Final = Block(_pack_head(0, 0, DATA, END_STREAM, 0)[:5], b"", True)
"""The end of an answer without trailers: an empty DATA frame, used like a block."""


def headers(made: Block, stream: int) -> bytes:
    """The frames of a block on a stream: one, and CONTINUATIONs when it is large."""
    fields = made.fields
    number = _pack_number(stream)
    if len(fields) <= FRAME_SIZE_MIN:
        return made.first + number + fields
    parts = [made.first, number, fields[:FRAME_SIZE_MIN]]
    for at in range(FRAME_SIZE_MIN, len(fields), FRAME_SIZE_MIN):
        last = at + FRAME_SIZE_MIN >= len(fields)
        parts.append(frame(CONTINUATION, END_HEADERS if last else 0, stream, fields[at : at + FRAME_SIZE_MIN]))
    return b"".join(parts)


def unpadded(payload: bytes) -> bytes:
    """The payload of a padded frame without what pads it. Raises ``Fault``."""
    if not payload or payload[0] >= len(payload):
        raise Fault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def settings(values: dict[int, int]) -> bytes:
    """SETTINGS with these values."""
    return frame(SETTINGS, 0, 0, b"".join(_pack_setting(name, value) for name, value in values.items()))


def window_update(stream: int, size: int) -> bytes:
    """Let the peer send so much more."""
    return frame(WINDOW_UPDATE, 0, stream, _pack_number(size))


def reset(stream: int, error: ErrorCode) -> bytes:
    """End a stream at once."""
    return frame(RST_STREAM, 0, stream, _pack_number(error))


def goaway(last: int, error: ErrorCode, reason: str = "") -> bytes:
    """Say that no stream above ``last`` is or will be looked at."""
    return frame(GOAWAY, 0, 0, _pack_number(last) + _pack_number(error) + reason.encode("ascii", "replace"))


def _text(text: bytes) -> bytes:
    """A string literal, never in Huffman code (RFC 7541 §5.2)."""
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    number = bytearray((127,))
    size -= 127
    while size > 127:
        number.append(size & 127 | 128)
        size >>= 7
    number.append(size)
    return bytes(number) + text
