"""The peer's settings, and ours (RFC 9113 §6.5)."""

from __future__ import annotations

import struct
from typing import Final

from townhall.wire.http2 import ErrorCode, Fault, Http2Limits
from townhall.wire.http2.frames import FRAME_SIZE_MIN, WINDOW_MAX, settings, window_update

__all__ = ["NO_TABLE", "Settings", "asking", "greeting"]

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

WINDOW_DEFAULT: Final = 65_535
_FRAME_SIZE_LIMIT: Final = 2**24 - 1
_each = struct.Struct(">HI").iter_unpack


NO_TABLE: Final = settings({HEADER_TABLE_SIZE: 0})
"""Without a dynamic table a header block means the same on every connection, and costs no memory. Said when the first
call comes, not in the greeting: what only asks once may use the table that every connection begins with.
"""


class Settings:
    """What the peer has set, as far as we care. We push nothing and index nothing, so the rest is checked only."""

    __slots__ = ("frame_size_max", "streams_max", "window")

    def __init__(self) -> None:
        self.frame_size_max = FRAME_SIZE_MIN
        self.streams_max = WINDOW_MAX
        """At the same time; only servers care."""
        self.window = WINDOW_DEFAULT
        """Initial send window of each stream."""

    def read(self, payload: bytes) -> None:
        """Take the values of a SETTINGS frame, in order. Raises ``Fault``."""
        if len(payload) % 6:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS are not whole pairs")
        for name, value in _each(payload):
            if name == INITIAL_WINDOW_SIZE:
                if value > WINDOW_MAX:
                    raise Fault(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is above 2^31-1")
                self.window = value
            elif name == MAX_FRAME_SIZE:
                if not FRAME_SIZE_MIN <= value <= _FRAME_SIZE_LIMIT:
                    raise Fault(ErrorCode.PROTOCOL_ERROR, "the largest frame is out of bounds")
                self.frame_size_max = value
            elif name == MAX_CONCURRENT_STREAMS:
                self.streams_max = value
            elif name == ENABLE_PUSH and value > 1:
                raise Fault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")


def greeting(limits: Http2Limits) -> bytes:
    """What a server says first."""
    return _first(limits, {MAX_CONCURRENT_STREAMS: limits.streams_max})


def asking(limits: Http2Limits) -> bytes:
    """What a client says first, behind its preface."""
    return _first(limits, {ENABLE_PUSH: 0})


def _first(limits: Http2Limits, values: dict[int, int]) -> bytes:
    values |= {INITIAL_WINDOW_SIZE: limits.stream_window_size, MAX_HEADER_LIST_SIZE: limits.header_size_max}
    said = settings(values)
    more = limits.connection_window_size - WINDOW_DEFAULT
    return said + window_update(0, more) if more > 0 else said
