"""A gateway: listeners, routes and services, from start to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from townhall.client.api import Registry
from townhall.client.consumer import Consumer, ConsumerOptions, MirrorState
from townhall.client.problems import AWAY
from townhall.gateway.accesslog import AccessLog
from townhall.gateway.admin import Admin
from townhall.gateway.complaint import Complaint, away_text
from townhall.gateway.entry import Entry
from townhall.gateway.inbound import Inbound
from townhall.gateway.options import GatewayOptions
from townhall.gateway.plane import Plane
from townhall.gateway.routes import Route, RouteTable
from townhall.gateway.services import Service
from townhall.model.errors import InvalidField, TownhallError
from townhall.model.limits import LISTEN_BACKLOG_COUNT, UNSENT_IN_KERNEL_SIZE_MAX

__all__ = ["Gateway"]

_log = logging.getLogger("townhall.gateway")
_TICK_S: Final = 1.0
_APART: Final = (
    "service", "balancer", "panic_threshold", "subset", "protocol", "tls", "tls_ca", "tls_name", "max_connections",
    "connect_timeout", "failures", "service_failures",
)  # fmt: skip
"""Routes that agree in these share a service's connections, balancer and ejections."""


class Gateway:
    """Made and used on the running loop. ``registry``: ``urls``, and of ``ConsumerOptions`` what is a text."""

    def __init__(self, options: GatewayOptions, registry: Mapping[str, str], log: AccessLog) -> None:
        self.plane = Plane(options, self._service, log)
        self.log = log
        self.listeners: list[asyncio.AbstractServer] = []
        self._registry = registry
        self._consumers: dict[tuple[object, ...], Consumer] = {}
        self._services: dict[tuple[object, ...], Service] = {}
        self._admins: list[asyncio.AbstractServer] = []
        self._retiring: list[tuple[Service, Consumer]] = []
        """No route leads to them any more; they end when what runs there has come to its end."""
        self._closing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._away = Complaint("the registry answers")
        # One that is to follow whatever it is asked for would find out too late that nothing can be found.
        self._meeting = self.plane.loop.create_task(self._meet()) if options.auto else None

    def route(self, routes: Sequence[Route]) -> None:
        """Use these routes from now on. Raises ``InvalidField`` when two are the same, and then nothing changes."""
        table = RouteTable(routes)
        wanted = {_place(route, _APART) for route in (*routes, *self.plane.automatic.values())}
        self.plane.routed(table)
        for route in routes:
            self._service(route)
        for place in [one for one in self._services if one not in wanted]:
            self._retire(place)

    @property
    def services(self) -> tuple[Service, ...]:
        """Those that are followed."""
        return tuple(self._services.values())

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Accept clients on one more address; returns the host and port it has. Raises ``OSError``."""
        scheme = b"https" if tls is not None else b"http"
        entry = Entry if self.plane.options.http2 else Inbound
        listener, bound = await listening(lambda: entry(self.plane, scheme), host, port, tls=tls)
        self.listeners.append(listener)
        if self._timer is None:
            self._tick()
        return bound

    async def listen_admin(self, host: str, port: int, more: Callable[[], Iterable[str]]) -> tuple[str, int]:
        """The same for operators (``Admin``); ``more`` are lines of metrics that only the process knows."""
        listener, bound = await listening(lambda: Admin(self, more), host, port)
        self._admins.append(listener)
        return bound

    async def stop(self) -> None:
        """Accept nothing more, let what runs come to its end until the deadline, then cut the rest. Idempotent."""
        plane = self.plane
        for listener in self.listeners:
            listener.close()
        plane.stopping = True
        for client in tuple(plane.clients):
            client.leave()
        await self._emptied(plane.options.stop_timeout)
        for client in tuple(plane.clients):
            client.abort()
        await self._emptied(1.0)
        if self._timer is not None:
            self._timer.cancel()
        if self._meeting is not None:
            self._meeting.cancel()
        for service in (*self._services.values(), *(one for one, _ in self._retiring)):
            service.stop()
        for consumer in (*self._consumers.values(), *(one for _, one in self._retiring)):
            await consumer.close()
        for listener in self._admins:
            # Last, so that operators can follow the others' end.
            listener.close()
        for listener in (*self.listeners, *self._admins):
            await listener.wait_closed()
        self.listeners.clear()
        self._admins.clear()
        self.log.close()

    def _service(self, route: Route) -> Service:
        place = _place(route, _APART)
        service = self._services.get(place)
        if service is None:
            handle = self._consumer(route)[route.service]
            service = self._services[place] = Service(route, handle, self.plane.options, self._away)
            if route.tls:
                service.ssl_context = _client_context(route)
            service.start()
        return service

    def _consumer(self, route: Route) -> Consumer:
        # A consumer has one handle for each service; routes that treat it differently need one each.
        place = _place(route, _APART)
        consumer = self._consumers.get(place)
        if consumer is None:
            registry = self._registry
            options: ConsumerOptions = {
                "balancer": route.balancer,
                "panic_threshold": route.panic_threshold,
                "subset": route.subset,
            }
            for name in ("token", "namespace", "zone", "region"):
                if registry.get(name):
                    options[name] = registry[name]
            consumer = self._consumers[place] = Consumer(registry.get("urls", ""), **options)
        return consumer

    def _retire(self, place: tuple[object, ...]) -> None:
        self._retiring.append((self._services.pop(place), self._consumers.pop(place)))

    async def _emptied(self, within_s: float) -> None:
        try:
            await asyncio.wait_for(self.plane.emptied.wait(), within_s)
        except TimeoutError:
            return

    async def _meet(self) -> None:
        """Look for the registry until it has answered, whatever it said."""
        async with Registry(self._registry.get("urls", ""), token=self._registry.get("token", "")) as registry:
            while True:
                try:
                    await registry.status()
                except AWAY as error:
                    self._away.tell(away_text(error), now_s=self.plane.loop.time())
                    await asyncio.sleep(_TICK_S)
                    continue
                except TownhallError:
                    pass
                self._away.end()
                return

    def _tick(self) -> None:
        self._timer = self.plane.loop.call_later(_TICK_S, self._tick)
        self.log.flush()
        if any(one.state is MirrorState.CONNECTED for one in self._consumers.values()):
            self._away.end()
        for service in self._services.values():
            service.expire()
        for name, route in list(self.plane.automatic.items()):
            # Who tries names must not fill the table, nor the registry's watch.
            found = self._services.get(_place(route, _APART))
            if found is not None and found.unheard_of and not found.requests:
                self.plane.forget(name)
                self._retire(_place(route, _APART))
        for row in [one for one in self._retiring if not one[0].requests]:
            self._retiring.remove(row)
            row[0].stop()
            task = self.plane.loop.create_task(row[1].close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def listening(
    factory: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.AbstractServer, tuple[str, int]]:
    """A listener on one address, and the one it has; port 0 takes a free one. Raises ``OSError``."""
    loop = asyncio.get_running_loop()
    family, _, _, _, address = (
        await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    )[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_IN_KERNEL_SIZE_MAX)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        host, port = bound.getsockname()[:2]
        return await loop.create_server(factory, sock=bound, backlog=LISTEN_BACKLOG_COUNT, ssl=tls), (host, port)
    except BaseException:
        bound.close()
        raise


def _place(route: Route, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(getattr(route, name) for name in names)


def _client_context(route: Route) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=route.tls_ca or None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidField("tls_ca", f"{route.tls_ca} cannot be used: {error}") from error
    context.check_hostname = bool(route.tls_name)
    context.set_alpn_protocols([route.protocol])
    return context
