"""Services whose instances come from somewhere else than the registry: a list of addresses, or a name in DNS.

For debugging (``TOWNHALL_SOURCES='user=static://127.0.0.1:8001'`` points one service of an unchanged program at one
process) and for places without a registry. To a handle, a ``SourceMirror`` is what the mirror of a registry is.

==========================================  =============================================================================
``static://127.0.0.1:8001,[::1]:8002``       these, for ever
``dns://users.internal:8080``                the addresses (A, AAAA) of the name, looked up again every
                                             ``CLIENT_DNS_INTERVAL_MS``; while that fails, the last ones, stale
==========================================  =============================================================================
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from townhall.client.http import HttpClient
from townhall.client.interface_book import InterfaceBook
from townhall.client.picture import Change, Picture, picture_of
from townhall.client.records import Instance
from townhall.model import limits
from townhall.model.errors import InvalidField, NoInstance
from townhall.model.instance import ServiceKey

__all__ = ["Dns", "SourceMirror", "Static", "parse_source", "parse_sources"]

_log = logging.getLogger("townhall.client")


@dataclass(frozen=True, slots=True)
class Static:
    """A list of (host, port)."""

    addresses: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Dns:
    """A host name and the port that all its addresses have."""

    host: str
    port: int


def parse_source(text: str) -> Static | Dns:
    """A source from its URL. Raises ``InvalidField`` with what is wrong."""
    scheme, _, rest = text.partition("://")
    if scheme == "static":
        return Static(tuple(_endpoint(one.strip(), text) for one in rest.split(",")))
    if scheme == "dns":
        return Dns(*_endpoint(rest, text))
    raise InvalidField("source", f"{text!r} begins with neither static:// nor dns://")


def parse_sources(text: str) -> Mapping[str, str]:
    """``user=static://…;order=dns://…`` as service → source. Raises ``InvalidField``."""
    found = {}
    for row in filter(None, (part.strip() for part in text.split(";"))):
        name, sign, source = row.partition("=")
        if not sign or not name:
            raise InvalidField("sources", f"{row!r} is not NAME=SOURCE")
        parse_source(source)
        found[name.strip()] = source
    return found


def _endpoint(text: str, whole: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.path or parts.query:
        raise InvalidField("source", f"{whole!r} needs host:port, not {text!r}")
    return host, port


class SourceMirror:
    """One service from one source: pictures, changes and age as ``mirror.Mirror`` gives them. ``release`` ends it."""

    def __init__(self, key: ServiceKey, source: Static | Dns) -> None:
        self.http = HttpClient(instances=True)
        self.interfaces = InterfaceBook(None, self.http)
        """Empty: an address alone names no revision."""
        self._key = key
        self._source = source
        self._picture: Picture | None = None
        self._listeners: list[Callable[[Change], None]] = []
        self._known_at: float | None = None
        """When the last look-up failed first, monotonic; None while what is known is current."""
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def mirror(self) -> SourceMirror:
        """Itself: it has one service, so nothing is shared."""
        return self

    @property
    def reports(self) -> SourceMirror:
        """Itself: there is no registry to tell of failures."""
        return self

    def add(self, instance: Instance, kind: str) -> None:
        """Take no note of a failed call; the handle leaves the instance out by itself."""

    def picture(self, key: ServiceKey) -> Picture | None:
        """What is known; None before ``ready``."""
        return self._picture

    def age_s(self, key: ServiceKey) -> float:
        """Seconds since the last good look-up, while look-ups fail; else 0."""
        return 0.0 if self._known_at is None else time.monotonic() - self._known_at

    def listen(
        self, key: ServiceKey, listener: Callable[[Change], None], caller: Callable[[], Collection[str]] = tuple
    ) -> Callable[[], None]:
        """Be called with each change; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def follow(self, key: ServiceKey) -> None:
        """Nothing to do until ``ready``."""

    def unfollow(self, key: ServiceKey) -> None:
        """End the look-ups."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None

    async def ready(self, key: ServiceKey, *, budget_s: float) -> None:
        """Returns when there is a picture. Raises ``NoInstance`` when the name cannot be looked up in time."""
        if self._picture is not None:
            return
        try:
            async with asyncio.timeout(budget_s):
                addresses = await self._resolve()
        except (OSError, TimeoutError) as error:
            raise NoInstance(
                f"{self._key.name} cannot be looked up: {error or 'no answer in time'}",
                advice="check the name and the resolver",
                service=str(self._key),
                why="registry_unreachable",
            ) from error
        self._learn(addresses)
        if isinstance(self._source, Dns):
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="townhall-source")

    async def release(self) -> None:
        """End everything."""
        refreshing = self._refreshing
        self.unfollow(self._key)
        if refreshing is not None and refreshing.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({refreshing})
        self.http.close()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(limits.CLIENT_DNS_INTERVAL_MS / 1000)
            try:
                addresses = await self._resolve()
            except OSError as error:
                if self._known_at is None:
                    self._known_at = time.monotonic()
                    _log.warning("%s: %s; the last addresses are used", self._key.name, error)
            else:
                self._known_at = None
                self._learn(addresses)

    async def _resolve(self) -> tuple[tuple[str, int], ...]:
        source = self._source
        if isinstance(source, Static):
            return source.addresses
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(source.host, source.port, type=socket.SOCK_STREAM)
        return tuple(sorted({(str(peer[0]), source.port) for *_, peer in found}))

    def _learn(self, addresses: tuple[tuple[str, int], ...]) -> None:
        before = self._picture
        revision = before.revision + 1 if before is not None else 1
        known = before.by_id if before is not None else {}
        fresh = {f"{host}:{port}": (host, port) for host, port in addresses}
        if before is not None and list(known) == list(fresh):
            return
        instances = [
            known.get(id_)
            or Instance(
                id=id_,
                service=self._key.name,
                namespace=self._key.namespace,
                group=self._key.group,
                address=host,
                port=port,
                ephemeral=False,
                protocol="source",
                revision=revision,
            )
            for id_, (host, port) in fresh.items()
        ]
        self._picture = picture = picture_of(self._key, revision, instances)
        changed = tuple(one for one in instances if one.id not in known)
        change = Change(picture, changed, tuple(one for one in known if one not in fresh))
        for listener in tuple(self._listeners):
            listener(change)
