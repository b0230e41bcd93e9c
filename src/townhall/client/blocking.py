"""The SDK for programs without an event loop: the same classes, whose methods wait.

::

    with townhall.blocking.Provider("http://127.0.0.1:7500", service="user", port=8080):
        ...
    with townhall.blocking.Consumer("http://127.0.0.1:7500") as consumer:
        answer = consumer["user"].get("/users/1")

They are thin: everything runs in one background thread per process, and callbacks are called there. All of them may be
used by several threads at once. In a forked process ``Consumer`` and ``Registry`` begin anew by themselves, with a thread
of its own; a ``Provider`` stays the parent's. ``close()`` at the end of a program, or in a worker that goes on without
Townhall, ends that thread.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar, Unpack
from weakref import WeakSet

from townhall.client import consumer as asynchronous_consumer
from townhall.client import provider as asynchronous_provider
from townhall.client.access import Access
from townhall.client.api import DEFAULT_URL, Patch, RegistryOptions
from townhall.client.api import Registry as AsyncRegistry
from townhall.client.attempts import Attempts, begin_call, failure_kind
from townhall.client.consumer import ConsumerOptions
from townhall.client.handle import CallOptions, RequestOptions
from townhall.client.handle import ServiceHandle as AsyncServiceHandle
from townhall.client.http import Response
from townhall.client.interfaces import Interfaces
from townhall.client.keys import KeySpace
from townhall.client.leases import Leases
from townhall.client.locks import Locks
from townhall.client.loop_thread import LoopThread, shared_thread
from townhall.client.metrics import Family
from townhall.client.mirror import MirrorState
from townhall.client.opened import Opened
from townhall.client.picture import Change, Picture
from townhall.client.provider import ProviderOptions
from townhall.client.records import Instance, Registered
from townhall.client.streams import EventStream
from townhall.model.instance import ServiceKey

__all__ = ["Consumer", "Provider", "Registry", "ServiceHandle", "close"]

T = TypeVar("T")

_PARTS = (KeySpace, Leases, Locks, Access, EventStream)


def close() -> None:
    """End the background thread; what still uses it stops working. The next use begins a new one."""
    thread = shared_thread()
    for registry in tuple(_registries):
        thread.run(_in_loop(registry._registry.transport.http.drop))
    thread.stop()


class Provider:
    """``provider.Provider``, waiting.

    With ``handle_signals`` (main thread only) the first SIGTERM or SIGINT stops it and is then delivered again to whoever handled it before.
    """

    def __init__(
        self,
        urls: str | Sequence[str] = DEFAULT_URL,
        **options: Unpack[ProviderOptions],
    ) -> None:
        self._handle_signals = options.pop("handle_signals", False)
        self._provider = asynchronous_provider.Provider(urls, **options)
        self._thread: LoopThread | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def instances(self) -> tuple[Registered, ...]:
        """The registry's last answer for each of our services that is registered."""
        return self._provider.instances

    @property
    def away(self) -> bool:
        """Whether the registry is out of reach at the moment."""
        return self._provider.away

    @property
    def running(self) -> int:
        """Requests and jobs that a stop would wait for."""
        return self._provider.running

    def start(self) -> None:
        """Register. Raises as the asynchronous one does."""
        self._thread = shared_thread()
        self._thread.run(self._provider.start())
        if self._handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._received)

    def stop(self) -> None:
        """Drain if so configured, deregister, ``on_stop``, wait for running requests. Idempotent."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()
        if self._thread is not None and self._thread.usable:
            self._thread.run(self._provider.stop())

    def metrics(self) -> tuple[Family, ...]:
        """What was done so far; see ``client.metrics``."""
        return self._provider.metrics()

    def drain(self, *, deadline: float | None = None) -> bool:
        """No more new calls; True when every subscriber knew before the deadline (seconds)."""
        return self._running().run(self._provider.drain(deadline=deadline))

    def update(self, service: str = "", **changes: Unpack[Patch]) -> None:
        """Change weight, metadata, tags, zone or readiness."""
        self._running().run(self._provider.update(service, **changes))

    def track(self) -> _Tracker:
        """A context manager around one request, in any thread."""
        return _Tracker(self)

    def _running(self) -> LoopThread:
        return self._thread or shared_thread()

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.stop()
        signal.raise_signal(number)

    def _count(self, step: Callable[[], None]) -> None:
        if self._thread is not None and self._thread.usable:
            self._thread.loop.call_soon_threadsafe(step)


class _Tracker:
    """One request: the count is kept in the loop's thread."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._inner = provider._provider.track()

    def __enter__(self) -> None:
        self._provider._count(self._inner.__enter__)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._provider._count(lambda: self._inner.__exit__(None, None, None))


class Consumer:
    """``consumer.Consumer``, waiting."""

    def __init__(self, urls: str | Sequence[str] = DEFAULT_URL, **options: Unpack[ConsumerOptions]) -> None:
        self._consumer = asynchronous_consumer.Consumer(urls, **options)
        self._handles: dict[ServiceKey, ServiceHandle] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getitem__(self, name: str | ServiceKey) -> ServiceHandle:
        """The handle of a service."""
        inner = self._consumer[name]
        return self._handles.get(inner.key) or self._handles.setdefault(inner.key, ServiceHandle(inner))

    @property
    def state(self) -> MirrorState:
        """CONNECTED, SUSPENDED or LOST."""
        return self._consumer.state

    def start(self, *names: str | ServiceKey) -> None:
        """Start several handles at once. Raises what the first that fails raises."""
        shared_thread().run(self._consumer.start(*names))

    def on_state(self, callback: Callable[[MirrorState], object]) -> Callable[[], None]:
        """Be called in the background thread at each change of state; returns what ends it."""
        return shared_thread().run(_in_loop(lambda: self._consumer.on_state(callback)))

    def metrics(self) -> tuple[Family, ...]:
        """What was done so far; see ``client.metrics``."""
        return self._consumer.metrics()

    def close(self) -> None:
        """Stop watching. Idempotent."""
        shared_thread().run(self._consumer.close())


class ServiceHandle:
    """``handle.ServiceHandle``, waiting."""

    def __init__(self, handle: AsyncServiceHandle) -> None:
        self._handle = handle

    @property
    def key(self) -> ServiceKey:
        """Which service."""
        return self._handle.key

    @property
    def picture(self) -> Picture | None:
        """What is known of the service; None before the start."""
        return self._handle.picture

    @property
    def revision(self) -> int:
        """The service's revision that is known; 0 for none."""
        return self._handle.revision

    @property
    def age_s(self) -> float:
        """Seconds since what is known was certainly true: 0 while the registry is connected."""
        return self._handle.age_s

    @property
    def stale(self) -> bool:
        """Whether what is known may have changed since: the registry is away."""
        return self._handle.stale

    def on_change(self, callback: Callable[[Change], object]) -> Callable[[], None]:
        """Be called in the background thread with each change; returns what ends it."""
        return shared_thread().run(_in_loop(lambda: self._handle.on_change(callback)))

    def start(self) -> None:
        """Find the service; done by the first call otherwise. Raises as the asynchronous one does."""
        thread = shared_thread()
        if not self._handle.started_in(thread.loop):
            thread.run(self._handle.start())

    def instances(self, *, callable_only: bool = False) -> tuple[Instance, ...]:
        """All known instances, or those that may be called."""
        return self._handle.instances(callable_only=callable_only)

    def wait_callable(self, count: int = 1, *, budget_s: float = 10.0) -> None:
        """Returns when at least ``count`` instances may be called. Raises ``NoInstance`` after ``budget_s``."""
        shared_thread().run(self._handle.wait_callable(count, budget_s=budget_s))

    def interfaces(self, *, budget_s: float = 5.0) -> dict[str, Interfaces]:
        """What the present instances offer, by revision; see the asynchronous one."""
        return shared_thread().run(self._handle.interfaces(budget_s=budget_s))

    def with_interface(self, name: str, *, insist: bool = False) -> ServiceHandle:
        """The same service without the instances that are known not to offer a method or interface."""
        return ServiceHandle(self._handle.with_interface(name, insist=insist))

    def pick(self, key: str | bytes | None = None) -> Instance:
        """The instance for the next call, from memory once it is started. Raises ``NoInstance``."""
        if self._handle.picture is None:
            self.start()
        return self._handle.pick(key)

    def failed(self, instance: Instance, kind: str) -> None:
        """A call to a picked instance failed: leave it out for a while and tell the registry."""
        shared_thread().loop.call_soon_threadsafe(self._handle.failed, instance, kind)

    def call(self, function: Callable[[Instance], T], **options: Unpack[CallOptions]) -> T:
        """``function(instance)`` in this thread, and at another instance when that fails by the instance's fault.

        ``timeout`` is only looked at between attempts, ``try_timeout`` and ``hedge`` not at all: give the function its own
        timeout.
        """
        opened = self.open(function, **options)
        opened.close()
        return opened.value

    def open(self, function: Callable[[Instance], T], **options: Unpack[CallOptions]) -> Opened[T]:
        """``call`` for an answer that goes on after ``function`` has returned; the caller closes what it gets."""
        self.start()
        if (tracing := self._handle.tracing) is not None:
            function = tracing.traced_blocking(self._handle.key, function)
        terms, attempts = begin_call(options, now_s=time.monotonic())
        if (wait := options.get("wait", 0.0)) > 0:
            self.wait_callable(budget_s=wait)
        self._handle.chooser.budget.call()
        key = options.get("key")
        while True:
            instance, begun_ms = self._begin(attempts, key)
            attempts.begin(instance)
            try:
                return self._attempt(function, instance, begun_ms, terms.failures)
            except terms.failures as error:
                now_s, chooser = time.monotonic(), self._handle.chooser
                if terms.late(now_s) or not attempts.again(error) or not chooser.budget.spend(now_ms=now_s * 1000):
                    raise
                chooser.tally.retries += 1

    def request(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Response:
        """An HTTP request to an instance, with failover; see the asynchronous one."""
        return shared_thread().run(self._handle.request(method, path, **options))

    def get(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """``request("GET", path)``."""
        return self.request("GET", path, **options)

    def watch(self) -> Iterator[Picture]:
        """The picture now and after changes."""
        return _iterate(shared_thread(), self._handle.watch())

    def _begin(self, attempts: Attempts, key: str | bytes | None) -> tuple[Instance, float]:
        """The instance of the next attempt, which counts as one from here on, and when that was."""
        while True:
            instance, now_ms = self._untried(attempts, key), time.monotonic() * 1000
            chooser = self._handle.chooser
            chooser.begun(instance, now_ms=now_ms)
            if not self._handle.leaving(instance):
                return instance, now_ms
            # It began to drain after the pick, and the background thread may have acknowledged that already.
            chooser.ended(instance, begun_ms=now_ms, now_ms=now_ms, failed=False)

    def _attempt(
        self,
        function: Callable[[Instance], T],
        instance: Instance,
        begun_ms: float,
        failures: tuple[type[Exception], ...],
    ) -> Opened[T]:
        """One attempt that was begun, whose outcome the balancer, the ejections and the registry are told."""
        chooser = self._handle.chooser
        answered = failed = False
        try:
            value = function(instance)
            answered = True
            return Opened(value, instance, chooser, self.failed, begun_ms=begun_ms)
        except failures as error:
            failed = True
            self.failed(instance, failure_kind(error))
            raise
        finally:
            if not answered:
                chooser.ended(instance, begun_ms=begun_ms, now_ms=time.monotonic() * 1000, failed=failed)

    def _untried(self, attempts: Attempts, key: str | bytes | None) -> Instance:
        """The one for the first attempt; then one that was not tried, or any when all were."""
        if attempts.tried:
            instance = self._handle.chooser.untried(attempts.tried, self._handle.instances())
            if instance is not None:
                return instance
        return self.pick(key)


class Registry:
    """``api.Registry``, waiting: every method of it, and of its parts, is here under the same name.

    Methods that return a stream return an iterator; close it with its ``close()``.
    """

    def __init__(self, urls: str | Sequence[str] = DEFAULT_URL, **options: Unpack[RegistryOptions]) -> None:
        self._registry = AsyncRegistry(urls, **options)
        _registries.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections; idempotent."""
        shared_thread().run(self._registry.close())

    def __getattr__(self, name: str) -> Any:
        thing = getattr(self._registry, name)
        thread = shared_thread()
        return _Part(thread, thing) if isinstance(thing, _PARTS) else _waiting(thread, thing)


_registries: WeakSet[Registry] = WeakSet()


class _Part:
    """``Registry.kv`` and the like, or an open stream."""

    def __init__(self, thread: LoopThread, part: object) -> None:
        self._thread = thread
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return _waiting(self._thread, getattr(self._part, name))


def _waiting(thread: LoopThread, thing: Any) -> Any:
    """A function that waits, for a method; anything else as it is."""
    if not callable(thing):
        return thing

    def call(*arguments: Any, **options: Any) -> Any:
        result = thing(*arguments, **options)
        if asyncio.iscoroutine(result):
            result = thread.run(result)
        if hasattr(result, "__aiter__"):
            return _iterate(thread, result)
        return _Part(thread, result) if isinstance(result, _PARTS) else result

    return call


def _iterate(thread: LoopThread, source: Any) -> Iterator[Any]:
    async def step(items: Any) -> Any:
        return await anext(items, _END)

    items = aiter(source)
    try:
        while (item := thread.run(step(items))) is not _END:
            yield item
    finally:
        if thread.usable:
            thread.run(_close(items, source))


async def _in_loop(function: Callable[[], T]) -> T:
    return function()


async def _close(items: Any, source: Any) -> None:
    if hasattr(items, "aclose"):
        await items.aclose()
    if hasattr(source, "close"):
        source.close()


_END = object()
