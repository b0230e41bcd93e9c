"""The Consul face: the whole table of paths, credentials, and errors in Consul's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from townhall.core.queries import Reader
from townhall.face import Handler, Reply, Request, Route, Verb
from townhall.face.consul import (
    acl,
    config_entries,
    coordinate,
    errors,
    events,
    kv,
    operator,
    queries,
    sessions,
    snapshot,
    status,
    txn,
)
from townhall.face.consul.agent import AgentServices
from townhall.face.consul.agent_checks import AgentChecks
from townhall.face.consul.agent_self import AgentSelf
from townhall.face.consul.catalog import Catalog
from townhall.face.consul.health import Health
from townhall.face.consul.picture import Picture
from townhall.face.consul.rendering import Rendering
from townhall.face.consul.site import Site, Sited
from townhall.model.errors import TownhallError

__all__ = ["ConsulFace"]

_BEARER = "bearer "
_MODULES: Sequence[Callable[[Sited], Sequence[Route]]] = (
    kv.routes, sessions.routes, txn.routes, events.routes, queries.routes, status.routes, operator.routes,
    coordinate.routes, config_entries.routes, acl.routes, snapshot.routes,
)  # fmt: skip
_NO_UI = b"Consul Agent: UI disabled. To enable, set ui_config.enabled=true in the agent configuration and restart.\n"


class ConsulFace:
    """Consul's HTTP API; implements ``face.Face``. One for each registry: it holds what is rendered for it."""

    name = "consul"

    def __init__(self, site: Site | None = None, extra: Sequence[Route] = ()) -> None:
        """``extra``: rows that only the process can answer; they take the place of those of their method and path."""
        self.site = site or Site()
        picture = Picture(self.site)
        rendering = Rendering(picture)
        table: list[Route] = [
            *AgentSelf(picture).routes(),
            *AgentServices(picture).routes(),
            *AgentChecks(picture).routes(),
            *Catalog(rendering).routes(),
            *Health(rendering).routes(),
        ]
        for make in _MODULES:
            table += make(self)
        table = [_guarded(route) for route in _replaced(table, extra)]
        self.routes: Sequence[Route] = [Route("GET", "/", _welcome), *table, *_refusals(table)]

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> str:
        """``?token``, then ``X-Consul-Token``, then a bearer token."""
        asked = query.get("token")
        if asked and asked[0]:
            return asked[0]
        secret = headers.get("x-consul-token")
        if secret:
            return secret
        authorization = headers.get("authorization", "")
        return authorization[len(_BEARER) :].strip() if authorization[: len(_BEARER)].lower() == _BEARER else ""

    def error(self, error: TownhallError, request: Request | None) -> Reply:
        """Plain text, and the status that clients branch on."""
        return errors.reply(error)

    def no_route(self, method: str, path: str, allowed: Sequence[str]) -> Reply:
        """404, or 405 with what is allowed."""
        if not allowed:
            return errors.no_such_path(path)
        return errors.method_not_allowed(method, allowed)


def _replaced(table: Sequence[Route], extra: Sequence[Route]) -> list[Route]:
    given = {(route.method, route.pattern): route for route in extra}
    found = [given.pop((route.method, route.pattern), route) for route in table]
    return [*found, *given.values()]


def _guarded(route: Route) -> Route:
    """Refuse control characters in what the path captures, as the real server does before it looks at anything."""
    if "{" not in route.pattern:
        return route
    inner = route.handler
    # Keys are bytes. All other names are text: one with an escape that is not UTF-8 can be asked for, but not be made.
    text_only = route.method != "GET" and not route.pattern.startswith("/v1/kv/")

    def handler(request: Request, reader: Reader) -> Verb:
        path = request.path
        if not path.isprintable() and any(not _passable(character) for character in path):
            return Reply(400)
        if text_only and any(not segment.isprintable() for segment in request.segments.values()):
            return Reply(400)
        return inner(request, reader)

    return route._replace(handler=handler)


def _passable(character: str) -> bool:
    # An escape that is not UTF-8 comes as a surrogate; Go reads it as a character that can be printed.
    return character.isprintable() or "\udc80" <= character <= "\udcff"


def _welcome(request: Request, reader: Reader) -> Verb:
    return Reply(200, _NO_UI, (), errors.PLAIN_TEXT)


def _refusals(table: Sequence[Route]) -> list[Route]:
    """OPTIONS and HEAD for every path: Consul answers the first with its list alone and refuses the second."""
    methods: dict[str, list[str]] = {}
    for route in table:
        methods.setdefault(route.pattern, []).append(route.method)
    return [
        Route(method, pattern, _always(errors.method_not_allowed(method, tuple(names))))
        for pattern, names in methods.items()
        for method in ("OPTIONS", "HEAD")
        if method not in names
    ]


def _always(reply: Reply) -> Handler:
    return lambda request, reader: reply
