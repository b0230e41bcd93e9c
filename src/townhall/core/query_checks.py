"""Queries about nodes and checks; ``queries.Reader`` is how to ask them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from townhall.model.access import Level, Resource
from townhall.model.check import Check, Node
from townhall.model.errors import NotFound
from townhall.model.instance import Instance

if TYPE_CHECKING:
    from townhall.core.queries import Reader
    from townhall.core.state import Service

__all__ = ["check", "node_instances", "nodes", "of_service", "visible"]

_by_name = attrgetter("node", "id")


def nodes(reader: Reader) -> Sequence[Node]:
    """See ``Reader.nodes``."""
    found = [node for node in reader.state.nodes.values() if reader.may(Resource.NODE, Level.READ, node.name)]
    found.sort(key=attrgetter("name"))
    return found


def node_instances(reader: Reader, name: str) -> list[Instance]:
    """See ``Reader.node_instances``."""
    services = reader.state.services
    return [
        services[key].instances[id_]
        for key, id_ in sorted(reader.state.book.instances.get(name, ()))
        if reader.may_service(Level.READ, key)
    ]


def check(reader: Reader, node: str, id: str) -> Check:  # noqa: A002 - the catalogue's word
    """See ``Reader.check``."""
    found = reader.state.checks.get((node, id))
    if found is None or found.key is None:
        reader.require(Resource.NODE, Level.READ, node)
    else:
        reader.require_service(Level.READ, found.key)
    if found is None:
        raise NotFound(f"no check {id!r} on node {node!r}", node=node, check=id)
    return found


def visible(reader: Reader, checks: Iterable[Check]) -> list[Check]:
    """Those that the actor may see, ordered by node and id."""
    return sorted((each for each in checks if _may_see(reader, each)), key=_by_name)


def _may_see(reader: Reader, each: Check) -> bool:
    if each.key is None:
        return reader.may(Resource.NODE, Level.READ, each.node)
    return reader.may_service(Level.READ, each.key)


def of_service(reader: Reader, service: Service) -> list[Check]:
    """See ``Reader.checks_of_service``; the right has been asked for."""
    book = reader.state.book
    if not book.by_instance:
        return []
    found = [each for id_ in service.instances for each in book.of_instance(service.key, id_)]
    found.sort(key=_by_name)
    return found
