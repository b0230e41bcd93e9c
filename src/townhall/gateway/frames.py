"""Where WebSocket frames end in a stream of bytes (RFC 6455 §5.2), so that one of ours fits between two. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["GOING_AWAY", "FrameEnds", "close_frame"]

GOING_AWAY: Final = 1001
_CLOSE: Final = 0x88
_HEAD_SIZE: Final = 2


class FrameEnds:
    """Follows one direction; ``between`` says that the last byte seen was the end of a frame, or there was none."""

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.closed = False
        """A close frame has begun: nothing may follow it."""

    @property
    def between(self) -> bool:
        """Whether a frame may be put in here."""
        return not self._left and not self._head and not self.closed

    def feed(self, data: bytes) -> int | None:
        """Take what passes; returns where the first frame ends that was not whole before, None when none does."""
        at, first, size = 0, None, len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
            else:
                at = self._header(data, at)
            if first is None and not self._left and not self._head:
                first = at
        return first

    def _header(self, data: bytes, at: int) -> int:
        """Take of a frame's header what is here; sets what is left when it is whole."""
        held = len(self._head)
        # Fourteen bytes are the longest header.
        head = self._head + data[at : at + 14 - held]
        length = _header_size(head)
        if length is None or len(head) < length:
            self._head = head
            return at + len(head) - held
        self._head = b""
        self.closed = self.closed or head[0] & 0x8F == _CLOSE
        self._left = _payload_size(head)
        return at + length - held


def _header_size(head: bytes) -> int | None:
    if len(head) < _HEAD_SIZE:
        return None
    short = head[1] & 0x7F
    return _HEAD_SIZE + {126: 2, 127: 8}.get(short, 0) + (4 if head[1] & 0x80 else 0)


def _payload_size(head: bytes) -> int:
    short = head[1] & 0x7F
    if short == 126:
        return int.from_bytes(head[2:4])
    if short == 127:
        return int.from_bytes(head[2:10])
    return short


def close_frame(code: int, *, masked: bool) -> bytes:
    """A close frame; that of a client is masked, with zeros, which hide nothing and break nothing."""
    payload = code.to_bytes(2)
    return bytes([_CLOSE, (0x80 if masked else 0) | len(payload)]) + (bytes(4) if masked else b"") + payload
