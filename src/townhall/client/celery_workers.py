"""Celery workers, found: one registration for each worker, by its main process, whatever its pool.

Nobody calls a worker by its address: it takes tasks from its broker. The registry shows that it is there, and how it ends.
The order of a warm shutdown (SIGTERM): the signal tells the registry that we drain, Celery takes no more tasks, and waits
for those that run, however long that takes, while we stay registered as draining; then we deregister.

Celery sends its signals where we need them: ``worker_ready``, ``worker_shutting_down`` and ``worker_shutdown`` in the main
process alone. The children of prefork are forks without the SDK's thread (``loop_thread``), so they send no heartbeats.
Tasks are counted where Celery counts them itself, in ``celery.worker.state``, which all pools keep in the main process.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Unpack

from celery import bootsteps, signals
from celery.concurrency import ALIASES
from celery.worker import state

from townhall.client.api import DEFAULT_URL
from townhall.client.loop_thread import LoopThread, shared_thread
from townhall.client.provider import Provider, ProviderOptions
from townhall.model.errors import TownhallError

__all__ = ["Registration", "register"]

_log = logging.getLogger("townhall.client")
_GREEN_POOLS = ("eventlet", "gevent")
_LEAVE_S = 10.0
"""For our part of a worker's end, when the registry does not answer."""


def register(app: Any, urls: str | Sequence[str] = DEFAULT_URL, **options: Unpack[ProviderOptions]) -> Registration:
    """Have the workers of an application registered while they run. Call it where the application is made.

    Takes what ``Provider`` takes. ``id`` is the worker's node name (``celery@host``) unless it is given, and
    ``start_without_registry`` is on. A worker that cannot be registered says so in its log and works on.
    """
    registration = Registration(app, urls, **options)
    signals.worker_ready.connect(registration.ready)
    signals.worker_shutting_down.connect(registration.shutting_down)
    signals.worker_shutdown.connect(registration.shutdown)

    class Leaving(bootsteps.StartStopStep):  # type: ignore[misc]
        """A shutdown that no signal asked for (``celery control shutdown``) closes its steps before it waits for tasks."""

        def close(self, worker: Any) -> None:
            registration.shutting_down()

    app.steps["worker"].add(Leaving)
    return registration


class Registration:
    """The parts of ``register``: receivers of Celery's signals."""

    def __init__(self, app: Any, urls: str | Sequence[str] = DEFAULT_URL, **options: Unpack[ProviderOptions]) -> None:
        self._app = app
        self._urls = urls
        self._options = options
        self._pid = 0
        self._ended = False
        self._draining: Future[bool] | None = None
        self._thread: LoopThread | None = None
        self.provider: Provider | None = None
        """In the worker's main process, while it runs."""

    @property
    def running(self) -> int:
        """Tasks that run in this worker now."""
        return 0 if self._ended else len(state.active_requests)

    def ready(self, sender: Any, **_: Any) -> None:
        """``worker_ready``: its consumer takes tasks."""
        if sender.app is not self._app:
            return
        pool = _pool_name(sender.pool)
        if pool in _GREEN_POOLS:
            _log.error("not registered: the pool %s has no threads of its own, which the SDK needs", pool)
            return
        provider = Provider(self._urls, **self._described(sender, pool))
        try:
            self._thread = shared_thread()
            self._thread.run(provider.start())
        except TownhallError as error:
            _log.error("this worker works unregistered: %s", error)
            return
        self._pid = os.getpid()
        self._ended = False
        self.provider = provider

    def shutting_down(self, **_: Any) -> None:
        """``worker_shutting_down``, in a signal handler of the main process: nothing here may wait. Idempotent."""
        if self._ours and self._draining is None:
            assert self.provider is not None
            assert self._thread is not None
            self._draining = asyncio.run_coroutine_threadsafe(self.provider.drain(), self._thread.loop)
            self._draining.add_done_callback(_tell_failure)

    def shutdown(self, **_: Any) -> None:
        """``worker_shutdown``: all tasks have ended. Deregisters. Idempotent."""
        if not self._ours:
            return
        assert self.provider is not None
        assert self._thread is not None
        self._ended = True
        provider, self.provider = self.provider, None
        draining, self._draining = self._draining, None

        async def leave() -> None:
            if draining is not None and not draining.done():
                # It waits for subscribers, who read our end as well as our drain.
                draining.cancel()
            async with asyncio.timeout(_LEAVE_S):
                await provider.stop()

        try:
            self._thread.run(leave())
        except TimeoutError:
            _log.warning("could not leave in time, the lease will end it")

    @property
    def _ours(self) -> bool:
        return self.provider is not None and self._pid == os.getpid()

    def _described(self, consumer: Any, pool: str) -> ProviderOptions:
        """The options, with what Celery knows of the worker."""
        options: ProviderOptions = {"start_without_registry": True, **self._options, "jobs": lambda: self.running}
        if options.get("services"):
            return options
        worker = {"pool": pool, "concurrency": str(consumer.pool.num_processes)}
        own: ProviderOptions = {
            "id": options.get("id") or consumer.hostname,
            "metadata": {**worker, **options.get("metadata", {})},
        }
        return {**options, **own}


def _pool_name(pool: Any) -> str:
    """As ``celery worker --pool`` takes it: ``prefork``, ``solo``, ``threads``; the path of any other class."""
    path = f"{type(pool).__module__}:{type(pool).__qualname__}"
    return next((name for name, known in ALIASES.items() if known == path), path)


def _tell_failure(draining: Future[bool]) -> None:
    if not draining.cancelled() and (error := draining.exception()) is not None:
        _log.warning("could not tell the registry that this worker drains: %s", error)
