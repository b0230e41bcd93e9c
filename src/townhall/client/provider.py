"""``Provider``: a service that is found while it works, and leaves without breaking a call.

::

    async with townhall.Provider("http://127.0.0.1:7500", service="user", port=8080) as provider:
        ...  # serve; with provider.track(): around each request

Entering registers, and raises when that fails: a service nobody can find should not start. From then on a task of its
own keeps the registration alive, whatever happens to the registry; ``on_alarm`` and the log tell. Leaving happens in
the order that costs no call. With ``drain_on_stop``: tell everybody that we drain and wait until they know, ``on_stop``
(take no new requests), wait for the running ones, deregister. Without it: deregister first, and the rest after it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack, cast

from townhall.client.address import AddressChoice, doubt
from townhall.client.alarms import Alarm, AlarmKind, Counters
from townhall.client.api import DEFAULT_URL, Patch, Registry
from townhall.client.callbacks import Callback, call
from townhall.client.definitions import Service, ServiceFields
from townhall.client.heartbeat import Heartbeat
from townhall.client.metrics import Family, provider_metrics
from townhall.client.offering import Offering
from townhall.client.problems import AWAY
from townhall.client.records import Drain, Instance, Registered
from townhall.client.registrar import Registrar
from townhall.client.self_check import SelfCheck
from townhall.client.signals import StopSignals
from townhall.client.slow_start import WARM_UP_KEY
from townhall.model import limits
from townhall.model.errors import InvalidField, TownhallError

if TYPE_CHECKING:
    import ssl

__all__ = ["Alarm", "AlarmKind", "Provider", "ProviderOptions", "Service"]

_log = logging.getLogger("townhall.client")
_DRAIN_DEADLINE_S = 30.0
_DRAIN_WAIT_MS = 10_000
_REVIVAL_PAUSE_S = 1.0
_HEALTH_INTERVAL_S = limits.CLIENT_HEALTH_INTERVAL_MS / 1000
_READY_TIMEOUT_S = limits.CLIENT_READY_TIMEOUT_MS / 1000
_LINGER_S = limits.CLIENT_LINGER_MS / 1000
_JOBS_PAUSE_S = 0.05
_LEAVE_BUDGET_S = 3.0
"""For the goodbye to a registry that may be away; the lease ends it anyway."""


class ProviderOptions(ServiceFields, total=False):
    """Everything a provider may be told; durations are seconds. Adapters hand it on."""

    service: str
    """The name of what it provides, with ``port`` and the fields of a ``Service``."""
    port: int
    services: Sequence[Service]
    """Several services of one process on one lease and one session, instead of ``service`` and ``port``."""
    ttl: float | None
    """How long the registry waits for a heartbeat; None takes the registry's default."""
    token: str
    ssl_context: ssl.SSLContext | None
    name: str
    """What the process calls itself towards the registry; default ``service@host:pid``."""
    on_alarm: Callable[[Alarm], object] | None
    """Called in the event loop for each alarm. An exception it raises goes to the loop's exception handler."""
    on_leave: Callback | None
    """Called when stopping begins, before anybody is told: a health service of one's own says no from here on."""
    on_stop: Callback | None
    """Called while stopping, when no caller should find us any more: take no new requests. May be a coroutine function."""
    jobs: Callable[[], int] | None
    """How many jobs run that are not inside ``track()``; stopping waits for them as well."""
    interface: str
    """Advertise an address of this network interface, unless ``address`` is given."""
    networks: Sequence[str]
    """Advertise an address in the first of these networks (CIDR) that has one, unless ``address`` is given."""
    health: Callback | None
    """The application's own health (``self_check``): nothing is registered before it is good, and while it is not we are
    registered but not to be called, with its reason. A plain function is called in a thread, and may wait."""
    health_interval: float
    """Seconds between two questions; default 5."""
    ready_timeout: float
    """Seconds that a start waits for ``health``; default 60."""
    register_unready: bool
    """Register at once, as not to be called until ``health`` is good, instead of waiting for it: for servers that only
    listen when their start is over."""
    start_without_registry: bool
    """Start although no registry can be reached, and register as soon as one answers; default False, raise."""
    warm_up: float
    """Seconds in which callers raise our share from a tenth to the whole (slow start); default 0."""
    interfaces_port: int | None
    """Where this process serves its ``interfaces`` (``well_known``): the port of its own HTTP server, or 0 for a small
    listener of ours at a free port; default None, nowhere: the registry alone has them."""
    drain_on_stop: bool
    """Before deregistering, wait until all subscribers know that we drain."""
    linger: float
    """Seconds between a drain and ``on_stop``, for calls that were begun before and are on their way; default 0.25."""
    drain_deadline: float
    """Seconds that stopping may take in all: the drain, and the requests that still run."""
    handle_signals: bool
    """Stop on SIGTERM and SIGINT; a second signal ends the process at once. Then await ``wait_stopped()``."""
    forward_signals: bool
    """Take these signals as well, but deliver the first one, when we have stopped, to whoever handled it before."""


class Provider:
    """One process's registration. Use it once, as an async context manager or with ``start`` and ``stop``."""

    def __init__(
        self,
        urls: str | Sequence[str] = DEFAULT_URL,
        **options: Unpack[ProviderOptions],
    ) -> None:
        self._urls = urls
        self._options = options
        self._services = _services(options)
        self._registry: Registry | None = None
        self._registrar: Registrar | None = None
        self._heartbeat: Heartbeat | None = None
        self._beating: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._signals: StopSignals | None = None
        self._running = 0
        self._idle = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._tracker = _Tracker(self)
        self._address_choice = AddressChoice(
            options.get("address") or "", options.get("interface", ""), options.get("networks", ())
        )
        self._address = ""
        self._offering: Offering | None = None
        self._looking: list[asyncio.Task[None]] = []
        """The tasks that look at ourselves: our health, our address."""
        health = options.get("health")
        self._self_check = (
            None
            if health is None
            else SelfCheck(health, self._tell_health, interval_s=options.get("health_interval", _HEALTH_INTERVAL_S))
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def instances(self) -> tuple[Registered, ...]:
        """The registry's last answer for each of our services that is registered."""
        return tuple(one for one in self._registrar.registered if one is not None) if self._registrar else ()

    @property
    def address(self) -> str:
        """The address that services without one of their own advertise; '' before the start."""
        return self._address

    @property
    def lease(self) -> str:
        """The lease that keeps us alive; '' before the start."""
        return self._registrar.lease if self._registrar else ""

    @property
    def away(self) -> bool:
        """Whether the registry is out of reach at the moment."""
        return self._heartbeat is not None and self._heartbeat.away

    @property
    def connected(self) -> bool:
        """Whether the session stream stands, over which the registry would notice our death at once."""
        return self._heartbeat is not None and self._heartbeat.connected

    @property
    def stopping(self) -> bool:
        """Whether we are on the way out."""
        return self._stopping is not None

    @property
    def counters(self) -> Counters:
        """What was done since the start."""
        return self._heartbeat.counters if self._heartbeat else Counters()

    @property
    def running(self) -> int:
        """Requests and jobs that a stop would wait for: those inside ``track()``, and what ``jobs`` says."""
        jobs = self._options.get("jobs")
        return self._running + (0 if jobs is None else jobs())

    def metrics(self) -> tuple[Family, ...]:
        """What was done since the start; ``client.metrics.prometheus`` makes text of it."""
        return provider_metrics(self, self._services[0].name)

    def track(self) -> _Tracker:
        """A context manager around one request or job: stopping waits for it until the deadline."""
        return self._tracker

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register. Raises what the registry says, or ``Unreachable``; then nothing is left behind.

        With ``start_without_registry`` a registry out of reach is no error but the alarm ``away``.
        """
        if self._registry is not None:
            raise InvalidField("provider", "was started before", advice="make a new Provider")
        options = self._options
        registry = Registry(self._urls, token=options.get("token", ""), ssl_context=options.get("ssl_context"))
        self._registry = registry
        ttl = options.get("ttl")
        try:
            early = self._self_check is not None and options.get("register_unready", False)
            if self._self_check is not None and not early:
                await self._self_check.gate(budget_s=options.get("ready_timeout", _READY_TIMEOUT_S))
            address = self._address = await self._address_choice.find(registry.transport.preferred)
            if why := doubt(address, registry.transport.preferred):
                _log.warning("others may not reach this service: %s", why)
            ttl_ms = None if ttl is None else round(ttl * 1000)
            self._offering = Offering(registry, self._services, options.get("interfaces_port"))
            services = await self._offering.open(address)
            if early:
                services = tuple(replace(one, ready=False) for one in services)
            checked = self._self_check is not None
            registrar = Registrar(registry, services, address=address, ttl_ms=ttl_ms, checked=checked)
            try:
                await registrar.register()
            except AWAY:
                if not options.get("start_without_registry"):
                    raise
        except BaseException:
            if self._offering is not None:
                await self._offering.close()
            await registry.close()
            raise
        self._registrar = registrar
        name = options.get("name") or f"{self._services[0].name}@{socket.gethostname()}:{os.getpid()}"
        self._heartbeat = Heartbeat(registry, registrar, name[: limits.LABEL_SIZE_MAX], self._alarm)
        self._begin_beating()
        self._offering.begin()
        loop = asyncio.get_running_loop()
        if self._self_check is not None:
            self._looking.append(loop.create_task(self._self_check.run(), name="townhall-self-check"))
        if not self._address_choice.address:
            self._looking.append(loop.create_task(self._follow_address(), name="townhall-address"))
        if options.get("handle_signals") or options.get("forward_signals"):
            self._signals = StopSignals(self._stop_by_signal)
            self._signals.install()

    async def stop(self) -> None:
        """Leave: drain if so configured, deregister, ``on_stop``, wait for running requests.

        Idempotent; never raises for a registry that is away.
        """
        if self._registry is not None:
            self._begin_stop()
            await self.wait_stopped()

    async def wait_stopped(self) -> None:
        """Returns when a stop (by a signal or by ``stop``) is over."""
        await self._stop_asked.wait()
        assert self._stopping is not None
        # Shielded: who waits may be cancelled, leaving must be finished.
        await asyncio.shield(self._stopping)

    async def drain(self, *, deadline: float | None = None) -> bool:
        """Ask for no more new calls and wait until every subscriber knows. True when all did before the deadline.

        We stay registered as draining, and calls that come all the same are answered. Raises like any call of the API.
        """
        registry, registrar = self._started()
        clock = asyncio.get_running_loop().time
        until = clock() + (self._deadline_s if deadline is None else deadline)
        if self._heartbeat is not None:
            self._heartbeat.draining = True
        drains = await registrar.drain(deadline_ms=max(1, round((until - clock()) * 1000)))
        ends = [
            await self._drained(registry, drain, one.instance, until)
            for drain, one in zip(drains, self.instances, strict=True)
        ]
        return all(ends)

    async def update(self, service: str = "", **changes: Unpack[Patch]) -> None:
        """Change weight, metadata (merged), tags, zone or readiness, of one service or of all.

        It outlives a registration anew. Raises like any call of the API.
        """
        _, registrar = self._started()
        indices = [index for index, one in enumerate(registrar.services) if service in ("", one.name)]
        if not indices:
            raise InvalidField("service", f"{service!r} is none of ours")
        for index in indices:
            await registrar.update(index, **changes)

    # --- inside --------------------------------------------------------------------------------------------------------

    @property
    def _deadline_s(self) -> float:
        return self._options.get("drain_deadline", _DRAIN_DEADLINE_S)

    async def _drained(self, registry: Registry, drain: Drain, instance: Instance, until: float) -> bool:
        """Wait for one; True when nobody is left who does not know."""
        clock = asyncio.get_running_loop().time
        while not drain.over and clock() < until:
            wait_ms = min(_DRAIN_WAIT_MS, max(1, round((until - clock()) * 1000)))
            drain = await registry.drain_status(instance.key, instance.id, wait_ms=wait_ms)
        return drain.over and not drain.waiting_for

    async def _tell_health(self, reason: str) -> None:
        """The application's word: why it is not to be called, '' when it is healthy."""
        _, registrar = self._started()
        for index, service in enumerate(self._services):
            await registrar.tell_health(index, reason)
            # Registered unready, it becomes ready now. What the application itself has declared not ready stays so.
            if not reason and service.ready and not registrar.services[index].ready:
                await registrar.update(index, ready=True)

    async def _follow_address(self) -> None:
        """Register under another address when the machine gets one: a laptop, a lease of DHCP, a floating address."""
        registry, registrar = self._started()
        while True:
            await asyncio.sleep(limits.CLIENT_ADDRESS_INTERVAL_MS / 1000)
            try:
                address = await self._address_choice.find(registry.transport.preferred)
                if address == self._address:
                    continue
                _log.warning("our address changed from %s to %s, registering anew", self._address, address)
                await registrar.move(address)
            except TownhallError as error:
                _log.debug("the address cannot be followed now: %s", error)
            else:
                self._address = address

    def _beat_ended(self, task: asyncio.Task[None]) -> None:
        """Heartbeats end by cancellation only; anything else is a bug of ours, and the service must not pay for it."""
        if task.cancelled() or self._stopping is not None or (error := task.exception()) is None:
            return
        _log.critical("the heartbeats failed and begin anew", exc_info=error)
        asyncio.get_running_loop().call_later(_REVIVAL_PAUSE_S, self._begin_beating)

    def _begin_beating(self) -> None:
        if self._heartbeat is not None and self._stopping is None:
            self._beating = asyncio.get_running_loop().create_task(self._heartbeat.run(), name="townhall-heartbeat")
            self._beating.add_done_callback(self._beat_ended)

    def _started(self) -> tuple[Registry, Registrar]:
        if self._registry is None or self._registrar is None:
            raise InvalidField("provider", "is not started", advice="use it in 'async with', or await start()")
        return self._registry, self._registrar

    def _alarm(self, alarm: Alarm) -> None:
        if alarm.kind is AlarmKind.REGISTERED_AGAIN and self._offering is not None:
            self._offering.wake()
        on_alarm = self._options.get("on_alarm")
        if on_alarm is not None:
            # Not called from here: an exception of the application's must not end the heartbeats.
            asyncio.get_running_loop().call_soon(on_alarm, alarm)

    def _begin_stop(self) -> None:
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop(), name="townhall-stop")
            self._stop_asked.set()

    def _stop_by_signal(self, number: int) -> None:
        self._begin_stop()
        if self._options.get("forward_signals") and self._stopping is not None:
            self._stopping.add_done_callback(lambda _: signal.raise_signal(number))

    async def _stop(self) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + self._deadline_s
        for task in self._looking:
            task.cancel()
        if self._looking:
            await asyncio.wait(self._looking)
        try:
            await self._tell_application("on_leave", until)
            draining = bool(self._options.get("drain_on_stop")) and self._registrar is not None
            if draining:
                # Everybody knows before anything ends; being still registered, we answer who comes all the same.
                await self._quietly(self.drain(deadline=until - clock()), "drain")
                await asyncio.sleep(min(self._options.get("linger", _LINGER_S), max(0.0, until - clock())))
            else:
                await self._leave_registry()
            await self._tell_application("on_stop", until)
            await self._wait_idle(until)
            if draining:
                await self._leave_registry()
        finally:
            if self._beating is not None:
                self._beating.cancel()
            if self._signals is not None:
                self._signals.remove()
            if self._offering is not None:
                await self._offering.close()
            if self._registry is not None:
                await self._registry.close()

    async def _leave_registry(self) -> None:
        if self._heartbeat is None or self._beating is None or self._registrar is None:
            return
        await self._heartbeat.bye(budget_s=_LEAVE_BUDGET_S)
        # No heartbeat may run now: it could find us forgotten and register us again.
        self._beating.cancel()
        await asyncio.wait({self._beating})
        await self._quietly(self._registrar.deregister(), "deregister")

    async def _quietly(self, step: Awaitable[object], what: str) -> None:
        try:
            async with asyncio.timeout(self._deadline_s if what == "drain" else _LEAVE_BUDGET_S):
                await step
        except (TownhallError, TimeoutError) as error:
            _log.warning("could not %s while stopping, the lease will end it: %s", what, error)

    async def _tell_application(self, what: Literal["on_leave", "on_stop"], until: float) -> None:
        callback = self._options.get(what)
        if callback is None:
            return
        # In a task of its own, so that whatever it raises is seen here and stops nothing.
        loop = asyncio.get_running_loop()
        task = loop.create_task(call(callback), name=f"townhall-{what}")
        _, late = await asyncio.wait({task}, timeout=max(0.0, until - loop.time()))
        if late:
            task.cancel()
            _log.warning("%s was not done by the deadline", what)
        elif not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", what, exc_info=error)

    async def _wait_idle(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                while self._running:
                    self._idle.clear()
                    await self._idle.wait()
                # Of these nobody tells us when they end.
                while self.running:  # noqa: ASYNC110
                    await asyncio.sleep(_JOBS_PAUSE_S)
        except TimeoutError:
            _log.warning("%d requests or jobs were still running at the deadline", self.running)


class _Tracker:
    """Counts who is inside; one object serves all requests."""

    __slots__ = ("_provider",)

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def __enter__(self) -> None:
        self._provider._running += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        provider = self._provider
        provider._running -= 1
        if not provider._running:
            provider._idle.set()


def _services(options: ProviderOptions) -> tuple[Service, ...]:
    service = options.get("service", "")
    offered = options.get("services", ())
    if not isinstance(offered, Iterable) or not all(isinstance(one, Service) for one in offered):
        raise InvalidField("services", "must be a list of townhall.Service")
    several = tuple(offered)
    if bool(several) == bool(service):
        raise InvalidField("service", "give either service= and port=, or services=")
    if not several:
        names = ServiceFields.__optional_keys__ - {"address"}
        fields = cast("ServiceFields", {name: value for name, value in options.items() if name in names})
        several = (Service(name=service, port=options.get("port", 0), **fields),)
    warm_up = options.get("warm_up", 0.0)
    if not warm_up:
        return several
    return tuple(replace(one, metadata={**one.metadata, WARM_UP_KEY: f"{warm_up:g}"}) for one in several)
