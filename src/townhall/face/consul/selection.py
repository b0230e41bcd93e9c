"""Which instances a read of ``/v1/catalog`` and ``/v1/health`` shows, and by which index it waits for their changes.

Both families select alike and differ in their rows; prepared queries select by the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from townhall.core import Interest
from townhall.core.queries import Reader
from townhall.face import Request, Verb
from townhall.face.consul import distance
from townhall.face.consul.blocking import Read, answer
from townhall.face.consul.picture import Picture, index_of, service_key
from townhall.face.consul.rendering import Rendering
from townhall.face.consul.requests import ReadOptions, read_options, required
from townhall.face.consul.shapes import connects_to
from townhall.model.instance import DEFAULT_NAMESPACE, Instance

__all__ = [
    "EVERYTHING",
    "LISTING",
    "ServiceRead",
    "connecting",
    "everything_index",
    "listing_index",
    "matches_meta",
    "near_first",
]

_Item = TypeVar("_Item")
_Rows = Callable[[Reader, Sequence[Instance]], bytes]
"""Makes the JSON list of what was found."""

LISTING: Sequence[Interest] = (("services", DEFAULT_NAMESPACE),)
EVERYTHING: Sequence[Interest] = (("services", DEFAULT_NAMESPACE), ("checks", ""), ("nodes", ""))


def listing_index(reader: Reader) -> int:
    """The index of the set of services with their counts, tags and metadata."""
    return index_of(reader.listing_revision(DEFAULT_NAMESPACE))


def everything_index(reader: Reader) -> int:
    """The index of what shows nodes, services and checks together."""
    return max(listing_index(reader), index_of(reader.checks_revision()), index_of(reader.nodes_revision()))


class ServiceRead:
    """A read of the instances of one service, which the path names. Raises ``FaceError`` for parameters that are wrong."""

    def __init__(self, rendering: Rendering, request: Request) -> None:
        self.name = required(request, "service", "Missing service name")
        self.options = read_options(request, rendering.site)
        self._rendering = rendering
        self._request = request

    def instances(self, reader: Reader, what: Hashable, rows: _Rows) -> Verb:
        """Those of it that have all tags of ``?tag``. ``what`` names the kind of ``rows``."""
        picture, options = self._rendering.picture, self.options
        name = picture.spelled(reader, self.name)
        key = service_key(name)
        tags = tuple(self._request.query.get("tag", ()))
        asked: Hashable = (what, name, tags, options.node_meta, options.near, options.filter)

        def index(reader: Reader) -> int:
            return picture.service_index(reader, key)

        def render(reader: Reader) -> bytes:
            def make() -> bytes:
                found = picture.instances(reader, name)
                return rows(reader, [one for one in found if all(tag in one.tags for tag in tags)])

            state = (asked, distance.revision(reader, options.near))
            return self._rendering.answer(reader, state, index(reader), make)

        return answer(self._request, reader, options, Read((key, *distance.watched(options.near)), index, render))

    def connecting(self, reader: Reader, rows: _Rows) -> Verb:
        """What is connected to for it. A service that is new may be its proxy, so the listing is watched, too."""
        picture = self._rendering.picture
        keys = {one.key for one in connecting(picture, reader, self.name)}

        def index(reader: Reader) -> int:
            return max([listing_index(reader), *(picture.service_index(reader, key) for key in keys)])

        def render(reader: Reader) -> bytes:
            return rows(reader, connecting(picture, reader, self.name))

        return answer(self._request, reader, self.options, Read((*LISTING, *keys), index, render))


def connecting(picture: Picture, reader: Reader, name: str) -> list[Instance]:
    """What is connected to for a service: the proxies that stand before it, and its own instances that need none."""
    return [
        one for other in picture.names(reader) for one in picture.instances(reader, other) if connects_to(one, name)
    ]


def near_first(
    reader: Reader, found: Sequence[_Item], node_of: Callable[[_Item], str], near: str, own: str
) -> Sequence[_Item]:
    """By the distance of their nodes from the one that the caller is near to."""
    if not near:
        return found
    rank = distance.nearness(reader, near, own)
    return sorted(found, key=lambda item: rank(node_of(item)))


def matches_meta(picture: Picture, reader: Reader, name: str, options: ReadOptions) -> bool:
    """Whether the node has all the metadata asked for."""
    node = picture.node(reader, name)
    return node is not None and all(node.meta.get(key) == value for key, value in options.node_meta)
