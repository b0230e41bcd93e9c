"""A small asyncio HTTP/1.1 client: kept-alive connections per origin, whole and streaming answers, one budget each.

It is what the SDK needs and no more: no redirects, no cookies, no compression, no proxies. Everything that goes wrong
leaves as ``Unreachable`` (the peer is not there, hangs or went away; ``fields`` say ``kind`` and whether the request
was ``sent``) or ``PeerMisbehaved`` (what came is not HTTP, or is too large). Statuses are not judged here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from townhall.client.connection import Connection, Head, Origin, request_head
from townhall.client.home import Home
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved, Unreachable

if TYPE_CHECKING:
    import ssl

__all__ = ["IDEMPOTENT", "HttpClient", "HttpStream", "Request", "Response"]

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``budget_s`` covers everything from connecting to the last byte of the answer, in seconds."""

    origin: Origin
    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    budget_s: float = limits.CLIENT_TIMEOUT_MS / 1000
    size_max: int = limits.CLIENT_ANSWER_SIZE_MAX
    """Bytes of the answer's body."""

    def render(self) -> bytes:
        """The bytes on the wire."""
        headers = dict(self.headers)
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            headers["content-length"] = str(len(self.body))
        return request_head(self.origin, self.method, self.target, headers) + self.body


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """A status from 200 to 299."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8; what is not is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body decoded. Raises ``PeerMisbehaved`` when it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise PeerMisbehaved(f"the answer is not JSON: {error}") from error


class HttpClient:
    """A pool of connections. Belongs to the event loop it is used in; in another one, after that has ended, it begins anew."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None, instances: bool = False) -> None:
        """``instances``: it calls servers that close idle connections when they like, see ``CLIENT_REUSE_UNSAFE_MS``."""
        self._ssl_context = ssl_context
        self._instances = instances
        self._home = Home()
        self._idle: dict[Origin, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections, those in use too; what runs over them fails with ``Unreachable``. Idempotent."""
        self._closed = True
        self.drop()

    def drop(self) -> None:
        """The same, but further requests may come."""
        if not self._home.lost:
            for connection in [*self._busy, *(one for idle in self._idle.values() for one in idle)]:
                connection.close()
        self._idle.clear()

    async def request(self, request: Request) -> Response:
        """Send and read the whole answer. Raises ``Unreachable`` or ``PeerMisbehaved``."""
        progress = _Progress()
        try:
            async with asyncio.timeout(request.budget_s):
                return await self._exchange(request, progress)
        except (OSError, EOFError) as error:
            raise _unreachable(request, progress, error) from error

    async def stream(self, request: Request, *, duplex: bool = False) -> HttpStream:
        """Send and return when the answer's head is there; the budget covers that much.

        With ``duplex`` the request's body is its first chunk, and more may follow with ``HttpStream.send``. The caller
        closes the stream. Raises ``Unreachable`` or ``PeerMisbehaved``.
        """
        progress = _Progress()
        try:
            async with asyncio.timeout(request.budget_s):
                self._settle()
                connection = await self._connect(request.origin)
                try:
                    progress.sent = True
                    if duplex:
                        headers = {**request.headers, "transfer-encoding": "chunked"}
                        await connection.send(request_head(request.origin, request.method, request.target, headers))
                        await connection.send_chunk(request.body)
                    else:
                        await connection.send(request.render())
                    head = await connection.read_head()
                except BaseException:
                    self._drop(connection)
                    raise
        except (OSError, EOFError) as error:
            raise _unreachable(request, progress, error) from error
        return HttpStream(self, request, connection, head)

    async def _exchange(self, request: Request, progress: _Progress) -> Response:
        data = request.render()
        self._settle()
        while True:
            pooled = self._take(request.origin, unsafe=self._instances and request.method not in IDEMPOTENT)
            connection = pooled or await self._connect(request.origin)
            try:
                progress.sent = True
                await connection.send(data)
                head = await connection.read_head()
            except (ConnectionError, EOFError):
                self._drop(connection)
                if pooled is None or request.method not in IDEMPOTENT:
                    raise
                progress.sent = False
                continue  # the peer closed a kept connection at the moment we used it (RFC 9112 §9.3.1)
            except BaseException:
                self._drop(connection)
                raise
            try:
                body = await connection.read_body(head, request.method, size_max=request.size_max)
            except BaseException:
                self._drop(connection)
                raise
            self._put_back(connection, head)
            return Response(head.status, head.headers, body)

    def _settle(self) -> None:
        if self._home.loop is not asyncio.get_running_loop():
            if self._home.inherited:
                _parents.append((self._idle, self._busy))
            self._home.enter("this HttpClient")
            self._idle, self._busy = {}, set()

    async def _connect(self, origin: Origin) -> Connection:
        if self._closed:
            raise ConnectionAbortedError("this client is closed")
        connection = await Connection.open(origin, self._ssl_context)
        self._busy.add(connection)
        return connection

    def _take(self, origin: Origin, *, unsafe: bool) -> Connection | None:
        """The kept connection used last: the others get a chance to grow old."""
        idle = self._idle.get(origin)
        now = asyncio.get_running_loop().time()
        if unsafe and idle and idle[-1].idle_since < now - limits.CLIENT_REUSE_UNSAFE_MS / 1000:
            return None
        oldest = now - limits.CLIENT_IDLE_MS / 1000
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since > oldest:
                self._busy.add(connection)
                return connection
            connection.close()
        return None

    def _put_back(self, connection: Connection, head: Head) -> None:
        idle = self._idle.setdefault(connection.origin, deque())
        if (
            self._closed
            or not head.keep_alive
            or not connection.usable
            or len(idle) >= limits.CLIENT_CONNECTIONS_IDLE_MAX
        ):
            self._drop(connection)
            return
        self._busy.discard(connection)
        connection.idle_since = asyncio.get_running_loop().time()
        idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        self._busy.discard(connection)
        connection.close()


class HttpStream:
    """An answer that is read as it comes, over a connection of its own. Close it."""

    def __init__(self, client: HttpClient, request: Request, connection: Connection, head: Head) -> None:
        self.status = head.status
        self.headers = head.headers
        self._client = client
        self._request = request
        self._connection = connection
        self._head = head

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; whoever reads gets ``Unreachable``. Idempotent."""
        self._client._drop(self._connection)

    async def pieces(self, *, silence_s: float | None = None) -> AsyncIterator[bytes]:
        """The body's pieces until it ends properly. ``silence_s`` is the longest wait for one.

        Raises ``Unreachable`` when the connection breaks or stays silent, ``PeerMisbehaved`` when it is garbled.
        """
        pieces = self._connection.read_pieces(self._head, self._request.method)
        try:
            while True:
                async with asyncio.timeout(silence_s):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece
        except (OSError, EOFError) as error:
            raise _unreachable(self._request, _Progress(sent=True), error) from error

    async def read(self, *, budget_s: float, size_max: int) -> bytes:
        """The whole body, for an answer that turned out to be a refusal. Raises as ``pieces`` does."""
        try:
            async with asyncio.timeout(budget_s):
                return await self._connection.read_body(self._head, self._request.method, size_max=size_max)
        except (OSError, EOFError) as error:
            raise _unreachable(self._request, _Progress(sent=True), error) from error

    async def send(self, data: bytes, *, budget_s: float) -> None:
        """One more chunk of a duplex request's body. Raises ``Unreachable``."""
        try:
            async with asyncio.timeout(budget_s):
                await self._connection.send_chunk(data)
        except OSError as error:
            raise _unreachable(self._request, _Progress(sent=True), error) from error

    async def send_end(self, *, budget_s: float) -> None:
        """End a duplex request's body properly. Raises ``Unreachable``."""
        try:
            async with asyncio.timeout(budget_s):
                await self._connection.send_end()
        except OSError as error:
            raise _unreachable(self._request, _Progress(sent=True), error) from error


_parents: list[object] = []
"""Connections of the parent process, kept: taking them apart would take them off its event loop, which is shared."""


@dataclass(slots=True)
class _Progress:
    """How far a request came, for the error."""

    sent: bool = False


def _unreachable(request: Request, progress: _Progress, error: OSError | EOFError) -> Unreachable:
    """``fields``: ``kind`` (timeout, connect, reset), ``sent`` (the peer may have acted on it), ``origin``."""
    where = str(request.origin)
    if isinstance(error, TimeoutError):
        message, kind = f"{where} did not answer within {request.budget_s:.3g} s", "timeout"
    elif not progress.sent:
        message, kind = f"{where}: {_told(error)}", "connect"
    else:
        message, kind = f"{where} closed the connection", "reset"
    return Unreachable(message, kind=kind, sent=progress.sent, origin=where)


def _told(error: OSError | EOFError) -> str:
    """The reason without the addresses and source lines that the system's own texts carry."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if unverified := getattr(error, "verify_message", ""):
        return f"its certificate is not trusted: {unverified}"
    if getattr(error, "reason", "") == "WRONG_VERSION_NUMBER":
        return "it does not speak TLS"
    return str(error) or error.__class__.__name__
