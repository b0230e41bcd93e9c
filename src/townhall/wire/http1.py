"""HTTP/1.1 as bytes (RFC 9110, RFC 9112): what a head, a target and a chunked body may look like, and how we write them.

Everything is strict. A registry sits behind proxies and beside other parsers; where two of them disagree about the end
of a message, one client's bytes become another client's request. So what the RFCs allow a recipient to forgive (bare LF,
obs-fold, whitespace around names, repeated lengths) is refused, and the connection is closed.

Bad input raises ``Misuse`` (``Malformed`` or ``TooLarge``) and nothing else; ``fields["http_status"]`` is the status
that HTTP has for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

from townhall.model.errors import Malformed, Misuse, TooLarge
from townhall.model.limits import CHUNK_LINE_SIZE_MAX

__all__ = [
    "CHUNKED", "CONTINUE", "LAST_CHUNK", "ChunkDecoder", "accepts_gzip", "body_length", "check_head", "check_host",
    "check_partial", "chunk", "decode_path", "decode_text", "parse_query", "plain_line", "refusal", "render_fields", "render_head", "split_target",
]  # fmt: skip

CHUNKED: Final = -1
"""The length of a body that says where it ends by itself."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

# Possessive quantifiers (``++``): a head that does not match fails in one pass, without backtracking.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n"
# The target is visible ASCII without '#': a fragment never belongs into a request (RFC 9112 §3.2).
_HEAD: Final = re.compile(_TOKEN + rb" [!\"$-~]++ HTTP/([0-9]\.[0-9])\r\n(?:" + _FIELD + rb")*+\r\n")
# A request line that every parser reads alike: a path of unreserved characters and common delimiters, perhaps a query.
_PLAIN_LINE: Final = re.compile(
    rb"([A-Z]++) (/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*+(?:\?[A-Za-z0-9\-._~%!$&'()*+,;=:@/?]*+)?) HTTP/1\.1\r\n"
)
_BREAKS: Final = re.compile(rb"[\r\n\0]")
_TRAILERS: Final = re.compile(rb"(?:" + _FIELD + rb")*+\r\n")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]++)(?:;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_CHUNK_DIGITS_MAX: Final = 8
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_HOST: Final = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://[^/?]+([^?]*)(?:\?(.*))?", re.DOTALL)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

# What is wrong with a head that does not match, most telling first.
_FAULTS: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = (
    (re.compile(rb"\x00"), "a NUL byte in the header"),
    (re.compile(rb"(?<!\r)\n"), "a line that ends with a bare LF"),
    (re.compile(rb"\r(?!\n)"), "a bare CR in the header"),
    (re.compile(rb"\r\n[ \t]"), "a folded header field (obs-fold)"),
    (re.compile(rb"\r\n" + _TOKEN + rb"[ \t]++:"), "whitespace before the colon of a header field"),
    (re.compile(rb"\r\n(?!" + _TOKEN + rb":|\r\n)[^\r]"), "an invalid header field name"),
    (re.compile(rb"\A(?!" + _TOKEN + rb" )"), "an invalid method"),
    (re.compile(rb"\A(?!" + _TOKEN + rb" [^ \r]++ HTTP/)"), "an invalid request line"),
    (re.compile(rb"\A" + _TOKEN + rb" (?![!\"$-~]++ )"), "a request target with bytes that must be percent-encoded"),
)
_HOPELESS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")


def refusal(status: int, message: str, *, advice: str = "", limit: int | None = None) -> Misuse:
    """An error that carries its HTTP status; ``TooLarge`` when there is a limit, else ``Malformed``."""
    if limit is not None:
        return TooLarge(message, advice=advice, http_status=status, limit=limit)
    return Malformed(message, advice=advice, http_status=status)


def check_head(raw: bytes, *, count_max: int) -> None:
    """Check the bytes of a whole head, from the method to the empty line.

    Raises ``Misuse``: 400 for anything RFC 9112 does not allow to be sent, 431 for more than ``count_max`` fields, 505
    for another major version than 1.
    """
    match = _HEAD.fullmatch(raw)
    if match is None:
        raise refusal(400, next((fault for pattern, fault in _FAULTS if pattern.search(raw)), "an invalid header"))
    if match[1] != b"1.1" and match[1] != b"1.0":
        raise refusal(505, f"HTTP version {match[1].decode()}", advice="use HTTP/1.1")
    if raw.count(b"\r\n") - 2 > count_max:
        raise refusal(431, "too many header fields", limit=count_max)


def plain_line(raw: bytes, *, target_size_max: int) -> tuple[bytes, bytes, bytes] | None:
    """Method, target and the rest of a whole head, if its request line is one of HTTP/1.1 about which there is no doubt.

    None for any other head, good or bad. Whether the method and the rest are good is not looked at.
    """
    match = _PLAIN_LINE.match(raw)
    if match is None or len(match[2]) > target_size_max:
        return None
    return match[1], match[2], raw[match.end() :]


def check_partial(raw: bytes, start: int) -> None:
    """Raise ``Misuse`` (400) as soon as an unfinished head cannot become a valid one; ``start`` is where to look from."""
    fault = _HOPELESS.search(raw, start)
    if fault is not None:
        raise refusal(400, "a control character or a bare line end in the header", advice="is this HTTP at all?")


def check_host(fields: Sequence[tuple[bytes, bytes]], *, required: bool) -> None:
    """Exactly one valid Host in HTTP/1.1, at most one before (RFC 9112 §3.2). Raises ``Misuse`` (400)."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1:
        raise refusal(400, "more than one Host field")
    if required and not hosts:
        raise refusal(400, "no Host field")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        raise refusal(400, "an invalid Host field")


def body_length(fields: Sequence[tuple[bytes, bytes]], *, old: bool) -> int:
    """How long the body is, 0 for none, ``CHUNKED`` when it is chunked (RFC 9112 §6.3). ``old`` means HTTP/1.0.

    Raises ``Misuse``: 501 for a coding other than chunked, 400 for everything that two parsers could read differently.
    """
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if codings:
        names = [coding.strip(b" \t").lower() for value in codings for coding in value.split(b",")]
        if any(name != b"chunked" for name in names):
            raise refusal(501, "a transfer coding other than chunked")
        if lengths:
            raise refusal(400, "both Content-Length and Transfer-Encoding")
        if len(names) > 1:
            raise refusal(400, "chunked more than once")
        if old:
            raise refusal(400, "Transfer-Encoding in HTTP/1.0")
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1:
        raise refusal(400, "more than one Content-Length")
    if _LENGTH.fullmatch(lengths[0]) is None:
        raise refusal(400, "a Content-Length that is not a number")
    return int(lengths[0])


def split_target(method: str, target: bytes) -> tuple[str, str]:
    """Path and query of a request target, still percent-encoded; absolute-form loses its origin (RFC 9112 §3.2).

    The path of ``OPTIONS *`` is ``*``. Raises ``Misuse`` (400, 501 for CONNECT).
    """
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
    elif method == "CONNECT":
        raise refusal(501, "CONNECT is for proxies")
    elif (match := _ABSOLUTE.fullmatch(target)) is not None:
        path, query = match[1] or b"/", match[2] or b""
    elif target == b"*" and method == "OPTIONS":
        return "*", ""
    else:
        raise refusal(400, "a request target that is no path")
    return path.decode("ascii"), query.decode("ascii")


def decode_text(text: str) -> str:
    """Percent-decode one part of a path or query. Raises ``Misuse`` (400) for broken escapes and invalid UTF-8."""
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise refusal(400, "'%' without two hexadecimal digits", advice="write %25 for a percent sign")
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusal(400, "percent-encoded bytes that are not UTF-8") from error


def decode_path(path: str) -> tuple[str, ...]:
    """What stands between the slashes of a percent-encoded path, each part decoded by itself. Raises as ``decode_text``."""
    parts = path[1:].split("/")
    return tuple([decode_text(part) for part in parts] if "%" in path else parts)


def parse_query(query: str) -> dict[str, list[str]]:
    """Parameters in order, by name; '+' is a space, and one without '=' has the value ''. Also for form bodies.

    Raises ``Misuse`` (400) for broken escapes and invalid UTF-8.
    """
    parameters: dict[str, list[str]] = {}
    if not query:
        return parameters
    for pair in query.replace("+", " ").split("&"):
        if pair:
            name, _, value = pair.partition("=")
            parameters.setdefault(decode_text(name), []).append(decode_text(value))
    return parameters


def accepts_gzip(accept: str) -> bool:
    """Whether an Accept-Encoding value allows gzip (RFC 9110 §12.5.3); a weight of 0 forbids it."""
    accept = accept.lower()
    if "gzip" not in accept and "*" not in accept:
        return False
    weights: dict[str, bool] = {}
    for coding in accept.split(","):
        name, _, parameters = coding.partition(";")
        weight = parameters.replace(" ", "").removeprefix("q=")
        weights[name.strip()] = weight.rstrip("0").rstrip(".") not in {"0", ""} if parameters else True
    return weights.get("gzip", weights.get("*", False))


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""  # Consul answers 472 and 473; RFC 9112 §4 allows an empty reason.
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


_STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 600)}


def render_head(status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Status line and fields, each with its CRLF, without the empty line at the end, so that more can follow.

    Raises ``ValueError`` when a field would break the head (our bug: a face put user's bytes there unchecked).
    """
    return _STATUS_LINES[status] + render_fields(fields)


def render_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fields, each with its CRLF. Raises ``ValueError`` as ``render_head``."""
    return b"".join([_field_line(field) for field in fields])


@lru_cache(4_096)
def _field_line(field: tuple[bytes, bytes]) -> bytes:
    # Remembered, because an answer has half a dozen of them and nearly always the same ones.
    name, value = field
    if not name or _BREAKS.search(value):
        raise ValueError(f"the answer's field {name!r} would break its head")
    return b"%b: %b\r\n" % (name, value)


def chunk(data: bytes) -> bytes:
    """One chunk; empty data gives nothing, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkDecoder:
    """Takes a chunked body apart, however it is cut (RFC 9112 §7.1). Trailers are checked and kept as lines.

    ``feed`` puts data into ``parts``; after ``ended`` it takes nothing more. Raises ``Misuse``: 400 for bad framing,
    413 as soon as a size line announces more than ``size_max`` in all, 431 for long trailers.
    """

    __slots__ = ("_left", "_line", "_state", "ended", "parts", "size", "size_max", "trailer_size_max", "trailers")

    def __init__(self, *, size_max: int | None, trailer_size_max: int) -> None:
        self.size_max = size_max
        self.trailer_size_max = trailer_size_max
        self.size = 0
        self.parts: list[bytes] = []
        self.trailers: list[bytes] = []
        self.ended = False
        self._line = b""
        self._left = 0
        self._state = self._size_line

    def feed(self, data: bytes, at: int) -> int:
        """Take from ``data[at:]`` what belongs to the body; returns where that ends."""
        size = len(data)
        while at < size and not self.ended:
            at = self._state(data, at)
        return at

    def _size_line(self, data: bytes, at: int) -> int:
        line, at = self._take_line(data, at, CHUNK_LINE_SIZE_MAX, status=400)
        if not line:
            return at
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or len(match[1]) > _CHUNK_DIGITS_MAX:
            raise refusal(400, "an invalid chunk size")
        self._left = int(match[1], 16)
        if not self._left:
            self._state = self._trailers
            return at
        self.size += self._left
        if self.size_max is not None and self.size > self.size_max:
            raise refusal(413, "the body is too large", limit=self.size_max)
        self._state = self._data
        return at

    def _data(self, data: bytes, at: int) -> int:
        end = min(at + self._left, len(data))
        self.parts.append(data[at:end])
        self._left -= end - at
        if not self._left:
            self._state = self._data_end
        return end

    def _data_end(self, data: bytes, at: int) -> int:
        end = min(at + 2 - len(self._line), len(data))
        self._line += data[at:end]
        if not b"\r\n".startswith(self._line):
            raise refusal(400, "a chunk that is longer than its size says")
        if len(self._line) == 2:
            self._line = b""
            self._state = self._size_line
        return end

    def _trailers(self, data: bytes, at: int) -> int:
        # The section ends with an empty line: either at once, or after a field's CRLF.
        line, at = self._take_line(data, at, self.trailer_size_max, status=431)
        if line == b"\r\n":
            self.ended = True
        elif line:
            if _TRAILERS.fullmatch(line + b"\r\n") is None:
                raise refusal(400, "an invalid trailer field")
            self.trailer_size_max -= len(line)
            self.trailers.append(line)
        return at

    def _take_line(self, data: bytes, at: int, size_max: int, *, status: int) -> tuple[bytes, int]:
        """The next line with its end, or b"" when it is not complete yet; and where to go on."""
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        line = self._line + data[at:stop]
        if len(line) > size_max:
            raise refusal(status, "a line of the chunked body is too long", limit=size_max if status == 431 else None)
        if end < 0:
            check_partial(line, 0)
            self._line = line
            return b"", stop
        self._line = b""
        return line, stop
