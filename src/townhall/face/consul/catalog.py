"""``/v1/catalog``: nodes, services and what is on which; registration of what no agent speaks for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter

from townhall.core.queries import Reader
from townhall.face import Request, Route, Verb
from townhall.face.consul import distance
from townhall.face.consul import filter as bexpr
from townhall.face.consul.blocking import Read, answer, encode, json_reply
from townhall.face.consul.external import Externals
from townhall.face.consul.picture import Picture, index_of
from townhall.face.consul.rendering import Rendering, array
from townhall.face.consul.requests import ReadOptions, read_options, required
from townhall.face.consul.selection import (
    EVERYTHING,
    LISTING,
    ServiceRead,
    everything_index,
    listing_index,
    matches_meta,
    near_first,
)
from townhall.face.consul.shapes import service_id
from townhall.face.consul.unseen import empty_when_unseen
from townhall.model.instance import Instance

__all__ = ["Catalog"]


class Catalog:
    """Handlers of ``/v1/catalog``."""

    def __init__(self, rendering: Rendering) -> None:
        self.rendering = rendering
        self.picture: Picture = rendering.picture
        self.site = rendering.site

    def routes(self) -> Sequence[Route]:
        """The rows of the table."""
        externals = Externals(self.picture)
        return (
            Route("PUT", "/v1/catalog/register", externals.register),
            Route("PUT", "/v1/catalog/deregister", externals.deregister),
            Route("GET", "/v1/catalog/datacenters", self.datacenters),
            Route("GET", "/v1/catalog/nodes", self.nodes),
            Route("GET", "/v1/catalog/services", self.services),
            Route("GET", "/v1/catalog/service/{service...}", empty_when_unseen(self.site, self.service)),
            Route("GET", "/v1/catalog/connect/{service...}", self.connect),
            Route("GET", "/v1/catalog/node/{node...}", self.node),
            Route("GET", "/v1/catalog/node-services/{node...}", self.node_services),
            Route("GET", "/v1/catalog/gateway-services/{gateway...}", self.gateway),
        )

    def datacenters(self, request: Request, reader: Reader) -> Verb:
        """Ours alone."""
        return json_reply(reader, read_options(request, self.site), [self.site.datacenter])

    def nodes(self, request: Request, reader: Reader) -> Verb:
        """All nodes."""
        options = read_options(request, self.site)
        bexpr.predicate(options.filter, bexpr.NODE)

        def render(reader: Reader) -> bytes:
            found = [
                node
                for node in self.picture.nodes(reader)
                if all(node.meta.get(key) == value for key, value in options.node_meta)
            ]
            if options.near:
                rank = distance.nearness(reader, options.near, self.site.node)
                found.sort(key=lambda node: rank(node.name))
            return array(bexpr.keep([self.rendering.node(node) for node in found], options.filter, bexpr.NODE))

        return answer(
            request,
            reader,
            options,
            Read(
                (("nodes", ""), *distance.watched(options.near)),
                lambda reader: index_of(reader.nodes_revision()),
                render,
            ),
        )

    def services(self, request: Request, reader: Reader) -> Verb:
        """The names of all services with their tags."""
        options = read_options(request, self.site)
        bexpr.predicate(options.filter, bexpr.CATALOG_SERVICE)
        plain = not options.filter and not options.node_meta
        asked: Hashable = ("services", options.node_meta, options.filter)

        def render(reader: Reader) -> bytes:
            make = (lambda: self._names(reader)) if plain else (lambda: self._selected(reader, options))
            return self.rendering.answer(
                reader, asked, listing_index(reader) if plain else everything_index(reader), make
            )

        if plain:
            return answer(request, reader, options, Read(LISTING, listing_index, render))
        return answer(request, reader, options, Read(EVERYTHING, everything_index, render))

    def _names(self, reader: Reader) -> bytes:
        shown = {
            summary.key.name: summary.tags
            for summary in reader.services("default")
            if summary.instances and summary.key.group == "default"
        }
        shown.setdefault("consul", ())
        return encode(shown)

    def _selected(self, reader: Reader, options: ReadOptions) -> bytes:
        """The names of the services of which at least one instance passes."""
        passes = bexpr.predicate(options.filter, bexpr.CATALOG_SERVICE)
        shown: dict[str, set[str]] = {}
        for name in dict.fromkeys((*self.picture.names(reader), "consul")):
            for instance in self.picture.instances(reader, name):
                if options.node_meta and not matches_meta(self.picture, reader, instance.node, options):
                    continue
                if passes is not None and not self._row_passes(reader, instance, passes):
                    continue
                shown.setdefault(name, set()).update(instance.tags)
        return encode({name: sorted(tags) for name, tags in sorted(shown.items())})

    def _row_passes(self, reader: Reader, instance: Instance, passes: bexpr.Row) -> bool:
        rows = self._rows(reader, [instance], ReadOptions())
        return bool(rows) and passes(bexpr.decode(rows[0]))

    def service(self, request: Request, reader: Reader) -> Verb:
        """The instances of a service, healthy or not."""
        read = ServiceRead(self.rendering, request)
        return read.instances(reader, "service", self._rows_for(read.options))

    def connect(self, request: Request, reader: Reader) -> Verb:
        """The proxies that stand before a service, and its instances that need none."""
        read = ServiceRead(self.rendering, request)
        return read.connecting(reader, self._rows_for(read.options))

    def gateway(self, request: Request, reader: Reader) -> Verb:
        """Nothing: there are no gateways."""
        required(request, "gateway", "Missing gateway name")
        options = read_options(request, self.site)
        return answer(request, reader, options, Read((), lambda reader: 0, lambda reader: b"[]"))

    def _rows_for(self, options: ReadOptions) -> Callable[[Reader, Sequence[Instance]], bytes]:
        bexpr.predicate(options.filter, bexpr.CATALOG_SERVICE)

        def rows(reader: Reader, found: Sequence[Instance]) -> bytes:
            return array(bexpr.keep(self._rows(reader, found, options), options.filter, bexpr.CATALOG_SERVICE))

        return rows

    def _rows(self, reader: Reader, found: Sequence[Instance], options: ReadOptions) -> list[bytes]:
        rows = []
        for instance in near_first(reader, found, attrgetter("node"), options.near, self.site.node):
            node = self.picture.node(reader, instance.node)
            if node is None or any(node.meta.get(key) != value for key, value in options.node_meta):
                continue
            rows.append(self.rendering.catalog_row(node, instance))
        return rows

    def node(self, request: Request, reader: Reader) -> Verb:
        """A node with its services by id."""
        return self._node(request, reader, listed=False)

    def node_services(self, request: Request, reader: Reader) -> Verb:
        """A node with the list of its services."""
        return self._node(request, reader, listed=True)

    def _node(self, request: Request, reader: Reader, *, listed: bool) -> Verb:
        name = required(request, "node", "Missing node name")
        options = read_options(request, self.site)
        bexpr.predicate(options.filter, bexpr.NODE_SERVICE)

        def render(reader: Reader) -> bytes:
            node = self.picture.node(reader, name)
            if node is None:
                return b'{"Node":null,"Services":null}' if listed else b"null"
            shown = self._listed(reader, name, options) if listed else self._by_id(reader, name, options)
            return b'{"Node":%b,"Services":%b}' % (self.rendering.node(node), shown)

        picture = self.picture
        return answer(
            request, reader, options,
            Read(picture.node_interests(name), lambda reader: picture.node_index(reader, name), render),
        )  # fmt: skip

    def _on_node(self, reader: Reader, name: str) -> list[Instance]:
        found = self.picture.on_node(reader, name)
        return [self.picture.own_service, *found] if name == self.site.node else found

    def _listed(self, reader: Reader, name: str, options: ReadOptions) -> bytes:
        rows = [self.rendering.service(instance) for instance in self._on_node(reader, name)]
        return array(bexpr.keep(rows, options.filter, bexpr.NODE_SERVICE))

    def _by_id(self, reader: Reader, name: str, options: ReadOptions) -> bytes:
        passes = bexpr.predicate(options.filter, bexpr.NODE_SERVICE)
        members = []
        for instance in self._on_node(reader, name):
            row = self.rendering.service(instance)
            if passes is None or passes(bexpr.decode(row)):
                members.append(b"%b:%b" % (encode(service_id(instance, self.site)), row))
        return b"{%b}" % b",".join(members)
