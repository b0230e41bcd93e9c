"""etcd's own naming convention: ``{"Op":0,"Addr":"host:port","Metadata":…}`` (go.etcd.io/etcd/client/v3/naming).

What ``endpoints.Manager`` writes and grpc-go's resolver reads. A value with any other member is an application's own
JSON and no instance; so is one with Op 1, which old clients wrote to delete, and one without an address that can be
called. Metadata may be anything. Of an object, those members are the catalogue's own fields whose names and types
fit (weight, tags, region, zone, cluster, ports); the rest is metadata, values that are no text as their JSON. What is
no object stands under ``Metadata``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from townhall.core.layouts import Entry
from townhall.core.layouts.values import checked, endpoint, json_of, number_of, object_of, plain, text_of, weight_of

__all__ = ["Naming"]

_ALONE = "Metadata"


class _Update(msgspec.Struct, forbid_unknown_fields=True):
    Op: int = 0
    Addr: str = ""
    Metadata: Any = None


_updates = msgspec.json.Decoder(_Update)


class Naming:
    """See the head of this file."""

    name = "naming"

    def read(self, value: bytes, *, service: str, id: str) -> Entry | None:  # noqa: A002
        """See ``Layout``."""
        update = object_of(value, _updates)
        where = endpoint(update.Addr, url=False) if update is not None and update.Op == 0 else None
        if update is None or where is None:
            return None
        metadata = update.Metadata
        if isinstance(metadata, dict):
            return _with_fields(metadata, where[1], where[2])
        alone = {} if metadata is None else plain({_ALONE: metadata})
        return checked(Entry(address=where[1], port=where[2], metadata=alone))

    def write(self, entry: Entry, *, service: str, id: str) -> bytes | None:  # noqa: A002
        """See ``Layout``."""
        if not entry.port:
            return None
        metadata: object = _members(entry) or None
        if metadata is not None and metadata == {_ALONE: entry.metadata.get(_ALONE)}:
            metadata = entry.metadata[_ALONE]
        return json_of({"Op": 0, "Addr": text_of(entry.address, entry.port), "Metadata": metadata})


def _with_fields(metadata: dict[str, Any], address: str, port: int) -> Entry | None:
    fields: dict[str, Any] = {}
    rest = dict(metadata)
    weight = weight_of(rest.get("weight"))
    if weight is not None:
        fields["weight"] = weight
    tags, ports = rest.get("tags"), rest.get("ports")
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        fields["tags"] = tuple(dict.fromkeys(tags))
    if isinstance(ports, dict) and all(type(number) is int for number in ports.values()):
        fields["ports"] = ports
    fields.update({name: rest[name] for name in ("region", "zone", "cluster") if isinstance(rest.get(name), str)})
    for name in fields:
        del rest[name]
    return checked(Entry(address=address, port=port, metadata=plain(rest), **fields))


def _members(entry: Entry) -> dict[str, Any]:
    members: dict[str, Any] = dict(entry.metadata)
    if entry.weight != 1:
        members["weight"] = number_of(entry.weight)
    if entry.tags:
        members["tags"] = list(entry.tags)
    if entry.ports:
        members["ports"] = entry.ports
    members.update({name: getattr(entry, name) for name in ("region", "zone", "cluster") if getattr(entry, name)})
    return members
