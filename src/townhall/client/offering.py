"""A provider's interfaces, made known: kept in the registry, and served by the instance if it is asked to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from townhall.client.api import Registry
from townhall.client.definitions import Service
from townhall.client.interface_store import InterfaceStore, Publisher
from townhall.client.interfaces import Interfaces
from townhall.client.well_known import PORT_NAME
from townhall.client.well_known_listener import WellKnownListener

__all__ = ["Offering"]

_log = logging.getLogger("townhall.client")
_FIRST_BUDGET_S = 2.0
"""For the first try before we register; a registry that is slow with keys must not hold up the service."""


class Offering:
    """Of one provider. Nothing in here makes its start fail: who misses a document calls it all the same."""

    def __init__(self, registry: Registry, services: Sequence[Service], port: int | None) -> None:
        """``port``: where the program serves the documents; 0 for a listener of ours, None for nowhere."""
        self._services = tuple(services)
        self._port = port
        documents = {one.interfaces for one in services if one.interfaces is not None}
        self._documents: tuple[Interfaces, ...] = tuple(documents)
        self._publisher = Publisher(InterfaceStore(registry), documents)
        self._listener: WellKnownListener | None = None
        self._publishing: asyncio.Task[None] | None = None

    async def open(self, address: str) -> tuple[Service, ...]:
        """Before registering: listen, and store for a first time. Returns the services as they are to be registered."""
        if not self._documents:
            return self._services
        if self._port == 0:
            self._listener = WellKnownListener(self._documents)
            try:
                await self._listener.open(address)
            except OSError as error:
                _log.warning("our interfaces cannot be served at %s, the registry alone has them: %s", address, error)
        try:
            async with asyncio.timeout(_FIRST_BUDGET_S):
                await self._publisher.once()
        except TimeoutError:
            _log.debug("the interfaces are not stored yet")
        port = self._listener.port if self._listener is not None else self._port
        if not port:
            return self._services
        return tuple(
            one if one.interfaces is None else replace(one, ports={**one.ports, PORT_NAME: port})
            for one in self._services
        )

    def begin(self) -> None:
        """Keep the documents in the registry, until ``close``."""
        if self._documents:
            loop = asyncio.get_running_loop()
            self._publishing = loop.create_task(self._publisher.run(), name="townhall-interfaces")

    def wake(self) -> None:
        """The registry had forgotten us: store them again."""
        self._publisher.wake()

    async def close(self) -> None:
        """Serve and renew no more. What is stored stays until its lease ends: others may provide it too. Idempotent."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait({self._publishing})
        if self._listener is not None:
            await self._listener.close()
