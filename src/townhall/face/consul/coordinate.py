"""``/v1/coordinate``: network coordinates. Nobody measures them here; what agents report is kept and given back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from townhall.core import KeyRange, Outcome
from townhall.core.commands import Transact
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import Read, answer, encode, json_reply, policy
from townhall.face.consul.bodies import Body
from townhall.face.consul.distance import SPACE
from townhall.face.consul.kv_shapes import key_bytes
from townhall.face.consul.picture import Picture
from townhall.face.consul.requests import check_datacenter, decode_body, read_options, required
from townhall.face.consul.site import Site, Sited
from townhall.model.errors import TownhallError
from townhall.model.keys import KeyValue, Put, Transaction

__all__ = ["SPACE", "Coordinate", "routes"]

_ALL = (b"\0", b"\0")
_ORIGIN = {"Vec": [0] * 8, "Error": 1.5, "Adjustment": 0, "Height": 1e-05}
"""Where a lone server stands."""


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    coordinate = Coordinate(face.site)
    return (
        Route("GET", "/v1/coordinate/datacenters", coordinate.datacenters),
        Route("GET", "/v1/coordinate/nodes", coordinate.nodes),
        Route("GET", "/v1/coordinate/node/{node...}", coordinate.node),
        Route("PUT", "/v1/coordinate/update", coordinate.update),
    )


class Coordinate:
    """Handlers of coordinates."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._picture = Picture(site)

    def datacenters(self, request: Request, reader: Reader) -> Verb:
        """This datacenter with its one server."""
        own = {"Node": self._site.node, "Segment": "", "Coord": _ORIGIN}
        shown = {"Datacenter": self._site.datacenter, "AreaID": "wan", "Coordinates": [own]}
        return json_reply(reader, read_options(request, self._site), [shown])

    def nodes(self, request: Request, reader: Reader) -> Verb:
        """All that were reported."""
        read = Read(
            (KeyRange(SPACE, *_ALL),),
            lambda reader: reader.space_revision(SPACE),
            lambda reader: encode([shown for kv in reader.range(SPACE, *_ALL).kvs for shown in _shown(kv)]),
        )
        return answer(request, reader, read_options(request, self._site), read)

    def node(self, request: Request, reader: Reader) -> Verb:
        """One node's, in a list."""
        key = key_bytes(required(request, "node", "Missing node name"))
        options = read_options(request, self._site)
        if reader.get(SPACE, key) is None and not options.index:
            return Reply(404, headers=(policy(reader),))

        def render(reader: Reader) -> bytes | Reply:
            kv = reader.get(SPACE, key)
            return Reply(404) if kv is None else encode(_shown(kv))

        return answer(
            request, reader, options, Read((KeyRange(SPACE, key),), lambda reader: reader.space_revision(SPACE), render)
        )

    def update(self, request: Request, reader: Reader) -> Verb:
        """Keep a report of a node that is known; of others it is dropped, as Consul does."""
        options = read_options(request, self._site)
        body = Body(decode_body(request), None)
        check_datacenter(request, self._site, body.text("Datacenter"))
        node, place = body.text("Node"), body.child("Coord", None)
        if place is None or self._picture.node(reader, node) is None or not node:
            return json_reply(reader, options, None)
        vector = place.raw("Vec")
        content = {
            "Node": node, "Segment": body.text("Segment"),
            "Coord": {
                "Vec": vector if isinstance(vector, list) and all(map(_is_number, vector)) else [],
                **{name: _number(place.raw(name)) for name in ("Error", "Adjustment", "Height")},
            },
        }  # fmt: skip

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            if isinstance(outcomes[0], TownhallError):
                raise outcomes[0]
            return json_reply(reader, options, None)

        put = Put(key_bytes(node), encode(content))
        return Submit((Transact(space=SPACE, transaction=Transaction(success=(put,))),), render)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    return value if _is_number(value) else 0


def _shown(kv: KeyValue) -> list[dict[str, Any]]:
    try:
        return [msgspec.json.decode(kv.value, type=dict[str, Any])]
    except msgspec.MsgspecError:
        return []  # Somebody wrote it into the space by other means.
