"""What all connections of a gateway share: routes, services, limits, counts. Replaced in part when routes change."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from townhall.gateway.accesslog import AccessLog
from townhall.gateway.buckets import Buckets
from townhall.gateway.counters import Counters
from townhall.gateway.http2_heads import VARYING, Http2Heads
from townhall.gateway.keys import key_of
from townhall.gateway.options import GatewayOptions
from townhall.gateway.rendering import Asker
from townhall.gateway.requests import RequestHead, RequestHeads
from townhall.gateway.routes import Route, RouteTable, rewritten
from townhall.gateway.services import Service
from townhall.gateway.trace import Trace
from townhall.model import limits, names
from townhall.model.errors import InvalidField
from townhall.wire.http2 import Http2Limits
from townhall.wire.http2.memory import Memory

__all__ = ["Leaver", "Plane", "Refusal", "Way"]

_AUTO_SUFFIX = b".service.townhall"


class Way(msgspec.Struct, frozen=True):
    """Where requests with one head go."""

    route: Route
    service: Service
    target: bytes
    """What instances get."""
    repeatable: bool
    """Doing it twice is as good as once."""
    routing: object
    """The plane's routes when they were asked; with others it is out of date."""


class Refusal(NamedTuple):
    """Why it goes nowhere."""

    code: str
    """Of a problem, see ``problems``."""
    detail: str
    wait_s: float = 0.0
    """When to try again."""


class Leaver(Protocol):
    """A client's connection, as the plane knows it."""

    def leave(self) -> None:
        """End when nothing runs."""
        ...

    def abort(self) -> None:
        """End now."""
        ...


class Plane:
    """Made on the running loop. ``service_of`` gives the service of a route, followed already."""

    def __init__(self, options: GatewayOptions, service_of: Callable[[Route], Service], log: AccessLog) -> None:
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.name = (options.via or f"townhall-{secrets.token_hex(4)}").encode("ascii")
        self.heads = RequestHeads(target_size_max=options.target_size_max, dot_segments=options.dot_segments)
        self.http2 = Http2Limits(
            streams_max=limits.PROXY_STREAMS_MAX,
            stream_window_size=limits.PROXY_STREAM_WINDOW_SIZE,
            header_size_max=options.header_size_max,
        )
        self.memory = Memory(self.http2, varying=VARYING)
        self.http2_heads = Http2Heads(self.heads, header_size_max=options.header_size_max)
        self.table = RouteTable()
        self.counters = Counters()
        self.trusted = options.trusts()
        self.stopping = False
        self.clients: set[Leaver] = set()
        self.emptied = asyncio.Event()
        self.emptied.set()
        self._service_of = service_of
        self._log = log
        self._found: dict[int, Service] = {}
        """By the identity of the route."""
        self._buckets: dict[tuple[str, str], Buckets] = {}
        """Of routes with a rate, by their name and what clients are told apart by."""
        self.automatic: dict[str, Route] = {}
        self._routing = object()
        """Another one whenever a request may go another way than the same one before."""

    def routed(self, table: RouteTable) -> None:
        """Use these routes from now on; requests that run keep theirs, and clients what they have spent of a rate."""
        self.table = table
        self._routing = object()
        self._found = {}
        kept = self._buckets
        self._buckets = {}
        for route in table.routes:
            buckets = kept.get((route.name, route.rate_by))
            if route.rate and buckets is not None:
                buckets.retune(rate=route.rate, burst=route.burst)
                self._buckets[route.name, route.rate_by] = buckets

    def forget(self, name: str) -> None:
        """A service that was asked for without a route, and that nobody knows."""
        route = self.automatic.pop(name)
        self._found.pop(id(route), None)
        self._routing = object()

    def find(self, head: RequestHead, trace: Trace) -> Way | Refusal:
        """The way of a request, which its trace is told of."""
        way = head.way
        if way is None or way.routing is not self._routing:
            found = self._find(head)
            if isinstance(found, Refusal):
                return found
            head.way = way = found
        route = way.route
        trace.route, trace.service = route.name, route.service
        return way

    def _find(self, head: RequestHead) -> Way | Refusal:
        if self.name in head.fields.passed:
            # RFC 9110 §7.6.3: it was here before.
            return Refusal("loop", f"the request's Via says that it has passed {self.name.decode()} already")
        if head.last_hop:
            return Refusal("last_hop", "")
        route = self.table.match(head)
        target = None
        if route is None:
            found = self._automatic(head) if self.options.auto else None
            if found is None:
                return Refusal("no_route", f"no route for {head.path.decode('ascii')[:200]!r} at this host")
            route, target = found
        service = self._found.get(id(route))
        if service is None:
            service = self._found[id(route)] = self._service_of(route)
        return Way(
            route,
            service,
            rewritten(route, head) if target is None else target,
            repeatable=head.idempotent or route.retry_unsafe,
            routing=self._routing,
        )

    def admit(self, way: Way, trace: Trace) -> Refusal | None:
        """Why a request may not go its way now; if it may, it counts among those that run."""
        route, service = way.route, way.service
        if route.rate:
            place = (route.name, route.rate_by)
            buckets = self._buckets.get(place)
            if buckets is None:
                buckets = self._buckets[place] = Buckets(rate=route.rate, burst=route.burst)
            assert trace.head is not None
            wait_s = buckets.take(key_of(route.rate_by, trace.head, trace.address), now_s=trace.begun)
            if wait_s:
                return Refusal("rate_limited", f"more than {route.rate:g} requests a second", wait_s)
        if service.requests >= route.max_requests:
            return Refusal("overloaded", f"{service.name} has {service.requests} requests already", 1.0)
        if service.breaker.failures and not service.breaker.allows(now_s=trace.begun):
            left_s = service.breaker.left_s(now_s=trace.begun)
            return Refusal("circuit_open", f"{service.name} has failed too often in a row", left_s or 1.0)
        service.requests += 1
        trace.admitted = service
        return None

    def noted(self, trace: Trace) -> None:
        """A request is over."""
        now = self.loop.time()
        service = trace.admitted
        if service is not None:
            service.requests -= 1
            if service.breaker.failures:
                service.breaker.ended(failed=trace.status in (502, 503, 504), now_s=now)
        duration_s = now - trace.begun
        self.counters.noted(trace, duration_s)
        if self._log.open:
            self._log.add(trace, duration_s)

    def asker(self, transport: asyncio.BaseTransport, scheme: bytes) -> Asker:
        """Who is at the other end of a client's connection."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        return Asker(
            address.encode("ascii", "replace"),
            scheme,
            trusted=self.trusted(address),
            forwarded=self.options.forwarded,
            name=self.name,
        )

    def client_behind(self, claimed: bytes, address: str) -> str:
        """The client's address as trusted proxies tell it: the last one in the chain that is none of theirs."""
        for one in reversed(claimed.decode("ascii", "replace").split(",")):
            hop = one.strip()
            if not hop:
                continue
            address = hop
            if not self.trusted(hop):
                break
        return address

    @property
    def full(self) -> bool:
        """One more client would be too many."""
        return len(self.clients) >= self.options.connections_max

    def arrived(self, client: Leaver) -> bool:
        """A client has connected; False when there are too many."""
        self.clients.add(client)
        self.emptied.clear()
        self.counters.accepted += 1
        if len(self.clients) > self.options.connections_max:
            self.counters.turned_away += 1
            return False
        return True

    def departed(self, client: Leaver) -> None:
        """Its connection has ended."""
        self.clients.discard(client)
        if not self.clients:
            self.emptied.set()

    def _automatic(self, head: RequestHead) -> tuple[Route, bytes] | None:
        host = head.fields.host
        target = head.target
        if host.endswith(_AUTO_SUFFIX):
            name = host[: -len(_AUTO_SUFFIX)]
        else:
            name, _, rest = head.path[1:].partition(b"/")
            target = b"/" + rest + head.query
        text = name.decode("ascii")
        route = self.automatic.get(text)
        if route is None:
            try:
                names.service(text)
            except InvalidField:
                return None
            if len(self.automatic) >= limits.PROXY_AUTO_SERVICES_MAX:
                return None
            route = self.automatic[text] = Route(name=f"auto:{text}", service=text)
        return route, target
