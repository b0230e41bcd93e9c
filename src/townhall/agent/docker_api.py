"""Docker's Engine API as far as an agent needs it: what runs, what it is, what happens. Read only.

Paths carry no version: the engine then answers with its present one, and the fields read here have been the same since
1.24. Written after the API reference of 1.43; tested against recorded answers, not against an engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from townhall.client.connection import Connection, Head, Origin, request_head
from townhall.model import limits
from townhall.model.errors import InvalidField, PeerMisbehaved, Unreachable

__all__ = ["DOCKER_DEFAULT", "DockerApi"]

DOCKER_DEFAULT: Final = "unix:///var/run/docker.sock"
_EVENTS: Final = ("start", "die", "destroy", "pause", "unpause", "rename", "update", "health_status")
_BROKEN: Final = (OSError, EOFError, TimeoutError, PeerMisbehaved, msgspec.DecodeError)


class DockerApi:
    """One engine, at ``unix:///path`` or ``tcp://host:port``. Calls raise ``Unreachable`` when it does not answer."""

    def __init__(self, url: str = DOCKER_DEFAULT) -> None:
        """Raises InvalidField for a URL of another kind."""
        self.url = url
        parts = urlsplit(url)
        self._path = ""
        self._origin = Origin("http", "docker", 80)
        try:
            port = parts.port
        except ValueError as error:
            raise InvalidField("docker", f"{url!r}: {error}") from error
        if parts.scheme == "unix" and parts.path:
            self._path = parts.path
        elif parts.scheme in ("tcp", "http") and parts.hostname:
            self._origin = Origin("http", parts.hostname, port or 2375)
        else:
            raise InvalidField("docker", f"{url!r} must be unix:///path or tcp://host:port")

    async def running(self) -> list[str]:
        """The ids of the containers that run (or are paused)."""
        found = await self._get("/containers/json")
        if not isinstance(found, list):
            raise Unreachable("Docker's list of containers is none", kind="malformed", sent=True)
        return [str(one["Id"]) for one in found if isinstance(one, dict) and "Id" in one]

    async def inspect(self, container: str) -> dict[str, Any] | None:
        """Everything about one; None when it has gone."""
        found = await self._get(f"/containers/{quote(container, safe='')}/json")
        return found if isinstance(found, dict) else None

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[str]]:
        """The ids of containers to which something has happened, from the moment of entering, until the engine ends it."""
        filters = quote(msgspec.json.encode({"type": ["container"], "event": list(_EVENTS)}).decode(), safe="")
        try:
            async with asyncio.timeout(limits.CLIENT_TIMEOUT_MS / 1000):
                connection, head = await self._ask(f"/events?filters={filters}")
        except _BROKEN as error:
            raise self._unreachable(error) from error
        try:
            _check(head, b"")
            yield self._happened(connection, head)
        finally:
            connection.close()

    async def _happened(self, connection: Connection, head: Head) -> AsyncIterator[str]:
        rest = b""
        try:
            async for piece in connection.read_pieces(head, "GET"):
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > limits.AGENT_DOCKER_EVENT_SIZE_MAX:
                    raise PeerMisbehaved("an event of Docker's is too large")
                for line in lines:
                    if line.strip():
                        actor = msgspec.json.decode(line).get("Actor") or {}
                        yield str(actor.get("ID", ""))
        except (*_BROKEN, AttributeError) as error:
            raise self._unreachable(error) from error

    async def _get(self, target: str) -> Any:
        """The answer's JSON; None for 404."""
        try:
            async with asyncio.timeout(limits.CLIENT_TIMEOUT_MS / 1000):
                connection, head = await self._ask(target)
                try:
                    body = await connection.read_body(head, "GET", size_max=limits.AGENT_DOCKER_ANSWER_SIZE_MAX)
                finally:
                    connection.close()
            if head.status == 404:
                return None
            _check(head, body)
            return msgspec.json.decode(body)
        except _BROKEN as error:
            raise self._unreachable(error) from error

    async def _ask(self, target: str) -> tuple[Connection, Head]:
        if self._path:
            reader, writer = await asyncio.open_unix_connection(self._path, limit=limits.HEADER_SIZE_MAX)
            connection = Connection(self._origin, reader, writer)
        else:
            connection = await Connection.open(self._origin, None)
        try:
            await connection.send(request_head(self._origin, "GET", target, {"connection": "close"}))
            return connection, await connection.read_head()
        except BaseException:
            connection.close()
            raise

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"Docker at {self.url}: {error or 'no answer'}", kind="connect", sent=False)


def _check(head: Head, body: bytes) -> None:
    if head.status != 200:
        raise PeerMisbehaved(f"status {head.status}: {body[:200].decode('utf-8', 'replace').strip()}")
