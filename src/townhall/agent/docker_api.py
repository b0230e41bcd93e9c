"""Docker's Engine API as far as an agent needs it: what runs, what it is, what happens. Read only.

Calls name the version that the engine itself speaks, as its ping says: the fields read here have been the same since
1.24, calls without a version are to go, and new engines refuse old versions.
"""

from __future__ import annotations

import asyncio
import re
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
_EVENTS: Final = (
    "start", "die", "destroy", "pause", "unpause", "rename", "update", "health_status",
    "connect", "disconnect",
)  # fmt: skip
"""The last two are those of networks."""
_VERSION: Final = re.compile(r"\d{1,4}\.\d{1,4}")
_ADVICE: Final[dict[type[BaseException], str]] = {
    FileNotFoundError: "no such socket; does Docker run here, and is its socket mounted where this runs?",
    PermissionError: "this user may not use the socket; whoever is in its group may, and is root on this machine",
    ConnectionRefusedError: "the socket is there, but nothing listens; does Docker run?",
}
_BROKEN: Final = (OSError, EOFError, TimeoutError, PeerMisbehaved, msgspec.DecodeError)


class DockerApi:
    """One engine, at ``unix:///path`` or ``tcp://host:port``. Calls raise ``Unreachable`` when it does not answer."""

    def __init__(self, url: str = DOCKER_DEFAULT) -> None:
        """Raises InvalidField for a URL of another kind."""
        self.url = url
        parts = urlsplit(url)
        self._path = ""
        self._version = ""
        """As a prefix of paths; '' until the engine has told it, or where it does not."""
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
        filters = msgspec.json.encode({"type": ["container", "network"], "event": list(_EVENTS)}).decode()
        try:
            async with asyncio.timeout(limits.AGENT_DOCKER_TIMEOUT_MS / 1000):
                await self._learn_version()
                connection, head = await self._ask(f"{self._version}/events?filters={quote(filters, safe='')}")
        except _BROKEN as error:
            raise self._unreachable(error) from error
        try:
            if head.status != 200:
                raise self._unreachable(_refused(head, b""))
            yield self._happened(connection, head)
        finally:
            connection.close()

    async def _learn_version(self) -> None:
        """What the engine speaks; after a break it may be another one."""
        head, body = await self._fetch("/_ping")
        if head.status != 200:
            raise _refused(head, body)
        told = head.headers.get("api-version", "")
        self._version = f"/v{told}" if _VERSION.fullmatch(told) else ""

    async def _happened(self, connection: Connection, head: Head) -> AsyncIterator[str]:
        rest = b""
        try:
            async for piece in connection.read_pieces(head, "GET"):
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > limits.AGENT_DOCKER_EVENT_SIZE_MAX:
                    raise PeerMisbehaved("an event of Docker's is too large")
                for line in lines:
                    if line.strip():
                        yield _container_of(msgspec.json.decode(line))
        except (*_BROKEN, AttributeError) as error:
            raise self._unreachable(error) from error

    async def _get(self, target: str) -> Any:
        """The answer's JSON; None for 404."""
        try:
            async with asyncio.timeout(limits.AGENT_DOCKER_TIMEOUT_MS / 1000):
                head, body = await self._fetch(self._version + target)
            if head.status == 404:
                return None
            if head.status != 200:
                raise _refused(head, body)
            return msgspec.json.decode(body)
        except _BROKEN as error:
            raise self._unreachable(error) from error

    async def _fetch(self, target: str) -> tuple[Head, bytes]:
        connection, head = await self._ask(target)
        try:
            return head, await connection.read_body(head, "GET", size_max=limits.AGENT_DOCKER_ANSWER_SIZE_MAX)
        finally:
            connection.close()

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
        text = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), str(error) or "no answer")
        return Unreachable(f"Docker at {self.url}: {text}", kind="connect", sent=False)


def _container_of(event: dict[str, Any]) -> str:
    """The container that an event is about; of a network's, the one that it names."""
    actor = event.get("Actor") or {}
    if event.get("Type") == "network":
        return str((actor.get("Attributes") or {}).get("container", ""))
    return str(actor.get("ID", ""))


def _refused(head: Head, body: bytes) -> PeerMisbehaved:
    return PeerMisbehaved(f"status {head.status}: {body[:200].decode('utf-8', 'replace').strip()}")
