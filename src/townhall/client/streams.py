"""The two open streams of the native API: a watch (events in) and a session (lines both ways)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from townhall.client import problems
from townhall.client.http import HttpStream
from townhall.client.records import Instance, JsonObject
from townhall.client.sse import Event, EventReader
from townhall.client.transport import decode
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, ServiceKey

__all__ = ["EventStream", "SessionLine", "SessionStream", "WatchEvent", "WatchStream"]

_SILENCE_S = limits.CLIENT_STREAM_SILENCE_MS / 1000


class WatchEvent(msgspec.Struct, kw_only=True):
    """One event of a watch. Which fields are set depends on ``kind``.

    ``snapshot``: the service whole (``instances``). ``delta``: ``changed`` in their present form and ``removed`` ids.
    ``compacted``: a snapshot of the service follows. ``ready``: all first pictures are there; ``subscriber`` is our id.
    ``leaving``: the registry is shutting down.
    """

    kind: str = ""
    position: int = 0
    """Journal position to resume from; 0 when the event carries none."""
    service: str = ""
    namespace: str = DEFAULT_NAMESPACE
    group: str = DEFAULT_GROUP
    revision: int = 0
    instances: tuple[Instance, ...] = ()
    changed: tuple[Instance, ...] = ()
    removed: tuple[str, ...] = ()
    ack: bool = False
    """Something drains: the registry wants to know when this has been applied."""
    subscriber: str = ""
    history: str = ""
    """Names the journal when the registry tells it; positions of different journals do not compare."""

    @property
    def key(self) -> ServiceKey:
        """The service it is about."""
        return ServiceKey(self.namespace, self.group, self.service)


class EventStream:
    """Server-sent events with their JSON decoded to plain values. Close it, or use it as an async context manager."""

    def __init__(self, stream: HttpStream, *, silence_s: float = _SILENCE_S) -> None:
        self._stream = stream
        self._reader = EventReader()
        self._silence_s = silence_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; a reader gets ``Unreachable``. Idempotent."""
        self._stream.close()

    async def events(self) -> AsyncIterator[Event]:
        """Raw events until the registry ends the stream properly. Raises ``Unreachable`` or ``PeerMisbehaved``."""
        async for piece in self._stream.pieces(silence_s=self._silence_s):
            for event in self._reader.feed(piece):
                yield event

    async def objects(self) -> AsyncIterator[tuple[str, JsonObject]]:
        """(event name, its JSON object). Raises as ``events`` does."""
        async for event in self.events():
            yield event.name, decode(event.data, dict[str, Any])


class WatchStream(EventStream):
    """A watch of services: iterate over it."""

    async def __aiter__(self) -> AsyncIterator[WatchEvent]:
        async for raw in self.events():
            event = decode(raw.data, WatchEvent)
            event.kind = raw.name
            if raw.id:
                if not (raw.id.isascii() and raw.id.isdigit()):
                    raise PeerMisbehaved(f"not a position: {raw.id[:40]!r}")
                event.position = int(raw.id)
            yield event


class SessionLine(msgspec.Struct, kw_only=True):
    """One line from the registry; exactly one of the first six is set."""

    welcome: JsonObject | None = None
    renewed: int | None = None
    drain: JsonObject | None = None
    forgotten: tuple[str, ...] | None = None
    leaving: bool = False
    error: JsonObject | None = None
    """Why the registry ends the session; iterating raises it."""
    unknown: tuple[str, ...] = ()
    """With ``renewed``: leases that have ended."""


class SessionStream:
    """Lines out, lines in, over one request. When it breaks, the registry marks its leases' instances SUSPECT."""

    def __init__(self, stream: HttpStream) -> None:
        self._stream = stream
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break it without a goodbye; idempotent."""
        self._stream.close()

    async def renew(self, leases: Sequence[str] | None = None, *, budget_s: float) -> None:
        """Renew these leases, or all that the session carries. The answer comes as a line. Raises ``Unreachable``."""
        await self._send({"renew": True if leases is None else list(leases)}, budget_s)

    async def attach(self, leases: Sequence[str], *, budget_s: float) -> None:
        """Tie further leases to this connection. Raises ``Unreachable``."""
        await self._send({"attach": list(leases)}, budget_s)

    async def bye(self, *, budget_s: float) -> None:
        """End properly: the leases live on until their deadlines. Raises ``Unreachable``."""
        await self._send({"bye": True}, budget_s)
        await self._stream.send_end(budget_s=budget_s)

    async def __aiter__(self) -> AsyncIterator[SessionLine]:
        """Lines until the registry ends the stream properly; empty ones are heartbeats.

        Raises ``Unreachable``, ``PeerMisbehaved``, or what the registry ends the session with.
        """
        buffer = b""
        async for piece in self._stream.pieces(silence_s=_SILENCE_S):
            *lines, buffer = (buffer + piece).split(b"\n")
            for text in lines:
                if text.strip():
                    line = decode(text, SessionLine)
                    if line.error is not None:
                        raise problems.from_problem(line.error)
                    yield line
            if len(buffer) > limits.SESSION_LINE_SIZE_MAX:
                raise PeerMisbehaved(f"a line of a session is longer than {limits.SESSION_LINE_SIZE_MAX} bytes")

    async def _send(self, line: JsonObject, budget_s: float) -> None:
        # One writer at a time: asyncio allows one task only to wait for a full socket.
        async with self._sending:
            await self._stream.send(msgspec.json.encode(line) + b"\n", budget_s=budget_s)
