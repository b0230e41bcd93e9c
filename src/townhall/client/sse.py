"""Server-sent events as they come off a stream (WHATWG HTML §9.2), for a reader that knows its server.

Lines end with LF or CR LF; the standard's lone CR is not told apart from data, because our server never sends it.
"""

from __future__ import annotations

from typing import NamedTuple

from townhall.model import limits
from townhall.model.errors import PeerMisbehaved

__all__ = ["Event", "EventReader"]


class Event(NamedTuple):
    """One event; ``id`` is the last one seen, as the standard has it."""

    name: str
    data: bytes
    id: str


class EventReader:
    """Feed pieces, take the events that they complete. Comments and unknown fields are skipped."""

    def __init__(self, *, size_max: int = limits.CLIENT_ANSWER_SIZE_MAX) -> None:
        self._size_max = size_max
        self._buffer = bytearray()
        self._searched = 0
        self._name = ""
        self._data: list[bytes] = []
        self._held = 0
        self._id = ""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that end within ``piece``. Raises ``PeerMisbehaved`` when one passes ``size_max`` bytes."""
        buffer = self._buffer
        buffer += piece
        events: list[Event] = []
        start = 0
        while (end := buffer.find(b"\n", max(start, self._searched))) >= 0:
            line = bytes(buffer[start : end - 1 if end > start and buffer[end - 1] == 0x0D else end])
            start = end + 1
            if line:
                self._field(line)
            elif self._data:
                events.append(Event(self._name or "message", b"\n".join(self._data), self._id))
                self._name, self._data, self._held = "", [], 0
            else:
                self._name = ""
        del buffer[:start]
        # A large event comes in many pieces: what was searched once is not searched again.
        self._searched = len(buffer)
        if len(buffer) + self._held > self._size_max:
            raise PeerMisbehaved(f"an event is longer than {self._size_max} bytes", limit=self._size_max)
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._held += len(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
