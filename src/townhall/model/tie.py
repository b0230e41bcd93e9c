"""Ties: which keys of a space are instances of the catalogue, and where instances are shown as keys."""

from __future__ import annotations

import enum

import msgspec

from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE

__all__ = ["Direction", "Tie"]


class Direction(enum.StrEnum):
    """Which side is the truth."""

    IMPORT = "import"
    """The keys: each that can be read is an instance."""
    EXPORT = "export"
    """The catalogue: each callable instance is a key, which nobody else may write."""


class Tie(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One prefix of keys, tied to one group of one namespace in the words of one layout."""

    space: str
    prefix: bytes
    layout: str
    """A name in ``core.layouts.LAYOUTS``."""
    direction: Direction
    namespace: str = DEFAULT_NAMESPACE
    group: str = DEFAULT_GROUP
