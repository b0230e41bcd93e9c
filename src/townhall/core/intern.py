"""Sharing of equal values, so that a million instances do not hold a million copies of the same tags."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec.structs import replace

from townhall.model import limits
from townhall.model.instance import Instance

__all__ = ["Interner"]

Value = TypeVar("Value", str, int)

_EMPTY: dict[str, Any] = {}


class Interner:
    """Bounded tables of values seen lately. A full table is emptied: sharing is a saving, never a promise."""

    __slots__ = ("_dicts", "_texts", "_tuples")

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._tuples: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._dicts: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}

    def text(self, value: str) -> str:
        """An equal text, shared where possible."""
        table = self._texts
        known = table.get(value)
        if known is not None:
            return known
        if len(table) >= limits.INTERNED_COUNT_MAX:
            table.clear()
        table[value] = value
        return value

    def tags(self, value: tuple[str, ...]) -> tuple[str, ...]:
        """An equal tuple, shared where possible."""
        if not value:
            return ()
        table = self._tuples
        known = table.get(value)
        if known is not None:
            return known
        if len(table) >= limits.INTERNED_COUNT_MAX:
            table.clear()
        text = self.text
        value = tuple([text(tag) for tag in value])
        table[value] = value
        return value

    def pairs(self, value: dict[str, Value]) -> dict[str, Value]:
        """An equal dictionary in the same order, shared where possible. Nobody may change it."""
        if not value:
            return _EMPTY
        table = self._dicts
        items = tuple(value.items())
        known = table.get(items)
        if known is not None:
            return known
        if len(table) >= limits.INTERNED_COUNT_MAX:
            table.clear()
        text = self.text
        shared = {text(name): content for name, content in value.items()}
        table[items] = shared
        return shared

    def instance(self, value: Instance) -> Instance:
        """An equal instance, its values shared where possible."""
        known, text = self._texts.get, self.text
        address, protocol, claim, origin = value.address, value.protocol, value.claim, value.origin
        region, zone, cluster, node = value.region, value.zone, value.cluster, value.node
        ports, weight, extra = value.ports, value.weight, value.extra
        return replace(
            value,
            address=known(address) or text(address),
            ports=self.pairs(ports) if ports else _EMPTY,
            tags=self.tags(value.tags),
            metadata=self.pairs(value.metadata),
            weight=1.0 if weight == 1.0 else weight,
            region=region and (known(region) or text(region)),
            zone=zone and (known(zone) or text(zone)),
            cluster=cluster and (known(cluster) or text(cluster)),
            claim=claim and (known(claim) or text(claim)),
            protocol=known(protocol) or text(protocol),
            origin=origin and (known(origin) or text(origin)),
            node=node and (known(node) or text(node)),
            extra=self.pairs(extra) if extra else _EMPTY,
        )
