"""One service as routes see it: the SDK's handle, its instances' connections, and what is counted about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from townhall.client.handle import ServiceHandle
from townhall.client.picture import Change
from townhall.client.records import Instance
from townhall.gateway.breaker import Breaker
from townhall.gateway.complaint import Complaint, away_text
from townhall.gateway.endpoint import Endpoint, EndpointHttp1
from townhall.gateway.endpoint_http2 import EndpointHttp2
from townhall.gateway.options import GatewayOptions
from townhall.gateway.routes import Route
from townhall.model.errors import NoInstance, TownhallError

if TYPE_CHECKING:
    import ssl

__all__ = ["Service"]

_RETRY_PAUSE_S = 1.0


class Service:
    """Made on the running loop; ``start`` begins to follow it. ``away``: that the registry does not answer."""

    def __init__(self, route: Route, handle: ServiceHandle, options: GatewayOptions, away: Complaint) -> None:
        self.name = route.service
        self.handle = handle
        self.ready = False
        """Its instances are known."""
        self.requests = 0
        """Running now."""
        self.breaker = Breaker(route.service_failures)
        self._route = route
        self._options = options
        self._endpoints: dict[tuple[str, int], Endpoint] = {}
        self._misses: dict[str, int] = {}
        """Answers in a row by which an instance said that it cannot."""
        self._waiting: list[Callable[[], None]] = []
        self._away = away
        self._refused = Complaint(f"{self.name} is known now")
        self.loop = asyncio.get_running_loop()
        self._starting: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None
        self.wait_s = options.service_wait
        self.ssl_context: ssl.SSLContext | None = None

    def start(self) -> None:
        """Find the instances, for ever if need be."""
        if self._starting is None:
            self._unlisten = self.handle.on_change(self._changed)
            self._starting = self.loop.create_task(self._start(), name="townhall-gateway-service")

    def stop(self) -> None:
        """Follow it no more and close its connections."""
        if self._starting is not None:
            self._starting.cancel()
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        self.handle.stop()
        for endpoint in self._endpoints.values():
            endpoint.close()
        self._endpoints.clear()

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call back when the instances are known."""
        self._waiting.append(callback)

    def anyone(self) -> Instance | None:
        """An instance, tried or not."""
        return self.handle.chooser.pick()

    def why_not(self) -> NoInstance:
        """Why there is none to pick."""
        try:
            self.handle.pick()
        except NoInstance as error:
            return error
        return NoInstance(f"all instances of {self.name} have been tried")

    def endpoint(self, instance: Instance) -> Endpoint:
        """The connections to an instance."""
        place = (instance.address, instance.port)
        endpoint = self._endpoints.get(place)
        if endpoint is None:
            kind = EndpointHttp2 if self._route.protocol == "h2" else EndpointHttp1
            endpoint = self._endpoints[place] = kind(instance.address, instance.port, self._options)
            endpoint.connections_max = self._route.max_connections
            endpoint.connect_timeout_s = self._route.connect_timeout
            endpoint.ssl_context = self.ssl_context
            endpoint.server_name = self._route.tls_name
        return endpoint

    @property
    def unheard_of(self) -> bool:
        """Whether the registry knows nothing of it."""
        return self.ready and self.handle.revision == 0 and not self.handle.instances()

    @property
    def budget_refused(self) -> int:
        """Retries that were not made for want of budget."""
        return self.handle.chooser.budget.refused

    @property
    def pending(self) -> int:
        """Requests that wait for a connection."""
        return sum(len(one.waiting) for one in self._endpoints.values())

    @property
    def connections(self) -> int:
        """Open connections to instances."""
        return sum(one.connections for one in self._endpoints.values())

    def failed(self, instance: Instance, kind: str) -> None:
        """A request failed by the instance's fault: it is left out for a while, and the registry is told."""
        self.handle.failed(instance, kind)

    def missed(self, instance: Instance) -> None:
        """It answered that it cannot; several times in a row is a failure."""
        count = self._misses.get(instance.id, 0) + 1
        if count >= self._route.failures > 0:
            self._misses.pop(instance.id, None)
            self.failed(instance, "5xx")
        else:
            self._misses[instance.id] = count

    def served(self, instance: Instance) -> None:
        """It answered well."""
        if self._misses:
            self._misses.pop(instance.id, None)

    def expire(self) -> None:
        """Close connections that were idle for long, and forget addresses that are no more."""
        known = {(one.address, one.port) for one in self.handle.instances()}
        for place, endpoint in list(self._endpoints.items()):
            endpoint.expire()
            if place not in known and not endpoint.busy:
                endpoint.close()
                del self._endpoints[place]

    async def _start(self) -> None:
        while True:
            try:
                await self.handle.start()
                break
            except TownhallError as error:
                self._complain(error)
                if self.handle.instances():
                    break
                await asyncio.sleep(_RETRY_PAUSE_S)
        self._refused.end()
        self.ready = True
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()

    def _complain(self, error: TownhallError) -> None:
        """A registry that is away is so for all services, and is told once; what it refuses, for each."""
        told = error.fields.get("told")
        if told is not None:
            self._away.tell(away_text(told), now_s=self.loop.time())
        else:
            self._refused.tell(f"{self.name} is not known yet: {error}", now_s=self.loop.time())

    def _changed(self, change: Change) -> None:
        """Connections to those that leave carry no new request; what runs on them goes on."""
        staying = {(one.address, one.port) for one in change.picture.instances if one.callable or one.suspect}
        for place, endpoint in self._endpoints.items():
            if place not in staying:
                endpoint.forget_idle()
        if self._misses:
            for gone in [one for one in self._misses if one not in change.picture.by_id]:
                del self._misses[gone]
