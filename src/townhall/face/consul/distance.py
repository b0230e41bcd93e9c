"""``?near=``: which of two nodes is nearer to a third, by the network coordinates that agents have reported.

A coordinate is Vivaldi's: a point, a height above it, and an adjustment. The round trip between two nodes is estimated
as the distance of their points with both heights, and the adjustments as far as the sum stays above zero. The node
that is asked for comes first in any case, those without a coordinate last, in the order they had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from townhall.core import Interest, KeyRange
from townhall.core.queries import Reader
from townhall.face.consul.kv_shapes import key_bytes
from townhall.model.errors import TownhallError

__all__ = ["SPACE", "Place", "nearness", "revision", "round_trip", "watched"]

SPACE: Final = "consul.coordinates"
_OWN_NAMES: Final = frozenset({"_agent", "_ip"})
Rank = Callable[[str], tuple[bool, float]]
"""Sorts nodes by their names, the nearest first."""


class Place(msgspec.Struct, rename="pascal", frozen=True):
    """Where a node is."""

    vec: tuple[float, ...] = ()
    error: float = 1.5
    adjustment: float = 0
    height: float = 0


class _Report(msgspec.Struct, rename="pascal"):
    coord: Place


_reports = msgspec.json.Decoder(_Report)


def watched(near: str) -> Sequence[Interest]:
    """What changes an order by distance."""
    return (KeyRange(SPACE, b"\0", b"\0"),) if near else ()


def revision(reader: Reader, near: str) -> int:
    """Tells orders by distance apart that were made before and after a report."""
    return reader.space_revision(SPACE) if near else 0


def nearness(reader: Reader, near: str, own: str) -> Rank:
    """How near nodes are to one, ``_agent`` the server's own; '' is on the server's own too."""
    wanted = own if near in _OWN_NAMES else near
    here = _place(reader, wanted)

    def rank(name: str) -> tuple[bool, float]:
        node = name or own
        if node == wanted:
            return False, 0
        there = _place(reader, node) if here is not None else None
        return True, math.inf if here is None or there is None else round_trip(here, there)

    return rank


def round_trip(one: Place, other: Place) -> float:
    """Estimated seconds from one to the other and back; infinite between places of different dimensions."""
    if len(one.vec) != len(other.vec) or not one.vec:
        return math.inf
    distance = math.dist(one.vec, other.vec) + one.height + other.height
    adjusted = distance + one.adjustment + other.adjustment
    return adjusted if adjusted > 0 else distance


def _place(reader: Reader, node: str) -> Place | None:
    try:
        kv = reader.get(SPACE, key_bytes(node))
        return _reports.decode(kv.value).coord if kv is not None else None
    except (TownhallError, msgspec.MsgspecError):
        # Who may not see a node is not told how far it is; none has such a name; or somebody wrote it by other means.
        return None
