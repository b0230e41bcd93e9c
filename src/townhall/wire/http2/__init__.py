"""HTTP/2 (RFC 9113), without I/O: bytes in, calls to a sink; answers in, bytes out. ``requester`` is the client's end.

``connection.Connection`` is one peer's connection: it takes the bytes apart (``frames``, ``settings``), reads header
blocks (``heads``, over the tables of the ``hpack`` library), keeps the states of streams, and what its rules break
becomes RST_STREAM or GOAWAY by itself, never an exception for the caller. ``outbox`` is its other half: answers, cut to
the windows that the peer has opened. ``guard`` tells work from noise and ends connections that only make noise.

A stream goes: ``Sink.request`` once, ``Sink.data`` for what its body brings, then one of: the answer is complete, or
``Sink.lost`` (the peer has cancelled it, broke a rule on it, or the connection is gone).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from townhall.model import limits
from townhall.model.errors import Malformed

if TYPE_CHECKING:
    from townhall.wire.http2.heads import Head
    from townhall.wire.http2.outbox import Stream

__all__ = ["PREFACE", "ErrorCode", "Fault", "Http2Limits", "Sink", "Writable"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What every client says first (RFC 9113 §3.4)."""


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends (RFC 9113 §7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Fault(Malformed):
    """The peer broke a rule. ``stream`` is the number of the stream it is about, 0 for the whole connection."""

    code = "http2"

    def __init__(self, error: ErrorCode, message: str, *, stream: int = 0) -> None:
        super().__init__(message)
        self.error = error
        self.stream = stream


class Http2Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may ask for. Sizes in bytes; every value is above 0."""

    streams_max: int = limits.HTTP2_STREAMS_MAX
    """At once, on one connection; one more is refused with REFUSED_STREAM, which clients may try again."""
    stream_window_size: int = limits.HTTP2_STREAM_WINDOW_SIZE
    connection_window_size: int = limits.HTTP2_CONNECTION_WINDOW_SIZE
    header_size_max: int = limits.HEADER_SIZE_MAX
    """Of one header list as RFC 9113 §6.5.2 counts it; more is answered with 431."""
    header_count_max: int = limits.HEADER_COUNT_MAX
    unsent_size_max: int = limits.HTTP2_UNSENT_SIZE_MAX
    """Answers that wait for the peer's windows."""
    noise_max: int = limits.HTTP2_NOISE_MAX

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")


class Writable(Protocol):
    """Who is told that what was given has gone."""

    def writable(self, stream: Stream) -> None:
        """All that was given for a stream that goes on has been taken by the peer's windows."""
        ...


class Sink(Writable, Protocol):
    """Whom a connection tells. Calls come from within ``Connection.receive`` and may answer at once."""

    def request(self, stream: Stream, head: Head, varying: bytes, ended: bool) -> None:
        """A stream began. ``varying`` is the value of the one field that heads are read without (see ``heads``)."""
        ...

    def data(self, stream: Stream, data: bytes, ended: bool) -> None:
        """A part of its body; ``ended`` says that it was the last."""
        ...

    def whole(self, stream: Stream, head: Head, data: bytes) -> None:
        """A stream began, and this one frame is all of its body: ``request`` and ``data`` at once. Only for heads that
        say they may be given so, without varying field, and while no answer waits for the peer's windows.
        """
        ...

    def answering(self, stream: Stream) -> Callable[[bytes], bytes | None] | None:
        """Asked once for frames in a row on streams of one ``again``: what gives the answer to the whole of such a
        frame, or None, which has had no effect, when ``data`` must be called instead.
        """
        ...

    def lost(self, stream: Stream) -> None:
        """Nothing more can be said on it. Called only while its answer is not complete."""
        ...
