"""Ties in force: which key is which instance, and under which keys an instance is shown.

Both follow from names alone, so they can be asked of what is gone, and footprints need no values. An imported
instance has the id ``<space>:<key>``: no two keys make the same one, and nobody else's registration does by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from townhall.core.keyspace import TO_THE_END
from townhall.core.layouts import FIELDS, entry_of
from townhall.core.layouts.keys import Place, key_of, place_of, prefix_end
from townhall.core.layouts.table import LAYOUTS
from townhall.model import names
from townhall.model.errors import InvalidField
from townhall.model.instance import Instance, ServiceKey
from townhall.model.keys import KeyValue
from townhall.model.tie import Direction, Tie

__all__ = ["Name", "Ties", "below", "instance_of", "overlap", "same_definition", "value_of"]

Name = tuple[ServiceKey, str]
"""What names an instance."""


class Ties:
    """A set of ties, found by space, by group and by name. Their prefixes do not overlap."""

    __slots__ = ("all", "exports", "exports_in", "heads", "imports", "prefixes")

    def __init__(self, ties: Sequence[Tie]) -> None:
        self.all = tuple(ties)
        self.imports: dict[str, list[Tie]] = {}
        """By space."""
        self.exports_in: dict[str, list[Tie]] = {}
        """By space."""
        self.exports: dict[tuple[str, str], list[Tie]] = {}
        """By namespace and group."""
        for tie in self.all:
            if tie.direction is Direction.IMPORT:
                self.imports.setdefault(tie.space, []).append(tie)
            else:
                self.exports_in.setdefault(tie.space, []).append(tie)
                self.exports.setdefault((tie.namespace, tie.group), []).append(tie)
        self.prefixes = {space: tuple(tie.prefix for tie in found) for space, found in self.imports.items()}
        """By space: what keys that are instances begin with. Most keys are none, which is told in one look."""
        self.heads = tuple(f"{space}:" for space in self.imports)
        """What the ids of imported instances begin with."""

    def import_of(self, space: str, key: bytes) -> Tie | None:
        """The tie that makes a key an instance, if its value can be read."""
        if not key.startswith(self.prefixes.get(space, ())):
            return None
        return next(tie for tie in self.imports[space] if key.startswith(tie.prefix))

    def made_by(self, space: str, key: bytes) -> Name | None:
        """The instance that a key makes, if its value can be read."""
        tie = self.import_of(space, key)
        return None if tie is None else _name(tie, key)

    def source_of(self, key: ServiceKey, id: str) -> tuple[Tie, bytes] | None:  # noqa: A002 - the catalogue's word
        """The key that makes the instance of this name, should it stand."""
        if not id.startswith(self.heads):
            return None
        space, _, text = id.partition(":")
        found = text.encode()
        tie = self.import_of(space, found)
        return None if tie is None or _name(tie, found) != (key, id) else (tie, found)

    def shown_as(self, key: ServiceKey, id: str) -> Iterator[tuple[Tie, bytes]]:  # noqa: A002
        """The keys under which an instance of this name is shown while it is callable."""
        for tie in self.exports.get((key.namespace, key.group), ()):
            found = key_of(tie.prefix, Place(key.name, id))
            if found.startswith(tie.prefix):
                yield tie, found


def _name(tie: Tie, key: bytes) -> Name | None:
    place = place_of(tie.prefix, key)
    if place is None:
        return None
    try:
        id_ = names.instance_id(f"{tie.space}:{key.decode()}")
    except InvalidField:
        return None
    return ServiceKey(tie.namespace, tie.group, place.service), id_


def instance_of(tie: Tie, kv: KeyValue) -> Instance | None:
    """The instance that a key makes, without what ``evolve`` derives; None when it makes none."""
    name = _name(tie, kv.key)
    place = place_of(tie.prefix, kv.key)
    if name is None or place is None:
        return None
    entry = LAYOUTS[tie.layout].read(kv.value, service=place.service, id=place.id)
    if entry is None:
        return None
    fields = {field: getattr(entry, field) for field in FIELDS}
    return Instance(key=name[0], id=name[1], lease=kv.lease, protocol=tie.space, **fields)


def same_definition(one: Instance, other: Instance) -> bool:
    """Whether two instances differ in nothing that a key says."""
    return one.lease == other.lease and one.protocol == other.protocol and entry_of(one) == entry_of(other)


def value_of(tie: Tie, instance: Instance | None) -> bytes | None:
    """What an instance is shown as; None when it is not shown: only what may be called is."""
    if instance is None or not instance.callable:
        return None
    return LAYOUTS[tie.layout].write(entry_of(instance), service=instance.key.name, id=instance.id)


def below(tie: Tie) -> tuple[bytes, bytes]:
    """The range of the tie's keys."""
    return tie.prefix or b"\0", prefix_end(tie.prefix)


def overlap(tie: Tie, start: bytes, end: bytes) -> tuple[bytes, bytes] | None:
    """What of the range ``[start, end)`` lies below the tie; None when nothing does."""
    first, last = below(tie)
    if not end:
        return (start, b"") if start.startswith(tie.prefix) else None
    low = max(start, first)
    high = last if end == TO_THE_END else end if last == TO_THE_END else min(end, last)
    return (low, high) if high == TO_THE_END or low < high else None
