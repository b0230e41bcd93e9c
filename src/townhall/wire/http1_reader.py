"""Where messages begin and end in a connection's bytes, without sockets: requests of clients, answers of upstreams.

Pulled, not pushed: the connection feeds what arrives and asks for the next head, then for the body, when it is ready for
them; so a request that must wait costs nothing but its bytes. All limits on heads hold however the bytes are cut.
"""

from __future__ import annotations

from typing import Protocol

from townhall.wire.http1 import CHUNKED, ChunkDecoder, check_partial, refusal

__all__ = ["HeadSizes", "RequestReader"]

_LINE_EXTRA = 64
"""Method, version and spaces of a request line, beside its target."""
_CR = 13
_PARTS_MAX = 1_024
"""Pieces kept before they are joined: a body that comes in twos of bytes must not cost forty bytes each."""


class HeadSizes(Protocol):
    """The options of whoever reads, as far as they concern heads."""

    @property
    def header_size_max(self) -> int:
        """First line and fields together."""
        ...

    @property
    def target_size_max(self) -> int:
        """Of a request's target."""
        ...


class RequestReader:
    """Frames one connection's input. Raises ``Misuse`` with ``http_status``; nothing is promised after that.

    Answers are framed alike, but no empty line is forgiven before them: ``forgiving=False``.
    """

    __slots__ = (
        "_at",
        "_chunks",
        "_forgiving",
        "_held",
        "_left",
        "_options",
        "_parts",
        "_scanned",
        "_skipped",
        "ended",
        "size",
        "small",
        "trailers",
    )

    def __init__(self, options: HeadSizes, *, forgiving: bool = True) -> None:
        self._options = options
        self._forgiving = forgiving
        self.small = min(options.target_size_max, options.header_size_max)
        """Heads up to this size are within all limits."""
        self._held = b""
        self._at = 0
        self._scanned = 0
        self._skipped = False
        self._chunks: ChunkDecoder | None = None
        self._parts: list[bytes] = []
        self._left = 0
        self.size = 0
        """Bytes held."""
        self.ended = True
        """The body of the present request has been taken completely."""
        self.trailers = b""
        """The checked trailer fields of the last chunked body that has ended."""

    @property
    def left(self) -> int:
        """Bytes that a body with a length still wants."""
        return self._left

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self.size:
            data = self._held[self._at :] + data
            self._scanned -= self._at
        else:
            self._scanned = 0
        self._held = data
        self._at = 0
        self.size = len(data)

    def head(self) -> bytes | None:
        """The next head with its empty line; None when it is not there yet.

        Raises ``Misuse``: 400 as soon as it cannot become one, 414 and 431 over the limits.
        """
        if not self.size:
            return None
        held, at, scanned = self._held, self._at, self._scanned - 3
        # RFC 9112 §2.2: one empty line before a request is forgiven, since old clients end bodies with it.
        if held[at] == _CR and self._forgiving and not self._skipped and held.startswith(b"\r\n", at):
            self._at = at = at + 2
            self.size -= 2
            self._skipped = True
        end = held.find(b"\r\n\r\n", scanned if scanned > at else at)
        if end < 0:
            check_partial(held, max(at, self._scanned - 1))
            self._check_sizes(at, len(held))
            self._scanned = len(held)
            return None
        end += 4
        if end - at > self.small:
            self._check_sizes(at, end)
        self._at = self._scanned = end
        self.size = len(held) - end
        self._skipped = False
        return held[at:end]

    def begin_body(self, length: int, *, size_max: int | None) -> None:
        """The head just taken announces a body of this length (``CHUNKED`` when it says so itself).

        Raises ``TooLarge`` (413) when it is over ``size_max``.
        """
        if size_max is not None and length > size_max:
            raise refusal(413, "the body is too large", limit=size_max)
        self.ended = length == 0
        self._left = length
        self._chunks = None
        self.trailers = b""
        if self._parts:
            self._parts = []
        if length == CHUNKED:
            self._chunks = ChunkDecoder(size_max=size_max, trailer_size_max=self._options.header_size_max)

    def body(self) -> bytes | None:
        """The whole body; None when it is not all there. Raises ``Misuse`` (400, 413, 431) for bad chunks."""
        part = self.part()
        if self.ended and not self._parts:
            return part
        self._parts.append(part)
        if not self.ended:
            if len(self._parts) > _PARTS_MAX:
                self._parts = [b"".join(self._parts)]
            return None
        body = b"".join(self._parts)
        self._parts = []
        return body

    def part(self) -> bytes:
        """What is there of the body, b"" for nothing. Raises ``Misuse`` (400, 431) for bad chunks."""
        if self.ended:
            return b""
        at = self._at
        if self._chunks is None:
            data = self._held[at : at + self._left]
            size = len(data)
            self._left -= size
            self.size -= size
            self._at = at + size
            self.ended = not self._left
            return data
        chunks = self._chunks
        self._at = chunks.feed(self._held, at)
        self.size = len(self._held) - self._at
        data = b"".join(chunks.parts)
        chunks.parts.clear()
        if chunks.ended:
            self.ended = True
            self.trailers = b"".join(chunks.trailers)
            self._chunks = None
        return data

    def drop(self) -> None:
        """Forget what is held."""
        self._held = b""
        self._at = self.size = 0
        self._parts = []

    def _check_sizes(self, at: int, end: int) -> None:
        target_max = self._options.target_size_max
        size_max = self._options.header_size_max
        line_end = self._held.find(b"\r\n", at, at + target_max + _LINE_EXTRA)
        if line_end < 0 and end - at > target_max + _LINE_EXTRA:
            raise refusal(414, "the request target is too long", limit=target_max)
        if end - at > size_max:
            raise refusal(431, "the header is too large", limit=size_max)
