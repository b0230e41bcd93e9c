"""``/v1/health``: instances with their nodes and checks, and checks by service, node and state."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from townhall.core import Interest
from townhall.core.queries import Reader
from townhall.face import Request, Route, Verb
from townhall.face.consul import distance
from townhall.face.consul import filter as bexpr
from townhall.face.consul.blocking import Read, answer
from townhall.face.consul.errors import bad
from townhall.face.consul.picture import Picture, index_of, service_key
from townhall.face.consul.rendering import Rendering, array
from townhall.face.consul.requests import ReadOptions, boolean, read_options, required
from townhall.face.consul.shapes import EXTRA_KIND, EXTRA_PROXY
from townhall.face.consul.unseen import empty_when_unseen
from townhall.model.check import Check
from townhall.model.instance import DEFAULT_NAMESPACE, Instance

__all__ = ["Health", "matches_meta", "near_first"]

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
        name = required(request, "service", "Missing service name")
        options = read_options(request, self.site)
        passing = _passing(request)
        if options.peer:
            return _nothing(request, reader, options)
        name = self.picture.spelled(reader, name)
        tags = tuple(request.query.get("tag", ()))
        asked: Hashable = ("health", name, passing, tags, options.node_meta, options.near, options.filter)
        key = service_key(name)
        bexpr.predicate(options.filter, bexpr.HEALTH)

        def render(reader: Reader) -> bytes:
            def make() -> bytes:
                found = [one for one in self.picture.instances(reader, name) if all(tag in one.tags for tag in tags)]
                return self._rows(reader, found, options, passing=passing)

            name_of_answer = (asked, distance.revision(reader, options.near))
            return self.rendering.answer(reader, name_of_answer, self.picture.service_index(reader, key), make)

        interests = (key, *distance.watched(options.near))
        return answer(
            request, reader, options, Read(interests, lambda reader: self.picture.service_index(reader, key), render)
        )

    def connect(self, request: Request, reader: Reader) -> Verb:
        """The proxies that stand before a service."""
        name = required(request, "service", "Missing service name")
        options = read_options(request, self.site)
        passing = _passing(request)
        bexpr.predicate(options.filter, bexpr.HEALTH)

        def render(reader: Reader) -> bytes:
            found = [
                one
                for proxied in self.picture.names(reader)
                for one in self.picture.instances(reader, proxied)
                if stands_before(one, name)
            ]
            return self._rows(reader, found, options, passing=passing)

        return answer(request, reader, options, Read(LISTING, listing_index, render))

    def ingress(self, request: Request, reader: Reader) -> Verb:
        """Nothing: there are no ingress gateways."""
        required(request, "service", "Missing service name")
        return _nothing(request, reader, read_options(request, self.site))

    def _rows(self, reader: Reader, found: Sequence[Instance], options: ReadOptions, *, passing: bool) -> bytes:
        rows = []
        for instance in near_first(reader, found, options.near, self.site.node):
            if options.node_meta and not matches_meta(self.picture, reader, instance.node, options):
                continue
            row = self.rendering.health_row(reader, instance, passing=passing)
            if row is not None:
                rows.append(row)
        return array(bexpr.keep(rows, options.filter, bexpr.HEALTH))

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

    def _checks(self, request: Request, reader: Reader, interests: object, index: object, found: object) -> Verb:
        options = read_options(request, self.site)
        bexpr.predicate(options.filter, bexpr.CHECK)

        def render(reader: Reader) -> bytes:
            pairs = found(reader)  # type: ignore[operator]
            rows = [
                self.rendering.check(check, instance)
                for check, instance in near_first_checks(reader, pairs, options.near, self.site.node)
                if not options.node_meta or matches_meta(self.picture, reader, check.node, options)
            ]
            return array(bexpr.keep(rows, options.filter, bexpr.CHECK))

        return answer(request, reader, options, Read(interests, index, render))  # type: ignore[arg-type]


LISTING: Sequence[Interest] = (("services", DEFAULT_NAMESPACE),)
EVERYTHING: Sequence[Interest] = (("services", DEFAULT_NAMESPACE), ("checks", ""), ("nodes", ""))


def listing_index(reader: Reader) -> int:
    """The index of the set of services with their counts, tags and metadata."""
    return index_of(reader.listing_revision(DEFAULT_NAMESPACE))


def everything_index(reader: Reader) -> int:
    """The index of what shows nodes, services and checks together."""
    return max(listing_index(reader), index_of(reader.checks_revision()), index_of(reader.nodes_revision()))


def stands_before(instance: Instance, service: str) -> bool:
    """Whether an instance is a proxy for a service."""
    return instance.extra.get(EXTRA_KIND) == "connect-proxy" and (
        f'"DestinationServiceName":"{service}"' in instance.extra.get(EXTRA_PROXY, "")
    )


def near_first(reader: Reader, found: Sequence[Instance], near: str, own: str) -> Sequence[Instance]:
    """By the distance of their nodes from the one that the caller is near to."""
    if not near:
        return found
    rank = distance.nearness(reader, near, own)
    return sorted(found, key=lambda instance: rank(instance.node))


def near_first_checks(
    reader: Reader, found: Sequence[tuple[Check, Instance | None]], near: str, own: str
) -> Sequence[tuple[Check, Instance | None]]:
    """The same for checks."""
    if not near:
        return found
    rank = distance.nearness(reader, near, own)
    return sorted(found, key=lambda pair: rank(pair[0].node))


def matches_meta(picture: Picture, reader: Reader, name: str, options: ReadOptions) -> bool:
    """Whether the node has all the metadata asked for."""
    node = picture.node(reader, name)
    return node is not None and all(node.meta.get(key) == value for key, value in options.node_meta)


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
