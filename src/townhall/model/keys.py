"""The values of the keyspaces: keys with their numbers, events, comparisons and operations of a transaction.

One shape serves etcd, Consul KV and ZooKeeper; what a protocol does not have stays at its default. Revisions are
those of the key's own space, which are dense: the first write of a space is revision 2 when the space begins at 1,
as etcd's does.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "Compare",
    "CompareTarget",
    "Delete",
    "Get",
    "KeyEvent",
    "KeyValue",
    "Operation",
    "Put",
    "Relation",
    "Transaction",
]


class KeyValue(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A key at one revision."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0
    flags: int = 0
    """Consul's client flags."""
    session: str = ""
    """Id of the session that holds it as a lock (Consul)."""
    lock_index: int = 0
    """How often it was locked (Consul)."""
    extra: bytes = b""
    """What only one face needs to keep with the key (a ZooKeeper ACL and its counters), opaque here."""


class KeyEvent(msgspec.Struct, frozen=True, gc=False):
    """One key changed: ``after`` is None when it was deleted. ``revision`` is the space's."""

    revision: int
    key: bytes
    after: KeyValue | None
    before: KeyValue | None


class CompareTarget(enum.IntEnum):
    """What a comparison looks at (etcd's numbering, and one more)."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4
    SESSION = 5
    """Who holds it as a lock; an absent key has no holder (Consul)."""


class Relation(enum.IntEnum):
    """How it compares (etcd's numbering)."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class Compare(msgspec.Struct, frozen=True, gc=False):
    """A condition on one key, or on all keys of ``[key, end)``; an empty range compares as an absent key."""

    key: bytes
    target: CompareTarget
    relation: Relation
    value: int | bytes
    """Bytes for VALUE and SESSION (an id in UTF-8), a number for all others."""
    end: bytes = b""


class Get(msgspec.Struct, frozen=True, gc=False, tag="get"):
    """Read ``key``, or ``[key, end)``. ``end`` = NUL means 'to the last key'. ``limit`` 0 means all."""

    key: bytes
    end: bytes = b""
    limit: int = 0
    keys_only: bool = False
    count_only: bool = False
    revision: int = 0
    """Read at this revision instead of the current one; then writes of the same transaction are not seen."""


class Put(msgspec.Struct, frozen=True, gc=False, tag="put"):
    """Write one key."""

    key: bytes
    value: bytes
    lease: int = 0
    flags: int = 0
    session: str | None = None
    """None leaves the lock holder as it is; "" releases; an id takes the lock (Conflict while another holds it)."""
    ignore_value: bool = False
    ignore_lease: bool = False
    extra: bytes | None = None


class Delete(msgspec.Struct, frozen=True, gc=False, tag="delete"):
    """Remove ``key``, or all of ``[key, end)``."""

    key: bytes
    end: bytes = b""


class Transaction(msgspec.Struct, frozen=True, tag="txn"):
    """If all ``compares`` hold do ``success``, else ``failure``; all operations share one revision. Nests."""

    compares: tuple[Compare, ...] = ()
    success: tuple[Operation, ...] = ()
    failure: tuple[Operation, ...] = ()


Operation = Get | Put | Delete | Transaction
