"""Which service a request goes to: by host, path prefix and fields. Pure.

The most specific route wins, whatever the order in which they are written: first the host (exact, then the longest
``*.`` pattern, then none), then the longest path prefix, then the most fields asked for, then the order. A prefix ends
where a segment ends: ``/users`` is for ``/users`` and ``/users/1``, not for ``/users2``. Paths are compared as they came,
byte for byte: nothing is decoded, joined or resolved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from townhall.gateway.requests import RequestHead
from townhall.model import limits
from townhall.model.errors import InvalidField

__all__ = ["Route", "RouteTable", "rewritten"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One way from requests to a service. Times are seconds; everything was checked when the configuration was read."""

    name: str
    service: str
    """A name of the catalogue, ``namespace/group/name``, or a source: ``static://…``, ``dns://…``."""
    host: str = ""
    """``api.example.org``, ``*.example.org``, or '' for every host."""
    path: str = "/"
    headers: Mapping[str, str] = {}
    """Fields that must be there, with this value, or with any when it is ``*``."""
    methods: tuple[str, ...] = ()
    strip_prefix: bool = False
    """Take ``path`` off before the request goes on."""
    replace_prefix: str = ""
    """Put this in the place of ``path``."""
    balancer: str = "smooth_weighted"
    key: str = ""
    """What is hashed by balancers that know keys: ``address``, ``path``, ``header:NAME`` or ``cookie:NAME``."""
    retries: int = limits.CLIENT_RETRIES_DEFAULT
    retry_statuses: frozenset[int] = frozenset({502, 503, 504})
    retry_unsafe: bool = False
    """Repeat POST and PATCH as well: the service knows repetitions by itself."""
    timeout: float = limits.PROXY_TIMEOUT_MS / 1000
    """From the request's head to the end of the answer's head, all attempts together."""
    connect_timeout: float = limits.PROXY_CONNECT_TIMEOUT_MS / 1000
    first_byte_timeout: float = limits.PROXY_FIRST_BYTE_TIMEOUT_MS / 1000
    """From the request's last byte to the answer's head, each attempt."""
    idle_timeout: float = limits.PROXY_IDLE_TIMEOUT_MS / 1000
    """Between two bytes of a body or of a WebSocket."""
    whole_timeout: float = 0.0
    """From the request's head to the answer's last byte; 0 is none, since streams have no end."""
    body_size_max: int = limits.PROXY_BODY_SIZE_MAX
    upgrade: bool = True
    """Let WebSockets through."""
    protocol: str = "http/1.1"
    """What instances speak: ``http/1.1``, or ``h2``, as gRPC needs."""
    tls: bool = False
    tls_ca: str = ""
    tls_name: str = ""
    """The name that the instances' certificates must have; '' checks the chain alone."""
    rate: float = 0.0
    """Requests a second for each client; 0 is no limit."""
    burst: int = 0
    rate_by: str = "address"
    """``address`` or ``header:NAME``."""
    max_connections: int = limits.PROXY_CONNECTIONS_PER_INSTANCE_MAX
    max_pending: int = limits.PROXY_PENDING_MAX
    max_requests: int = limits.PROXY_REQUESTS_MAX
    failures: int = limits.PROXY_FAILURES_MAX
    service_failures: int = 0
    panic_threshold: float = 0.0
    subset: int = 0

    @property
    def prefix(self) -> bytes:
        """``path`` without the slash at its end; b"" for all paths."""
        return self.path.rstrip("/").encode("ascii")


class RouteTable:
    """All routes. Raises ``InvalidField`` for two that nothing tells apart."""

    def __init__(self, routes: Sequence[Route] = ()) -> None:
        self.routes = tuple(routes)
        self._exact: dict[bytes, _Host] = {}
        self._suffixes: dict[bytes, _Host] = {}
        self._any = _Host()
        for route in self.routes:
            self._place(route).add(route)

    def match(self, head: RequestHead) -> Route | None:
        """The route of this request; None when there is none."""
        host = head.fields.host
        if self._exact and host in self._exact and (found := self._exact[host].match(head)) is not None:
            return found
        if self._suffixes:
            dot = host.find(b".")
            while dot >= 0:
                suffix = self._suffixes.get(host[dot:])
                if suffix is not None and (found := suffix.match(head)) is not None:
                    return found
                dot = host.find(b".", dot + 1)
        return self._any.match(head)

    def _place(self, route: Route) -> _Host:
        host = route.host.lower().encode("ascii")
        if not host:
            return self._any
        if host.startswith(b"*."):
            return self._suffixes.setdefault(host[1:], _Host())
        return self._exact.setdefault(host, _Host())


class _Host:
    """The routes of one host by prefix, each list with the most fields first."""

    def __init__(self) -> None:
        self._prefixes: dict[bytes, list[Route]] = {}

    def add(self, route: Route) -> None:
        rows = self._prefixes.setdefault(route.prefix, [])
        for other in rows:
            if dict(other.headers) == dict(route.headers) and other.methods == route.methods:
                raise InvalidField("route", f"{other.name!r} and {route.name!r} are for the same requests")
        rows.append(route)
        rows.sort(key=lambda one: (-len(one.headers), not one.methods))

    def match(self, head: RequestHead) -> Route | None:
        prefix = head.path
        prefixes = self._prefixes
        while True:
            for route in prefixes.get(prefix, ()):
                if (not route.headers and not route.methods) or _fits(route, head):
                    return route
            if not prefix:
                return None
            slash = prefix.rfind(b"/")
            prefix = prefix[:slash] if slash >= 0 else b""


def _fits(route: Route, head: RequestHead) -> bool:
    if route.methods and head.method.decode("ascii") not in route.methods:
        return False
    for name, wanted in route.headers.items():
        value = head.fields.by_name.get(name.lower().encode("ascii"))
        if value is None or (wanted != "*" and value != wanted.encode("latin-1")):
            return False
    return True


def rewritten(route: Route, head: RequestHead) -> bytes:
    """The target that instances get: as it came, unless the route takes its prefix off or replaces it."""
    if not (route.strip_prefix or route.replace_prefix) or not head.path.startswith(b"/"):
        return head.target
    rest = head.path[len(route.prefix) :]
    path = route.replace_prefix.rstrip("/").encode("ascii") + rest
    return (path or b"/") + head.query
