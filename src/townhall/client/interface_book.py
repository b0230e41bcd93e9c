"""What a process knows of the interfaces of others: one document for each revision, fetched once and kept.

A document comes from the disk, from the registry, or from any instance of that revision, and is believed only when its
hash is the revision. Until it is there the book goes on trying, with backoff and without end, for as long as an instance
of that revision is present. Nothing else waits for it: an instance whose document cannot be had may be called as before
(what takes providers away in Dubbo: apache/dubbo#9930, #14721, apache/dubbo-go#3615).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from townhall.client.backoff import Backoff
from townhall.client.connection import Origin
from townhall.client.http import HttpClient, Request
from townhall.client.interface_store import InterfaceStore
from townhall.client.interfaces import Interfaces, revision_of
from townhall.client.records import Instance
from townhall.client.well_known import PORT_NAME, WELL_KNOWN_PATH
from townhall.model import limits
from townhall.model.errors import NotFound, TownhallError

__all__ = ["Cache", "InterfaceBook", "fetch_from"]

_log = logging.getLogger("townhall.client")
_HOLDER_BUDGET_S = 3.0
_ROUNDS_UNTOLD = 3
"""Failures before the log says so: documents are often a moment later than the registration."""

Holders = Callable[[], Sequence[Instance]]


class Cache(Protocol):
    """Where documents outlive the process. Both methods do disk I/O: call them in a thread."""

    def load(self, revision: str) -> Interfaces | None:
        """The document, checked; None when there is none that can be used."""
        ...

    def save(self, interfaces: Interfaces) -> None:
        """Keep it. Raises OSError."""
        ...


class InterfaceBook:
    """Belongs to a mirror and its event loop; ``close`` it with the mirror. ``store`` None: there is no registry."""

    def __init__(self, store: InterfaceStore | None, http: HttpClient, cache: Cache | None = None) -> None:
        self._store = store
        self._http = http
        self._cache = cache
        self._known: dict[str, Interfaces] = {}
        """By revision, the one used last at the end."""
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._holders: dict[str, list[Holders]] = {}
        """For each revision that is being fetched, who can tell which instances have it."""
        self._listeners: list[Callable[[Interfaces], None]] = []
        self._at_once = asyncio.Semaphore(limits.CLIENT_INTERFACES_FETCHES_MAX)

    def get(self, revision: str) -> Interfaces | None:
        """The document, from memory; None while it is not known."""
        found = self._known.pop(revision, None)
        if found is not None:
            self._known[revision] = found
        return found

    def listen(self, listener: Callable[[Interfaces], None]) -> Callable[[], None]:
        """Be called in the event loop with each document that becomes known; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def want(self, revisions: Iterable[str], holders: Holders) -> None:
        """Begin to fetch those that are not known. ``holders`` tells the present instances; without any it ends."""
        for revision in revisions:
            if revision in self._known:
                continue
            known = self._holders.get(revision)
            if known is not None:
                if holders not in known:
                    known.append(holders)
            elif len(self._fetching) < limits.CLIENT_INTERFACES_KEPT_MAX:
                self._holders[revision] = [holders]
                fetching = self._fetch(revision)
                task = asyncio.get_running_loop().create_task(fetching, name="townhall-interfaces")
                self._fetching[revision] = task
                task.add_done_callback(lambda task, revision=revision: self._ended(revision, task))  # type: ignore[misc]

    async def wait(self, revisions: Iterable[str], *, budget_s: float) -> None:
        """Returns when those that were wanted are known, or after the budget."""
        tasks = [task for revision in revisions if (task := self._fetching.get(revision)) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=budget_s)

    def close(self) -> None:
        """End all fetches. Idempotent."""
        for task in self._fetching.values():
            task.cancel()

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _fetch(self, revision: str) -> None:
        backoff = Backoff(ceiling_ms=limits.CLIENT_BACKOFF_MAX_MS)
        found = await self._from_disk(revision)
        failures = 0
        while found is None:
            holders = [one for source in self._holders[revision] for one in source() if _has(one, revision)]
            if not holders:
                return
            try:
                async with self._at_once:
                    found = await fetch_from(self._store, self._http, revision, holders)
            except TownhallError as error:
                failures += 1
                if failures == _ROUNDS_UNTOLD:
                    _log.warning(
                        "the interfaces %s of %s cannot be had yet, it is called all the same: %s",
                        revision, holders[0].service, error,
                    )  # fmt: skip
                await asyncio.sleep(backoff.next_s())
            else:
                await self._to_disk(found)
        self._learn(found)

    def _learn(self, found: Interfaces) -> None:
        self._known[found.revision] = found
        while len(self._known) > limits.CLIENT_INTERFACES_KEPT_MAX:
            del self._known[next(iter(self._known))]
        for listener in tuple(self._listeners):
            listener(found)

    def _ended(self, revision: str, task: asyncio.Task[None]) -> None:
        del self._fetching[revision]
        del self._holders[revision]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("fetching interfaces failed; they are wanted again after the next change", exc_info=error)

    async def _from_disk(self, revision: str) -> Interfaces | None:
        return None if self._cache is None else await asyncio.to_thread(self._cache.load, revision)

    async def _to_disk(self, found: Interfaces) -> None:
        if self._cache is None:
            return
        try:
            await asyncio.to_thread(self._cache.save, found)
        except OSError as error:
            _log.debug("interfaces are not kept on disk: %s", error)


async def fetch_from(
    store: InterfaceStore | None, http: HttpClient, revision: str, holders: Sequence[Instance]
) -> Interfaces:
    """One round: the registry, then a few of the instances that have the revision and serve it.

    Raises what the last of them failed with.
    """
    failed: TownhallError = NotFound("neither the registry nor an instance has the document")
    if store is not None:
        try:
            return await store.fetch(revision)
        except TownhallError as error:
            failed = error
    serving = [one for one in holders if PORT_NAME in one.ports]
    # Anybody's turn, so that one that lies or hangs is not asked first for ever; those that may be called before others.
    random.shuffle(serving)
    serving.sort(key=lambda one: not one.callable)
    for one in serving[: limits.CLIENT_INTERFACES_HOLDERS_MAX]:
        try:
            return await _from_instance(http, one, revision)
        except TownhallError as error:
            failed = error
    raise failed


async def _from_instance(http: HttpClient, instance: Instance, revision: str) -> Interfaces:
    origin = Origin("http", instance.address, instance.ports[PORT_NAME])
    target = f"{WELL_KNOWN_PATH}/{revision}"
    size_max = limits.CLIENT_INTERFACES_SIZE_MAX
    response = await http.request(Request(origin, "GET", target, budget_s=_HOLDER_BUDGET_S, size_max=size_max))
    if response.status != 200:
        raise NotFound(f"{instance.id} answers {response.status} for its interfaces")
    return Interfaces.read(response.body, revision)


def _has(instance: Instance, revision: str) -> bool:
    return revision_of(instance.metadata) == revision
