"""Containers as a source of an agent: events tell that something happened, looking tells what there is.

The stream of events is opened before the list is read, so nothing falls between. Events of a moment are gathered, and
each container they name is inspected again; the whole list is read again after every break and once a minute. While
the engine is away everything stays registered: containers can outlive it, and checks find out those that did not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from townhall.agent import Notice, Tell
from townhall.agent.definitions import Definition
from townhall.agent.docker_api import DockerApi
from townhall.agent.docker_container import neighbour_of, runs
from townhall.agent.docker_definitions import Containers
from townhall.client.backoff import Backoff
from townhall.model import limits
from townhall.model.errors import InvalidField, Unreachable

__all__ = ["Docker"]

_GATHER_S: Final = 0.1


class Docker:
    """Follows one engine; ``apply`` is handed all definitions whenever they may have changed."""

    def __init__(
        self, api: DockerApi, containers: Containers, *, apply: Callable[[Mapping[str, Definition]], None], tell: Tell
    ) -> None:
        self._api = api
        self._containers = containers
        self._apply = apply
        self._tell = tell
        self._known: dict[str, dict[str, Definition]] = {}
        """By container; empty for one that is not to be registered, or cannot be."""
        self._complaints: dict[str, str] = {}
        self._dirty: set[str] = set()
        self._more = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        backoff = Backoff(ceiling_ms=limits.AGENT_BACKOFF_MAX_MS)
        away = False
        while True:
            try:
                async with self._api.events() as events:
                    await self._list()
                    if away:
                        self._tell(Notice("back", "Docker answers"))
                    away = False
                    backoff.reset()
                    await self._follow(events)
                raise Unreachable("the stream of events has ended", kind="reset", sent=True)
            except Unreachable as error:
                if not away:
                    self._tell(Notice("away", f"{error}; what is registered stays so", warning=True))
                away = True
            await asyncio.sleep(backoff.next_s())

    async def _follow(self, events: AsyncIterator[str]) -> None:
        """Until the stream ends or breaks."""
        loop = asyncio.get_running_loop()
        hearing = loop.create_task(self._hear(events))
        waiting = loop.create_task(self._more.wait())
        due = loop.time() + limits.AGENT_DOCKER_LIST_MS / 1000
        try:
            while not hearing.done():
                timeout_s = max(0.0, due - loop.time())
                await asyncio.wait({hearing, waiting}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    await asyncio.sleep(_GATHER_S)
                    self._more.clear()
                    waiting = loop.create_task(self._more.wait())
                    dirty, self._dirty = self._dirty, set()
                    for container in dirty:
                        await self._look(container)
                    self._tell_all()
                if loop.time() >= due:
                    await self._list()
                    due = loop.time() + limits.AGENT_DOCKER_LIST_MS / 1000
            hearing.result()
        finally:
            for task in (hearing, waiting):
                task.cancel()
            await asyncio.wait({hearing, waiting})

    async def _hear(self, events: AsyncIterator[str]) -> None:
        async for container in events:
            self._dirty.add(container)
            self._more.set()

    async def _list(self) -> None:
        running = await self._api.running()
        for gone in [container for container in self._known if container not in running]:
            self._forget(gone)
        for container in running:
            await self._look(container)
        self._tell_all()

    async def _look(self, container: str) -> None:
        inspected = await self._api.inspect(container)
        if inspected is None or not runs(inspected):
            self._forget(container)
            return
        beside = neighbour_of(inspected)
        neighbour = await self._api.inspect(beside) if beside else None
        try:
            self._known[container] = self._containers.definitions(inspected, neighbour)
            self._complaints.pop(container, None)
        except InvalidField as error:
            self._known[container] = {}
            if self._complaints.get(container) != str(error):
                self._complaints[container] = str(error)
                self._tell(Notice("broken", str(error), warning=True))

    def _forget(self, container: str) -> None:
        self._known.pop(container, None)
        self._complaints.pop(container, None)

    def _tell_all(self) -> None:
        self._apply({label: one for services in self._known.values() for label, one in services.items()})
