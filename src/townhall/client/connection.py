"""One HTTP/1.1 connection, seen from the client: bytes of a request out, a head and pieces of a body in.

Foreign exceptions are not translated here but by the callers in ``http``: OSError and EOFError mean that the
connection is gone, ``PeerMisbehaved`` that what came is not HTTP/1.1 as RFC 9112 has it. After any of them the
connection must be closed. Nothing here has a timeout of its own; whoever waits puts a budget around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

from townhall.model import limits
from townhall.model.errors import InvalidField, PeerMisbehaved

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection", "Head", "Origin", "parse_origin", "request_head"]

_PIECE_SIZE_MAX = 65_536
_CHUNK_LINE_SIZE_MAX = 1_024
_INTERIM = range(100, 200)


class Origin(NamedTuple):
    """Where a peer listens."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """``host:port`` for the Host field and for messages; an IPv6 address stands in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_origin(url: str, *, port_default: int = 0) -> Origin:
    """The origin of a URL ``http[s]://host[:port]``, or of a bare ``host:port``.

    Raises ``InvalidField`` for another scheme, a missing host, a bad port, and for a path, which would be ignored.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise InvalidField("url", f"{url!r}: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise InvalidField("url", f"{url!r} must begin with http:// or https://")
    if not parts.hostname or parts.username is not None:
        raise InvalidField("url", f"{url!r} must be http[s]://host[:port], without user and password")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidField("url", f"{url!r} must end after the port: the path is ours")
    return Origin(parts.scheme, parts.hostname, port or port_default or (443 if parts.scheme == "https" else 80))


class Head(NamedTuple):
    """Status and header fields of an answer; names in lower case, repeated fields joined with ', '."""

    status: int
    headers: Mapping[str, str]
    keep_alive: bool


class Connection:
    """A connection to ``origin``; carries one exchange at a time."""

    def __init__(self, origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.origin = origin
        self.idle_since = 0.0
        """Reading of the loop's clock when it was put back into the pool."""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, origin: Origin, ssl_context: ssl.SSLContext | None) -> Self:
        """Connect, with TLS for an https origin. Raises OSError (ssl.SSLError is one)."""
        tls: dict[str, object] = {}
        if origin.scheme == "https":
            import ssl  # noqa: PLC0415 - costs 10 ms, which a client without TLS does not pay

            tls = {"ssl": ssl_context or ssl.create_default_context(), "server_hostname": origin.host}
        reader, writer = await asyncio.open_connection(origin.host, origin.port, limit=limits.HEADER_SIZE_MAX, **tls)  # type: ignore[arg-type]
        return cls(origin, reader, writer)

    @property
    def usable(self) -> bool:
        """Whether the next request may go over it: open, and nothing came that nobody asked for."""
        quiet = not self._reader._buffer  # type: ignore[attr-defined]  # there is no public way to look
        return quiet and not self._reader.at_eof() and not self._writer.is_closing()

    def close(self) -> None:
        """Drop it at once, without waiting for unsent bytes; idempotent."""
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Write; waits while the peer takes nothing. Raises OSError."""
        self._writer.write(data)
        await self._writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        """One chunk of a request body whose head announced chunked coding (RFC 9112 §7.1)."""
        if data:
            await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def send_end(self) -> None:
        """The last chunk: the body ends properly."""
        await self.send(b"0\r\n\r\n")

    async def read_head(self) -> Head:
        """The next final head; interim ones (1xx) are skipped. Raises EOFError, OSError or PeerMisbehaved."""
        while True:
            try:
                raw = await self._reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError as error:
                raise PeerMisbehaved(f"an answer's head is longer than {limits.HEADER_SIZE_MAX} bytes") from error
            except asyncio.IncompleteReadError as error:
                if error.partial and not b"HTTP/".startswith(error.partial[:5]):
                    raise PeerMisbehaved("the peer does not speak HTTP") from error
                raise
            head = _parse_head(raw)
            if head.status not in _INTERIM:
                return head

    async def read_pieces(self, head: Head, method: str) -> AsyncIterator[bytes]:
        """The body as it comes. Exhausting it leaves the connection ready for the next request if ``keep_alive``."""
        if method == "HEAD" or head.status in (204, 304):
            return
        if "transfer-encoding" in head.headers:
            async for piece in self._read_chunks(head):
                yield piece
        elif "content-length" in head.headers:
            async for piece in self._read_exactly(_length(head)):
                yield piece
        else:
            while piece := await self._reader.read(_PIECE_SIZE_MAX):
                yield piece

    async def read_body(self, head: Head, method: str, *, size_max: int) -> bytes:
        """The whole body. Raises ``PeerMisbehaved`` when it is larger than ``size_max`` bytes."""
        if method != "HEAD" and "content-length" in head.headers and head.status not in (204, 304):
            # The usual case in one read.
            length = _length(head)
            if length > size_max:
                raise PeerMisbehaved(f"an answer of {length} bytes, at most {size_max} are read", limit=size_max)
            return await self._reader.readexactly(length)
        pieces = []
        size = 0
        async for piece in self.read_pieces(head, method):
            size += len(piece)
            if size > size_max:
                raise PeerMisbehaved(f"an answer of more than {size_max} bytes", limit=size_max)
            pieces.append(piece)
        return b"".join(pieces)

    async def _read_exactly(self, count: int) -> AsyncIterator[bytes]:
        while count:
            piece = await self._reader.read(min(count, _PIECE_SIZE_MAX))
            if not piece:
                raise asyncio.IncompleteReadError(b"", count)
            count -= len(piece)
            yield piece

    async def _read_chunks(self, head: Head) -> AsyncIterator[bytes]:
        if head.headers["transfer-encoding"].lower() != "chunked":
            raise PeerMisbehaved(f"transfer coding {head.headers['transfer-encoding']!r} was not asked for")
        while True:
            size = _chunk_size(await self._read_line())
            if size == 0:
                while await self._read_line():
                    pass  # trailer fields carry nothing for us
                return
            async for piece in self._read_exactly(size):
                yield piece
            if await self._reader.readexactly(2) != b"\r\n":
                raise PeerMisbehaved("a chunk is longer than it says")

    async def _read_line(self) -> bytes:
        try:
            line = await self._reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError as error:
            raise PeerMisbehaved("a chunk's size line has no end") from error
        if len(line) > _CHUNK_LINE_SIZE_MAX:
            raise PeerMisbehaved(f"a chunk's size line is longer than {_CHUNK_LINE_SIZE_MAX} bytes")
        return line[:-2]


def request_head(origin: Origin, method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a request head. Raises ``InvalidField`` when a part would break out of its place."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {origin.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise InvalidField("headers", "a header field or the target holds a line end")
    if text.split("\r\n", 1)[0].count(" ") != 2:
        raise InvalidField("target", "a request target must not hold a space")
    try:
        return text.encode("latin-1") + b"\r\n\r\n"
    except UnicodeEncodeError as error:
        raise InvalidField("headers", "a header field or the target is not Latin-1") from error


def _parse_head(raw: bytes) -> Head:
    lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isascii() and status.isdigit() and len(status) == 3):
        raise PeerMisbehaved(f"not a status line: {lines[0][:80]!r}")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise PeerMisbehaved(f"not a header field: {line[:80]!r}")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    connection = headers.get("connection", "").lower()
    keep = "keep-alive" in connection if version == "HTTP/1.0" else "close" not in connection
    # A body that ends with the connection leaves nothing to keep (RFC 9112 §6.3).
    framed = "content-length" in headers or "transfer-encoding" in headers or status in ("204", "304")
    return Head(int(status), headers, keep and framed)


def _length(head: Head) -> int:
    text = head.headers["content-length"]
    # ASCII digits alone: int() would take a sign, underscores and other scripts' digits as well.
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise PeerMisbehaved(f"not a content length: {text[:40]!r}")
    return int(text)


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].rstrip(b" \t")
    if not digits or len(digits) > 12 or digits.strip(b"0123456789abcdefABCDEF"):
        raise PeerMisbehaved(f"not a chunk size: {line[:40]!r}")
    return int(digits, 16)
