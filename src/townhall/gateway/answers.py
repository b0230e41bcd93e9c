"""Answers of instances: where they begin and end, strictly (RFC 9112 §6.3). Pure.

An instance that is broken or hostile must not be able to put words into another's mouth: an answer that can be read in
two ways is refused, and so are bytes that nobody asked for. Raises ``PeerMisbehaved`` and nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from townhall.gateway.fields import end_to_end, options_of, rendered
from townhall.model.errors import Misuse, PeerMisbehaved
from townhall.model.limits import HEADER_COUNT_MAX, PROXY_MEMO_COUNT_MAX, PROXY_MEMO_SIZE_MAX
from townhall.wire.http1 import CHUNKED
from townhall.wire.http1_reader import HeadSizes, RequestReader
from townhall.wire.http2.frames import Block

__all__ = ["UNTIL_CLOSE", "AnswerHead", "AnswerReader"]

UNTIL_CLOSE: Final = 1 << 62
"""The length of a body that ends with its connection."""

_FIELD = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n"
# The space before an empty reason is due (RFC 9112 §4), and many servers leave it out.
_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})( [\t\x20-\x7e\x80-\xff]*+)?\r\n((?:" + _FIELD + rb")*+)\r\n"
)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
BODILESS: Final = (204, 304)
"""Statuses whose answers end with their heads."""
_FRAMING: Final = frozenset({b"content-length", b"via"})
_memo: dict[bytes, AnswerHead] = {}


class AnswerHead:
    """The head of an answer."""

    __slots__ = (
        "announced", "blocks", "keep_alive", "length", "onward", "reason", "rendered", "status", "takes_upgrade", "version", "via",
    )  # fmt: skip

    status: int
    reason: bytes
    """With the space before it; b"" for none."""
    length: int
    """Of the body, unless it answers HEAD: a number, ``CHUNKED`` or ``UNTIL_CLOSE``."""
    announced: bytes
    """The value of Content-Length, which a HEAD's answer and a 304 may have without a body; b"" for none."""
    keep_alive: bool
    takes_upgrade: bytes
    """The protocol of a 101."""
    onward: bytes
    """The lines that the client gets as they are."""
    version: bytes
    """Of HTTP, as Via has it."""
    via: bytes
    rendered: dict[tuple[int, bytes, bool, bool], bytes]
    """What ``rendering`` made of it, remembered with it."""
    blocks: dict[tuple[int, bytes, bool], Block]
    """The same for ``http2_heads``."""


class AnswerReader:
    """The answers on one connection, one after the other; pulled, like requests.

    ``expect`` begins an answer, ``feed`` takes bytes, ``head`` and then ``part`` give what is there, ``ended`` says that
    the answer is complete.
    """

    __slots__ = ("_keep_alive", "_method", "_reader", "begun", "ended")

    def __init__(self, sizes: HeadSizes) -> None:
        self._reader = RequestReader(sizes, forgiving=False)
        self._method = b""
        self._keep_alive = False
        self.begun = False
        """Its final head has come."""
        self.ended = True

    @property
    def goes_on(self) -> bool:
        """Whether another answer may follow this one, which has ended."""
        return self._keep_alive and not self._reader.size

    @property
    def held(self) -> int:
        """Bytes that wait; more than 0 after an answer's end is something that nobody asked for."""
        return self._reader.size

    @property
    def trailers(self) -> bytes:
        """The trailer fields of the answer that has ended, as lines."""
        return self._reader.trailers

    def expect(self, method: bytes) -> None:
        """A request with this method was sent."""
        self._method = method
        self.begun = self.ended = False

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        self._reader.feed(data)

    def head(self) -> AnswerHead | None:
        """The next head, final or not; None when it is not there yet."""
        try:
            raw = self._reader.head()
        except Misuse as error:
            raise _bad(error.message) from error
        if raw is None:
            return None
        head = _memo.get(raw)
        if head is None:
            head = _read(raw)
            if len(raw) <= PROXY_MEMO_SIZE_MAX:
                if len(_memo) >= PROXY_MEMO_COUNT_MAX:
                    _memo.clear()
                _memo[raw] = head
        if head.status >= 200:
            length = body_length_of(head, self._method)
            self.begun = True
            self._keep_alive = head.keep_alive and length != UNTIL_CLOSE
            self._reader.begin_body(length, size_max=None)
            self.ended = not length
        return head

    def part(self) -> bytes:
        """What is there of the body, b"" for nothing."""
        reader = self._reader
        try:
            data = reader.part()
        except Misuse as error:
            raise _bad(error.message) from error
        if reader.ended:
            self.ended = True
        return data

    def rest(self) -> bytes:
        """Everything that is held, after a 101: it is HTTP no more."""
        self._reader.begin_body(UNTIL_CLOSE, size_max=None)
        return self._reader.part()

    def closed(self) -> bool:
        """The connection has ended; whether that is a good end of the present answer."""
        return self.ended or self._until_close

    @property
    def _until_close(self) -> bool:
        return not self._reader.ended and self._reader.left > 1 << 61


def body_length_of(head: AnswerHead, method: bytes) -> int:
    """How long the body of this answer to this method is: a number, ``CHUNKED`` or ``UNTIL_CLOSE``."""
    return 0 if method == b"HEAD" else head.length


def _read(raw: bytes) -> AnswerHead:
    match = _HEAD.fullmatch(raw)
    if match is None:
        raise _bad("a head that is not HTTP/1.1")
    if raw.count(b"\r\n") - 2 > HEADER_COUNT_MAX:
        raise _bad("too many header fields")
    old = match[1] == b"0"
    rows = [_row(line) for line in match[4].split(b"\r\n")[:-1]]
    head = AnswerHead()
    head.status = int(match[2])
    head.reason = match[3] or b""
    length, head.announced = _length(rows, old=old)
    head.length = 0 if head.status in BODILESS else UNTIL_CLOSE if length is None else length
    options: frozenset[bytes] = frozenset()
    head.takes_upgrade = head.via = b""
    head.version = b"1.0" if old else b"1.1"
    head.rendered = {}
    head.blocks = {}
    for name, value in rows:
        if name == b"connection":
            options |= options_of(value)
        elif name == b"upgrade":
            head.takes_upgrade = value.lower()
        elif name == b"via":
            head.via = head.via + b", " + value if head.via else value
    head.keep_alive = b"close" not in options and (not old or b"keep-alive" in options)
    head.onward = rendered([row for row in end_to_end(rows, options) if row[0] not in _FRAMING])
    return head


def _length(rows: list[tuple[bytes, bytes]], *, old: bool) -> tuple[int | None, bytes]:
    lengths = [value for name, value in rows if name == b"content-length"]
    codings = [value.lower() for name, value in rows if name == b"transfer-encoding"]
    if codings:
        if codings != [b"chunked"]:
            raise _bad("a transfer coding other than chunked")
        if lengths:
            raise _bad("both Content-Length and Transfer-Encoding")
        if old:
            raise _bad("Transfer-Encoding in HTTP/1.0")
        return CHUNKED, b""
    if not lengths:
        return None, b""
    if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise _bad("a Content-Length that is not one number")
    return int(lengths[0]), lengths[0]


def _row(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


def _bad(what: str) -> PeerMisbehaved:
    return PeerMisbehaved(f"the instance's answer cannot be understood: {what}")
