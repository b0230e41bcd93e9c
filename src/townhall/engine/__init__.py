"""Engines: an ordered, durable journal of byte entries and a slot for one snapshot.

An engine sees bytes only. Positions are dense and start at 1; position 0 means 'before everything'. One command is
one entry; what arrived while the last group was being made durable is the next group, appended as a whole.

Promises that every engine keeps and ``tests/unit/engine`` checks on all of them:

* When ``append`` returns, the group survives ``kill -9`` and power loss (the memory engine promises neither).
* When ``append`` raises anything but ``OutcomeUnknown``, nothing of the group will ever be seen.
* After ``OutcomeUnknown`` the engine refuses further appends until it is opened again; what was made durable then
  shows.
* ``follow`` yields entries in order, without gap or repeat, and only what is durable.
* A torn last group (a crash while it was written, nothing acknowledged) is dropped at ``open``. Any other damage
  raises ``Damaged`` with the position and how many entries can be saved; nothing is silently cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

__all__ = ["Engine", "Entry", "Opened"]


class Entry(NamedTuple):
    """One journal entry."""

    position: int
    blob: bytes


class Opened(NamedTuple):
    """What ``open`` found."""

    snapshot: int
    """Position of the saved snapshot; 0 when there is none."""
    tail: int
    """Position of the last durable entry, or of the snapshot when there is none after it."""


class Engine(Protocol):
    """The contract. ``append`` is called by one writer at a time; ``follow`` and ``snapshot`` may run beside it."""

    def open(self) -> Opened:
        """Lock and open the store. Raises ``EngineFailed`` (locked, unreadable) or ``Damaged``."""
        ...

    def snapshot(self) -> Iterator[bytes]:
        """The saved snapshot's chunks, as they were given to ``save``: the one that ``open`` or ``save`` here left.

        Raises ``Damaged`` if its checksum is off, ``Compacted`` if another process has replaced it since.
        """
        ...

    def follow(self, after: int) -> Iterator[Entry]:
        """All entries with a position above ``after`` that are durable at the call.

        Raises ``Compacted`` when some were trimmed, ``Damaged`` or ``EngineFailed``.
        """
        ...

    async def append(self, blobs: Sequence[bytes], expect: int) -> int:
        """Append a group behind position ``expect``; returns the position of its last entry.

        Raises ``Conflict`` when the tail is not ``expect`` (somebody else appended), ``TooLarge`` above
        ``GROUP_SIZE_MAX``, ``EngineFull``, ``EngineFailed``, or ``OutcomeUnknown``. Cancelling the caller does not undo the append.
        """
        ...

    def tail(self) -> int:
        """Position of the last durable entry."""
        ...

    def save(self, position: int, chunks: Iterable[bytes]) -> None:
        """Replace the snapshot atomically; blocking, so call it from a thread or another process.

        Raises ``Conflict`` when a newer one is there or ``position`` is not durable, ``EngineFull``, ``EngineFailed``.
        """
        ...

    def trim(self, upto: int) -> None:
        """Forget entries with a position of at most ``upto``; some may stay readable.

        Raises ``Conflict`` when the snapshot does not cover ``upto``, ``EngineFailed``.
        """
        ...

    def close(self) -> None:
        """Sync and release; idempotent."""
        ...
