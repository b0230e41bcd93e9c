"""The history of one space: what happened under each revision, found by revision or by key.

The log has one entry per revision, because revisions are dense: the entry of revision r lies at ``r - first``. An
entry is a single ``KeyEvent``, or a tuple of them in the order in which the transaction wrote them. Each event
carries the key's value before and after, so the log can be read in both directions.

Beside it, each key that has more of a history than its creation has the list of its own events, searched by
bisection. The bulk of keys is written once; those have no list, and their only event is found in the log under
their ``mod_revision``. A worked example, with the history before revision 3 forgotten::

    log      2: x made          (forgotten)
             3: x := b          x: [3, 5]      x at 2 was the ``before`` of 3
             4: y made          y: no list, its event is entry 4
             5: x deleted

Forgetting is logical at once and physical in small steps (``purge``), so that compacting a million revisions does not
stop the registry for a second. How far the purge has come follows from the commits alone, never from time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from townhall.model.keys import KeyEvent, KeyValue

__all__ = ["EVENT_OVERHEAD_SIZE", "KEY_OVERHEAD_SIZE", "Entry", "History", "size_of"]

KEY_OVERHEAD_SIZE = 256
"""What a key costs beside its bytes: its value object, two byte headers, its place in the maps. Measured, rounded."""
EVENT_OVERHEAD_SIZE = 96
"""What an event costs beside the values it names."""

_EXACT_COUNT = 64
"""Lists up to this length are purged exactly, from the front; longer ones when half of them may go, so that a key
with a million changes costs no memory moves of its whole list for each of them."""
_COLLAPSE_COUNT = 4_096

Entry = KeyEvent | tuple[KeyEvent, ...]


def _revision(event: KeyEvent) -> int:
    return event.revision


def size_of(kv: KeyValue) -> int:
    """Approximate bytes of memory that a key at one revision takes."""
    return len(kv.key) + len(kv.value) + len(kv.extra) + KEY_OVERHEAD_SIZE


class History:
    """The log and the keys' lists. ``size`` is the approximate number of bytes held beyond the present keys."""

    __slots__ = ("_holes", "_log", "first", "lists", "size")

    def __init__(self, first: int) -> None:
        self.first = first
        """Revision of the oldest entry held; the next one to come when there is none."""
        self.size = 0
        self._log: list[Entry | None] = []
        self._holes = 0
        """Purged entries that still take a place at the front of the log."""
        self.lists: dict[bytes, list[KeyEvent]] = {}
        """Key → its own events, for the keys that have such a list; others look at it, only this class changes it."""

    def __len__(self) -> int:
        """How many revisions are held."""
        return len(self._log) - self._holes

    # --- writing -----------------------------------------------------------------------------------------------------

    def note(self, event: KeyEvent, before_size: int) -> None:
        """Enter an event under its key; ``before_size`` is ``size_of`` its value before, or 0. ``close`` then enters
        the revision as a whole.
        """
        before = event.before
        events = self.lists.get(event.key)
        if events is not None:
            events.append(event)
        elif before is not None:
            self._begin_list(event, before)
        self.size += EVENT_OVERHEAD_SIZE + before_size

    def close(self, entry: Entry) -> None:
        """The revision after the last one consists of this; its events have been noted."""
        self._log.append(entry)

    def _begin_list(self, event: KeyEvent, before: KeyValue) -> None:
        """The key's second event, or its first after its creation was forgotten."""
        if before.mod_revision < self.first:
            self.lists[event.key] = [event]
        elif before.mod_revision == event.revision:  # made by the same transaction, whose entry is not closed yet
            self.lists[event.key] = [KeyEvent(event.revision, event.key, before, None), event]
        else:
            self.lists[event.key] = [self._event_at(before.mod_revision, event.key), event]

    def purge(self, upto: int, count_max: int) -> list[bytes]:
        """Forget up to ``count_max`` entries with a revision below ``upto``.

        Returns the keys of which no event is left after that.
        """
        bare: list[bytes] = []
        log = self._log
        count = min(upto - self.first, count_max, len(self))
        for place in range(self._holes, self._holes + count):
            entry = log[place]
            log[place] = None
            self.first += 1
            self._holes += 1
            assert entry is not None
            for event in entry if isinstance(entry, tuple) else (entry,):
                self.size -= (
                    EVENT_OVERHEAD_SIZE if event.before is None else EVENT_OVERHEAD_SIZE + size_of(event.before)
                )
                if not self._drop(event):
                    bare.append(event.key)
        if self._holes > _COLLAPSE_COUNT and self._holes * 2 > len(log):
            del log[: self._holes]
            self._holes = 0
        return bare

    def _drop(self, event: KeyEvent) -> bool:
        """Take a purged event off its key's list; False when it was the last one there."""
        events = self.lists.get(event.key)
        if events is None:
            return False
        if events[-1] is event:
            del self.lists[event.key]
            return False
        if len(events) <= _EXACT_COUNT:
            del events[0]
        elif events[len(events) // 2].revision < self.first:
            del events[: bisect_left(events, self.first, key=_revision)]
        if len(events) == 1 and events[0].before is None and events[0].after is not None:
            del self.lists[event.key]
        return True

    # --- reading -----------------------------------------------------------------------------------------------------

    def _event_at(self, revision: int, key: bytes) -> KeyEvent:
        entry = self._log[revision - self.first + self._holes]
        assert entry is not None
        if not isinstance(entry, tuple):
            return entry
        for event in entry:
            if event.key == key:
                return event
        raise AssertionError("a key's own number names a revision without it")

    def at(self, key: bytes, revision: int, present: KeyValue | None) -> KeyValue | None:
        """The key as it was at a revision that is not forgotten; ``present`` is how it is now."""
        events = self.lists.get(key)
        if events is None:
            return present if present is not None and present.mod_revision <= revision else None
        place = bisect_right(events, revision, key=_revision)
        return events[place - 1].after if place else events[0].before

    def of_key(self, key: bytes, after: int, present: KeyValue | None) -> Sequence[KeyEvent]:
        """The key's events with a revision above ``after``, none of which is forgotten."""
        events = self.lists.get(key)
        if events is None:
            if present is None or present.mod_revision <= after:
                return ()
            return (self._event_at(present.mod_revision, key),)
        return events[bisect_right(events, after, key=_revision) :]

    def entries(self, after: int) -> Sequence[Entry]:
        """The entries with a revision above ``after``, oldest first."""
        place = max(after + 1 - self.first, 0) + self._holes
        return self._log[place:]  # type: ignore[return-value]  # holes lie in front of ``place`` only

    def pick(self, revisions: Sequence[int]) -> Iterator[Entry]:
        """The entries of these revisions."""
        offset = self._holes - self.first
        for revision in revisions:
            entry = self._log[revision + offset]
            assert entry is not None
            yield entry

    # --- checking ----------------------------------------------------------------------------------------------------

    def check(self, revision: int, live: dict[bytes, KeyValue]) -> None:
        """Assert that log, lists, size and the present keys agree. For tests."""
        assert self.first + len(self) == revision + 1, (self.first, len(self), revision)
        assert all(entry is None for entry in self._log[: self._holes])
        by_key: dict[bytes, list[KeyEvent]] = {}
        size = 0
        for place, entry in enumerate(self.entries(0)):
            events = entry if isinstance(entry, tuple) else (entry,)
            assert events
            for event in events:
                assert event.revision == self.first + place
                assert (event.after or event.before) is not None
                size += EVENT_OVERHEAD_SIZE if event.before is None else EVENT_OVERHEAD_SIZE + size_of(event.before)
                by_key.setdefault(event.key, []).append(event)
        assert size == self.size, (size, self.size)
        for key, own in by_key.items():
            self._check_key(key, own, live.get(key))
        assert self.lists.keys() <= by_key.keys()

    def _check_key(self, key: bytes, events: list[KeyEvent], present: KeyValue | None) -> None:
        assert events[-1].after == present
        for earlier, later in pairwise(events):
            assert later.before == earlier.after
        held = self.lists.get(key)
        if held is None:
            assert len(events) == 1
            assert events[0].before is None
            assert present is not None
            return
        stale = len(held) - len(events)
        assert held[stale:] == events
        assert stale == 0 or len(held) > _EXACT_COUNT
        assert all(event.revision < self.first for event in held[:stale])
