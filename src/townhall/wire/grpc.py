"""gRPC over HTTP/2: messages, timeouts, statuses (grpc/grpc, doc/PROTOCOL-HTTP2.md). No I/O.

``GrpcFault`` is all that is raised for bad input; ``status`` is the code that the call ends with.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Final

from townhall.model.errors import Malformed
from townhall.wire.http2.frames import Block, block

__all__ = [
    "GZIP_HEAD", "OK_HEAD", "OK_TRAILERS", "PREFIX_SIZE", "Deframer", "GrpcFault", "compress", "decompress", "percent_encoded", "prefix_of", "prefixed", "refusal_block",
    "timeout_ms", "trailers",
]  # fmt: skip

RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13

PREFIX_SIZE: Final = 5
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])\Z")
_UNIT_MS: Final = {b"H": 3_600_000.0, b"M": 60_000.0, b"S": 1_000.0, b"m": 1.0, b"u": 1e-3, b"n": 1e-6}
_PLAIN: Final = re.compile(r"(?! )[ -$&-~]*(?<! )\Z")
"""HTTP/2 allows no spaces at the ends of a value."""
_TEXT_SIZE_MAX: Final = 4_096
"""Of a status message: clients allow 8 KiB for all fields together."""
_PARTS_MAX: Final = 1_024
"""Pieces kept before they are joined: a message that comes byte by byte must not cost forty bytes each."""
_GZIP_WINDOW: Final = 31
_GZIP_LEVEL: Final = 1

_CONTENT_TYPE: Final = (b"content-type", b"application/grpc")
OK_HEAD: Final = block([(b":status", b"200"), _CONTENT_TYPE], ends=False)
GZIP_HEAD: Final = block([(b":status", b"200"), _CONTENT_TYPE, (b"grpc-encoding", b"gzip")], ends=False)
OK_TRAILERS: Final = block([(b"grpc-status", b"0")], ends=True)
Fields = tuple[tuple[bytes, bytes], ...]


class GrpcFault(Malformed):
    """A message or a field that cannot be read; ``status`` is gRPC's code for it."""

    code = "grpc"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Deframer:
    """Finds messages in the bytes of one request.

    ``feed`` takes bytes however they are cut; ``next`` gives one message at a time, decompressed. What it holds is at
    most one message more than was fed and not taken.
    """

    __slots__ = ("_at", "_gzip", "_held", "_parts", "_size_max", "_waiting", "empty")

    def __init__(self, size_max: int, *, gzip: bool) -> None:
        self._size_max = size_max
        self._gzip = gzip
        self.empty = True
        """Nothing is held."""
        self._held = b""
        self._at = 0
        self._parts: list[bytes] = []
        self._waiting = 0
        """Bytes in ``_parts``."""

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self._held) - self._at + self._waiting

    def is_one(self, data: bytes) -> bool:
        """Whether this is one whole message, neither compressed nor too large, and nothing is held before it: what
        ``feed`` and ``next`` would make of it lies behind its prefix.
        """
        size = len(data) - PREFIX_SIZE
        return self.empty and 0 <= size <= self._size_max and data.startswith(prefix_of(False, size))

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if not data:
            return
        self.empty = False
        self._waiting += len(data)
        self._parts.append(data)
        if len(self._parts) > _PARTS_MAX:
            self._parts = [b"".join(self._parts)]

    def next(self) -> bytes | None:
        """The next message; None when it is not all there. Raises ``GrpcFault``."""
        if self._missing() > 0:
            return None
        if self._parts:
            rest = self._held[self._at :] if self._at else self._held
            self._held = b"".join((rest, *self._parts))
            self._at = self._waiting = 0
            self._parts.clear()
        held, at = self._held, self._at
        if len(held) - at < PREFIX_SIZE:
            return None
        flag, size = held[at], int.from_bytes(held[at + 1 : at + PREFIX_SIZE], "big")
        if flag > 1:
            raise GrpcFault(INTERNAL, "a message whose first byte is neither 0 nor 1")
        if flag and not self._gzip:
            raise GrpcFault(INTERNAL, "a compressed message without grpc-encoding")
        if size > self._size_max:
            raise too_large(size, self._size_max)
        end = at + PREFIX_SIZE + size
        if len(held) < end:
            return None
        message = held[at + PREFIX_SIZE : end]
        self._at = end
        if end == len(held):
            self._held, self._at, self.empty = b"", 0, True
        return decompress(message, self._size_max) if flag else message

    def _missing(self) -> int:
        """How much is missing of a message that is known to be larger than what is there: parts are joined only once."""
        have = len(self._held) - self._at
        if have < PREFIX_SIZE:
            return 0
        need = PREFIX_SIZE + int.from_bytes(self._held[self._at + 1 : self._at + PREFIX_SIZE], "big")
        if need - PREFIX_SIZE > self._size_max:
            return 0
        return need - have - self._waiting


def too_large(size: int, size_max: int) -> GrpcFault:
    """In the words of grpc-go, which clients look for."""
    return GrpcFault(RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {size_max})")


prefix_of = struct.Struct(">?I").pack
"""What stands before a message: whether it is compressed, and its size."""


def prefixed(message: bytes, *, compressed: bool = False) -> bytes:
    """A message with its prefix."""
    return prefix_of(compressed, len(message)) + message


def compress(message: bytes) -> bytes:
    """gzip, as ``grpc-encoding: gzip`` says."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return packer.compress(message) + packer.flush()


def decompress(message: bytes, size_max: int) -> bytes:
    """Undo gzip. Raises ``GrpcFault``: for what is no gzip, and before more than ``size_max`` bytes come of it."""
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        data = unpacker.decompress(message, size_max + 1)
    except zlib.error as error:
        raise GrpcFault(INTERNAL, f"a compressed message that is no gzip: {error}") from error
    if len(data) > size_max:
        raise too_large(len(data), size_max)
    if not unpacker.eof or unpacker.unused_data:
        raise GrpcFault(INTERNAL, "a compressed message that is not one whole gzip")
    return data


def timeout_ms(value: bytes) -> float:
    """``grpc-timeout`` in milliseconds. Raises ``GrpcFault``."""
    match = _TIMEOUT.match(value)
    if match is None:
        raise GrpcFault(INTERNAL, "malformed grpc-timeout")
    return int(match[1]) * _UNIT_MS[match[2]]


def percent_encoded(text: str) -> bytes:
    """``grpc-message``: UTF-8 with all escaped that is not printable ASCII, the percent sign too; cut when very long."""
    if len(text) > _TEXT_SIZE_MAX:
        text = text[:_TEXT_SIZE_MAX] + "…"
    if _PLAIN.match(text):
        return text.encode("ascii")
    return b"".join(
        bytes((byte,)) if 32 < byte < 127 and byte != 37 else b"%%%02X" % byte
        for byte in text.encode("utf-8", "replace")
    )


def trailers(status: int, text: str, fields: Fields = ()) -> Block:
    """How an answer ends whose head is sent already."""
    return block([(b"grpc-status", b"%d" % status), *_message(text), *fields], ends=True)


def refusal_block(status: int, text: str, fields: Fields = ()) -> Block:
    """An answer without message: head and trailers are one block."""
    return block(
        [(b":status", b"200"), _CONTENT_TYPE, (b"grpc-status", b"%d" % status), *_message(text), *fields], ends=True
    )


def _message(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"grpc-message", percent_encoded(text))] if text else []
