"""Cursors: who waits for what, and waking them in slices.

A commit makes views stale and marks the cursors it concerns before its writer is answered; the marked cursors are woken
afterwards, ``FANOUT_SLICE_COUNT`` per turn of the loop, so that ten thousand watchers of one service do not keep
everybody else waiting. Where more than that wait for one interest, they are marked in such slices as well, and their
crowd is what is marked at once. A cursor is a mark, not a queue: however much happens while it is not armed, it is
woken once and looks at the present.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from townhall.core import Changes, Interest
from townhall.core.interest import InterestIndex
from townhall.model import limits
from townhall.model.errors import OverLimit

__all__ = ["Cursor", "Cursors", "Freshness"]

_log = logging.getLogger(__name__)

VIEWS_COUNT_MAX: Final = 100_000
"""Views that are fresh at once; beyond, the oldest goes stale early, which costs one rendering."""


_NOTHING: Final[Mapping[str, int]] = {}


class Cursor:
    """One watcher's place; implements ``hub.Ticket``."""

    __slots__ = ("_armed", "_changed", "_cursors", "interests", "live", "since", "wake")

    def __init__(self, cursors: Cursors, interests: tuple[Interest, ...], wake: Callable[[], None]) -> None:
        self._cursors = cursors
        self._armed = True
        self._changed = False
        self.interests = interests
        self.wake = wake
        self.live = True
        self.since = _NOTHING

    def touch(self, since: Mapping[str, int] = _NOTHING) -> None:
        """Something in its interests changed, by writes of which ``since`` are the first, by their space."""
        if not self._changed:
            self._changed = True
            self.since = since
            if self._armed:
                self._cursors.ready(self)

    def arm(self) -> None:
        """Ask for one more wake-up, which comes at once when something changed since the last one."""
        if not self._armed and self.live:
            self._armed = True
            if self._changed:
                self._cursors.ready(self)

    def fire(self) -> None:
        """Wake it, unless it was cancelled while it stood in line."""
        if self.live:
            # Before the call: what changes while the watcher looks counts for its next wake-up.
            self._armed = self._changed = False
            self.wake()

    def cancel(self) -> None:
        """No more wake-ups; idempotent."""
        if self.live:
            self.live = False
            self._cursors.forget(self)


class Freshness:
    """The validity of a rendered answer; implements ``core.View``."""

    __slots__ = ("_cursors", "fresh", "interests")

    def __init__(self, cursors: Cursors, interests: tuple[Interest, ...]) -> None:
        self._cursors = cursors
        self.interests = interests
        self.fresh = True

    def touch(self, since: Mapping[str, int] = _NOTHING) -> None:
        """Something in its interests changed: what was rendered is stale for good."""
        if self.fresh:
            self.fresh = False
            self._cursors.expire(self)


class Cursors:
    """All cursors and views over one interest index."""

    __slots__ = (
        "_crowds", "_index", "_loop", "_marking", "_ready", "_since", "_sliced", "_unmarked", "_view_index", "_views", "count",
        "wake_errors", "wakes",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._index: InterestIndex[Cursor] = InterestIndex()
        self._view_index: InterestIndex[Freshness] = InterestIndex()
        self._ready: deque[Cursor] = deque()
        self._crowds: dict[int, tuple[dict[Cursor, None], Mapping[str, int]]] = {}
        """Crowds that changed and whose cursors are not marked yet, by identity, with the first of the writes."""
        self._marking: Iterator[Cursor] = iter(())
        """Those of the crowd that is being marked who are still to be; a change from now on counts for all of it again."""
        self._unmarked = 0
        self._since = _NOTHING
        self._sliced = False
        """A slice is scheduled."""
        self._views: OrderedDict[tuple[Interest, ...], Freshness] = OrderedDict()
        self.count = 0
        self.wakes = 0
        self.wake_errors = 0

    @property
    def views(self) -> int:
        """Views that are fresh."""
        return len(self._views)

    @property
    def waiting(self) -> int:
        """Cursors that stand in line to be woken, or to be looked at for that."""
        return len(self._ready) + self._unmarked + sum(len(crowd) for crowd, _ in self._crowds.values())

    def watch(self, interests: Sequence[Interest], wake: Callable[[], None]) -> Cursor:
        """An armed cursor. Raises OverLimit when there are ``CURSORS_COUNT_MAX`` already."""
        if self.count >= limits.CURSORS_COUNT_MAX:
            raise OverLimit("too many watchers", advice="close some, or poll", limit=limits.CURSORS_COUNT_MAX)
        cursor = Cursor(self, tuple(interests), wake)
        self._index.add(cursor.interests, cursor)
        self.count += 1
        return cursor

    def view(self, interests: Sequence[Interest]) -> Freshness:
        """The view of these interests that is fresh now; one for all who ask between two changes."""
        key = tuple(interests)
        view = self._views.get(key)
        if view is None:
            if len(self._views) >= VIEWS_COUNT_MAX:
                self._views[next(iter(self._views))].touch()
            view = self._views[key] = Freshness(self, key)
            self._view_index.add(key, view)
        return view

    def publish(self, changes: Changes) -> None:
        """Make views stale and put cursors in line. Nobody is woken from within this call."""
        for view in self._view_index.match(changes):
            view.touch()
        firsts = changes.firsts
        for crowd in self._index.crowds(changes):
            if len(crowd) <= limits.FANOUT_SLICE_COUNT:
                for cursor in crowd:
                    cursor.touch(firsts)
            elif id(crowd) not in self._crowds:
                # It is kept with its identity, so nothing else can take that meanwhile.
                self._crowds[id(crowd)] = (crowd, firsts)
                self._schedule()

    def touch(self, interests: Iterable[Interest]) -> None:
        """The same for interests that no commit changes: ``("drain", ServiceKey)``."""
        for interest in interests:
            for view in self._view_index.waiters(interest):
                view.touch()
            for cursor in self._index.waiters(interest):
                cursor.touch()

    # --- for cursors and views

    def ready(self, cursor: Cursor) -> None:
        """Put a cursor in line."""
        self._ready.append(cursor)
        self._schedule()

    def forget(self, cursor: Cursor) -> None:
        """Take a cancelled cursor out of the index."""
        self._index.remove(cursor.interests, cursor)
        self.count -= 1

    def expire(self, view: Freshness) -> None:
        """Take a stale view out of the index."""
        self._view_index.remove(view.interests, view)
        del self._views[view.interests]

    # --- slices

    def _schedule(self) -> None:
        if not self._sliced:
            self._sliced = True
            self._loop.call_soon(self._slice)

    def _slice(self) -> None:
        ready = self._ready
        for _ in range(min(len(ready), limits.FANOUT_SLICE_COUNT)):
            cursor = ready.popleft()
            try:
                cursor.fire()
            except Exception:
                # One watcher's broken connection or face must not keep the others from hearing.
                self.wake_errors += 1
                _log.exception("waking a cursor failed")
            self.wakes += 1
        # They are woken in the next turn: the first slice leaves the writer's answer its way.
        if self._unmarked or self._crowds:
            self._mark()
        self._sliced = False
        if ready or self._unmarked or self._crowds:
            self._schedule()

    def _mark(self) -> None:
        if not self._unmarked:
            crowd, self._since = self._crowds.pop(next(iter(self._crowds)))
            self._unmarked = len(crowd)
            self._marking = iter(list(crowd))
        for cursor in islice(self._marking, limits.FANOUT_SLICE_COUNT):
            cursor.touch(self._since)
        self._unmarked = max(self._unmarked - limits.FANOUT_SLICE_COUNT, 0)
