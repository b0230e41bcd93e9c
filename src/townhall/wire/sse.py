"""Server-sent events (WHATWG HTML §9.2) as bytes.

An event is a few ``field: value`` lines and an empty line. A receiver that reconnects names the last ``id`` it saw
in ``Last-Event-ID``; an event without an ``id`` line leaves the one before in force.
"""

from __future__ import annotations

import re

__all__ = ["HEARTBEAT", "comment", "event", "identified"]

# The three line ends of §9.2.6; any of them inside a value would begin another field.
_LINE_END = re.compile(rb"\r\n|\r|\n")


def comment(text: str) -> bytes:
    """A line that receivers ignore; it keeps proxies from closing a quiet stream."""
    return b": " + _LINE_END.sub(b" ", text.encode()) + b"\n\n"


def event(name: str, data: bytes) -> bytes:
    """An event without an id. ``name`` is one of ours and holds no line end; ``data`` may."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def identified(rendered: bytes, position: int) -> bytes:
    """The same event, telling the receiver to resume from ``position`` once it has it."""
    return b"id: %d\n%b" % (position, rendered)


HEARTBEAT = comment("hb")
