"""``/v1/health``: instances with their nodes and checks, and checks by service, node and state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from townhall.core import Interest
from townhall.core.queries import Reader
from townhall.face import Request, Route, Verb
from townhall.face.consul import filter as bexpr
from townhall.face.consul.blocking import Read, answer
from townhall.face.consul.errors import bad
from townhall.face.consul.picture import Picture, service_key
from townhall.face.consul.rendering import Rendering, array
from townhall.face.consul.requests import ReadOptions, boolean, read_options, required
from townhall.face.consul.selection import EVERYTHING, ServiceRead, everything_index, matches_meta, near_first
from townhall.face.consul.unseen import empty_when_unseen
from townhall.model.check import Check
from townhall.model.instance import Instance

__all__ = ["Health"]

_STATES = frozenset({"passing", "warning", "critical"})


class Health:
    """Handlers of ``/v1/health``."""

    def __init__(self, rendering: Rendering) -> None:
        self.rendering = rendering
        self.picture: Picture = rendering.picture
        self.site = rendering.site

    def routes(self) -> Sequence[Route]:
        """The rows of the table."""
        return (
            Route("GET", "/v1/health/service/{service...}", empty_when_unseen(self.site, self.service)),
            Route("GET", "/v1/health/connect/{service...}", self.connect),
            Route("GET", "/v1/health/ingress/{service...}", self.ingress),
            Route("GET", "/v1/health/checks/{service...}", empty_when_unseen(self.site, self.checks)),
            Route("GET", "/v1/health/node/{node...}", self.node),
            Route("GET", "/v1/health/state/{state...}", self.state),
        )

    # --- instances

    def service(self, request: Request, reader: Reader) -> Verb:
        """The instances of a service, ``?passing`` those whose checks all pass."""
        read = ServiceRead(self.rendering, request)
        passing = _passing(request)
        if read.options.peer:
            return _nothing(request, reader, read.options)
        return read.instances(reader, ("health", passing), self._rows_for(read.options, passing=passing))

    def connect(self, request: Request, reader: Reader) -> Verb:
        """The proxies that stand before a service, and its instances that need none."""
        read = ServiceRead(self.rendering, request)
        return read.connecting(reader, self._rows_for(read.options, passing=_passing(request)))

    def ingress(self, request: Request, reader: Reader) -> Verb:
        """Nothing: there are no ingress gateways."""
        required(request, "service", "Missing service name")
        return _nothing(request, reader, read_options(request, self.site))

    def _rows_for(self, options: ReadOptions, *, passing: bool) -> Callable[[Reader, Sequence[Instance]], bytes]:
        bexpr.predicate(options.filter, bexpr.HEALTH)

        def rows(reader: Reader, found: Sequence[Instance]) -> bytes:
            shown = (
                self.rendering.health_row(reader, instance, passing=passing)
                for instance in near_first(reader, found, attrgetter("node"), options.near, self.site.node)
                if not options.node_meta or matches_meta(self.picture, reader, instance.node, options)
            )
            return array(bexpr.keep([row for row in shown if row is not None], options.filter, bexpr.HEALTH))

        return rows

    # --- checks

    def checks(self, request: Request, reader: Reader) -> Verb:
        """The checks of a service's instances; not those of their nodes."""
        name = required(request, "service", "Missing service name")
        key = service_key(name)

        def found(reader: Reader) -> list[tuple[Check, Instance | None]]:
            return [
                (check, instance)
                for instance in self.picture.instances(reader, name)
                for check in self.picture.service_checks(reader, instance)
            ]

        return self._checks(request, reader, (key,), lambda reader: self.picture.service_index(reader, key), found)

    def node(self, request: Request, reader: Reader) -> Verb:
        """All checks of a node."""
        name = required(request, "node", "Missing node name")
        picture = self.picture
        return self._checks(
            request, reader, picture.node_interests(name), lambda reader: picture.node_index(reader, name),
            lambda reader: picture.all_on_node(reader, name),
        )  # fmt: skip

    def state(self, request: Request, reader: Reader) -> Verb:
        """All checks, or those of one state."""
        wanted = required(request, "state", "Missing check state")
        picture = self.picture

        def found(reader: Reader) -> list[tuple[Check, Instance | None]]:
            if wanted not in _STATES and wanted != "any":
                return []
            # Most instances have neither a node of their own nor a derived check, so nodes are asked, not services.
            every = [pair for node in picture.nodes(reader) for pair in picture.all_on_node(reader, node.name)]
            return [pair for pair in every if wanted in ("any", pair[0].status.value)]

        return self._checks(request, reader, EVERYTHING, everything_index, found)

    def _checks(
        self,
        request: Request,
        reader: Reader,
        interests: Sequence[Interest],
        index: Callable[[Reader], int],
        found: Callable[[Reader], Sequence[tuple[Check, Instance | None]]],
    ) -> Verb:
        options = read_options(request, self.site)
        bexpr.predicate(options.filter, bexpr.CHECK)

        def render(reader: Reader) -> bytes:
            pairs = near_first(reader, found(reader), lambda pair: pair[0].node, options.near, self.site.node)
            rows = [
                self.rendering.check(check, instance)
                for check, instance in pairs
                if not options.node_meta or matches_meta(self.picture, reader, check.node, options)
            ]
            return array(bexpr.keep(rows, options.filter, bexpr.CHECK))

        return answer(request, reader, options, Read(interests, index, render))


def _passing(request: Request) -> bool:
    values = request.query.get("passing")
    if not values:
        return False
    if not values[0]:
        return True
    wanted = boolean(values[0])
    if wanted is None:
        raise bad("Invalid value for ?passing")
    return wanted


def _nothing(request: Request, reader: Reader, options: ReadOptions) -> Verb:
    return answer(request, reader, options, Read((), lambda reader: 0, lambda reader: b"[]"))
