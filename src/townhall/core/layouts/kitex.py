"""kitex (registry-etcd): ``kitex/registry-etcd/<service>/<addr>`` →
``{"network":"tcp","address":"host:port","weight":10,"tags":{…}}``.

Its tags are pairs, so they are metadata here. Weights are whole numbers, and what is not above 0 counts as 10.
"""

from __future__ import annotations

import msgspec

from townhall.core.layouts import Entry
from townhall.core.layouts.values import checked, endpoint, json_of, object_of, text_of, weight_of

__all__ = ["Kitex"]

_WEIGHT_DEFAULT = 10


class _Info(msgspec.Struct):
    network: str
    address: str
    weight: int = 0
    tags: dict[str, str] | None = None


_infos = msgspec.json.Decoder(_Info)


class Kitex:
    """See the head of this file."""

    name = "kitex"

    def read(self, value: bytes, *, service: str, id: str) -> Entry | None:  # noqa: A002
        """See ``Layout``."""
        found = object_of(value, _infos)
        where = endpoint(found.address, url=False) if found is not None and found.network.startswith("tcp") else None
        if found is None or where is None:
            return None
        weight = weight_of(found.weight if found.weight > 0 else _WEIGHT_DEFAULT)
        if weight is None:
            return None
        return checked(Entry(address=where[1], port=where[2], metadata=dict(found.tags or {}), weight=weight))

    def write(self, entry: Entry, *, service: str, id: str) -> bytes | None:  # noqa: A002
        """See ``Layout``. A weight below one would be read as the default, so one is written."""
        if not entry.port:
            return None
        weight = max(round(entry.weight), 1)
        where = text_of(entry.address, entry.port)
        return json_of({"network": "tcp", "address": where, "weight": weight, "tags": entry.metadata})
