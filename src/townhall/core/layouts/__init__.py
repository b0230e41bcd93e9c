"""Layouts: how the programs of one library write an instance as a key, as pure functions in both directions.

All of them name the service and the instance in the key, ``<prefix><service>/<rest>``, and say where it is in the
value. Which key it is therefore follows from the names alone (``core.layouts.keys``), whatever the value says, and a
``Layout`` is about values: ``read`` gives an ``Entry``, or None for what is no instance, ``write`` a value, or None
for what cannot be said in it. Neither ever raises: a key that is no instance is simply a key.

What a layout reads is part of the journal's meaning, because ``evolve`` reads the keys again when it replays. So a
layout that has been released may not read anything differently: another reading is another name in ``LAYOUTS``
(docs/decisions/0006). What survives each way is the table in docs/protocols/etcd-layouts.md, which a test holds
against the code.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from townhall.model.instance import Instance

__all__ = ["FIELDS", "Entry", "Layout", "entry_of"]


class Entry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a value says of an instance: those fields of ``Instance`` that any layout knows."""

    address: str
    port: int
    ports: dict[str, int] = {}
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    weight: float = 1.0
    region: str = ""
    zone: str = ""
    cluster: str = ""


FIELDS = Entry.__struct_fields__


class Layout(Protocol):
    """One way to write instances as values. Without state, so one object serves all."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        ...

    def read(self, value: bytes, *, service: str, id: str) -> Entry | None:  # noqa: A002 - the catalogue's word
        """The instance that the value of the key with these names describes; None: it is simply a key."""
        ...

    def write(self, entry: Entry, *, service: str, id: str) -> bytes | None:  # noqa: A002
        """A value that the library's clients understand; None: there is none for this instance (it has no port)."""
        ...


def entry_of(instance: Instance) -> Entry:
    """What of an instance a layout may write."""
    return Entry(**{name: getattr(instance, name) for name in FIELDS})
