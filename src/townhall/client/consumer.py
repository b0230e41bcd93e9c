"""``Consumer``: find services, and call them without failing when one of their instances does.

::

    users = townhall.Consumer("http://127.0.0.1:7500")["user"]
    answer = await users.get("/users/1")

A handle is started on its first use, or before by ``await users.start()``. From then on ``pick()`` answers from
memory. All consumers of one registry in a process share one mirror and one watch stream. In a forked process, and in
another event loop after the first has ended, a consumer begins anew by itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict, Unpack
from weakref import WeakSet

from townhall.client.api import DEFAULT_URL, service_key
from townhall.client.balancers import BALANCERS, Balancer
from townhall.client.balancers_by_key import Maglev, RingHash
from townhall.client.balancers_by_load import LeastOutstanding, PeakEwma
from townhall.client.chooser import Choice, Chooser
from townhall.client.handle import ServiceHandle
from townhall.client.home import Home
from townhall.client.metrics import Family, consumer_metrics
from townhall.client.mirror import MirrorState
from townhall.client.mirrors import MirrorKey, SharedMirror, acquire, own_name
from townhall.client.sources import Dns, SourceMirror, Static, parse_source, parse_sources
from townhall.client.tracing import Tracing
from townhall.client.zones import ZoneAware
from townhall.model.errors import InvalidField, Misuse
from townhall.model.instance import DEFAULT_NAMESPACE, ServiceKey

if TYPE_CHECKING:
    import ssl

__all__ = ["Consumer", "ConsumerOptions", "MirrorState", "ServiceHandle"]

_START_TIMEOUT_S = 5.0


class ConsumerOptions(TypedDict, total=False):
    """How to find and how to choose."""

    token: str
    namespace: str
    """Of services that are asked for by their plain name."""
    balancer: str | Callable[[], Balancer]
    """A name from ``BY_NAME`` (default ``smooth_weighted``), or what makes one for each service."""
    zone: str
    """Where this process runs: calls stay in its zone, then its region, while enough is healthy there."""
    region: str
    subset: int
    """Of each service, call only so many instances, others for each consumer; default 0, all of them."""
    sources: Mapping[str, str]
    """Service → where else its instances come from (``sources``): ``{"user": "static://127.0.0.1:8001"}``. What the
    environment says in ``TOWNHALL_SOURCES`` (``user=static://127.0.0.1:8001;order=dns://order.internal:80``) comes first."""
    panic_threshold: float
    """See ``Choice``; default 0, never."""
    snapshot_directory: str | Path | None
    """Where pictures are kept for a start without registry; default below ``$XDG_CACHE_HOME``, None for nowhere."""
    start_timeout: float
    """Seconds to wait for the registry on first use before a snapshot from disk is good enough; default 5."""
    name: str
    """What this process calls itself in the table of subscribers; default ``program@host:pid``."""
    ssl_context: ssl.SSLContext | None
    tracing: Tracing | None
    """Told of every attempt; ``townhall.otel.Tracing()`` makes spans of them. Default None."""
    rng: Random
    """Where the balancers' chance comes from; for tests."""


class Consumer:
    """``consumer["user"]`` is the handle of a service. An async context manager; without one call ``close``."""

    def __init__(self, urls: str | Sequence[str] = DEFAULT_URL, **options: Unpack[ConsumerOptions]) -> None:
        directory = options.get("snapshot_directory", "")
        self._mirror_key = MirrorKey(
            urls if isinstance(urls, str) else tuple(urls),
            token=options.get("token", ""),
            snapshot_directory=None if directory is None else str(directory),
            name=options.get("name", ""),
            ssl_context=options.get("ssl_context"),
        )
        self._namespace = options.get("namespace", DEFAULT_NAMESPACE)
        self._start_timeout_s = options.get("start_timeout", _START_TIMEOUT_S)
        self._balancer = _balancer_maker(options)
        self._choice = _choice(options)
        self._rng = options.get("rng") or Random()  # noqa: S311 - spreads load, guards nothing
        self._tracing = options.get("tracing")
        self._handles: dict[ServiceKey, ServiceHandle] = {}
        self._shared: SharedMirror | None = None
        self._sources = {**options.get("sources", {}), **parse_sources(os.environ.get("TOWNHALL_SOURCES", ""))}
        for source in self._sources.values():
            parse_source(source)
        self._own: list[SourceMirror] = []
        self._home = Home()
        self._closed = False
        _consumers.add(self)

    def __getitem__(self, name: str | ServiceKey) -> ServiceHandle:
        """The handle of a service: a plain name, ``namespace/group/name`` or a ``ServiceKey``; always the same one.

        A source stands for a service without a registry: ``consumer["static://127.0.0.1:8001,127.0.0.1:8002"]``.
        Raises ``InvalidField`` for a source that is none.
        """
        source = ""
        if isinstance(name, str):
            source = name if "://" in name else self._sources.get(name, "")
        if source and source == name:
            key = ServiceKey(self._namespace, "source", source)
        else:
            key = service_key(name, namespace=self._namespace)
        handle = self._handles.get(key)
        if handle is None:
            acquire = partial(self._follow, key, parse_source(source)) if source else self._acquire
            handle = ServiceHandle(key, self._make_chooser, acquire, self._start_timeout_s)
            handle.tracing = self._tracing
            # Several threads may ask at once (``blocking``), and get the same.
            handle = self._handles.setdefault(key, handle)
        return handle

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self, *names: str | ServiceKey) -> None:
        """Start several handles at once. Raises what the first that fails raises."""
        await asyncio.gather(*(self[name].start() for name in names))

    async def close(self) -> None:
        """Stop watching; the last consumer of a registry ends the mirror. The handles cannot be used any more. Idempotent."""
        self._closed = True
        for handle in self._handles.values():
            handle.stop()
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.release()
        own, self._own = self._own, []
        for mirror in own:
            await mirror.release()

    @property
    def state(self) -> MirrorState:
        """CONNECTED, SUSPENDED or LOST; SUSPENDED before the first use."""
        return self._shared.mirror.state if self._shared is not None else MirrorState.SUSPENDED

    def on_state(self, callback: Callable[[MirrorState], object]) -> Callable[[], None]:
        """Be called in the event loop at each change of state; returns what ends it."""
        loop = asyncio.get_running_loop()
        return self._acquire().mirror.on_state(lambda state: _soon(loop, callback, state))

    def _make_chooser(self) -> Chooser:
        return Chooser(self._balancer(), self._rng, self._choice)

    def metrics(self) -> tuple[Family, ...]:
        """What was done with each service so far; ``client.metrics.prometheus`` makes text of it."""
        mirror = self._shared.mirror if self._shared is not None else None
        return consumer_metrics(
            list(self._handles.values()),
            connected=self.state is MirrorState.CONNECTED,
            reports_sent=mirror.reports.sent if mirror else 0,
            reports_dropped=mirror.reports.dropped if mirror else 0,
        )

    def _follow(self, key: ServiceKey, source: Static | Dns) -> SourceMirror:
        self._open()
        mirror = SourceMirror(key, source)
        self._own.append(mirror)
        return mirror

    def _acquire(self) -> SharedMirror:
        if not self._open() or self._shared is None:
            self._shared = acquire(self._mirror_key)
        return self._shared

    def _open(self) -> bool:
        """Whether it is in the loop in which it was before. Raises ``Misuse`` when it is closed."""
        if self._closed:
            raise Misuse("this Consumer is closed", advice="make another one")
        return self._home.enter("this Consumer")

    def _forked(self) -> None:
        """In the child process: nothing of what it has is usable there, or may be touched."""
        self._shared, self._own, self._home = None, [], Home()
        for handle in self._handles.values():
            handle.begin_anew()


_consumers: WeakSet[Consumer] = WeakSet()


def _after_fork() -> None:
    for consumer in tuple(_consumers):
        consumer._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[MirrorState], object], state: MirrorState) -> None:
    # An application's exception goes to the loop's handler and does not end the mirror.
    loop.call_soon(callback, state)


BY_NAME: Mapping[str, Callable[[], Balancer]] = {
    **BALANCERS,
    "least_outstanding": LeastOutstanding,
    "peak_ewma": PeakEwma,
    "ring_hash": RingHash,
    "maglev": Maglev,
}
"""The balancers that a consumer knows by name."""


def _balancer_maker(options: ConsumerOptions) -> Callable[[], Balancer]:
    choice = options.get("balancer", "smooth_weighted")
    if isinstance(choice, str):
        if choice not in BY_NAME:
            raise InvalidField("balancer", f"{choice!r} is not one of {', '.join(BY_NAME)}")
        choice = BY_NAME[choice]
    zone, region = options.get("zone", ""), options.get("region", "")
    return partial(ZoneAware, choice, zone=zone, region=region) if zone or region else choice


def _choice(options: ConsumerOptions) -> Choice:
    subset, panic_threshold = options.get("subset", 0), options.get("panic_threshold", 0.0)
    if subset < 0:
        raise InvalidField("subset", "must be 0 (all instances) or a number of them")
    if not 0.0 <= panic_threshold <= 1.0:
        raise InvalidField("panic_threshold", "must be a share between 0 and 1")
    return Choice(panic_threshold=panic_threshold, subset=subset, consumer=options.get("name", "") or own_name())
