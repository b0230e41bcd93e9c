"""Events as bytes, shared: what many watchers hear of is encoded once for each distinct form.

``News`` is what one watch hears next: a payload (field 11 of a WatchResponse, once for each event) and up to which
revision it tells. All watches of one range that have come equally far share it, on whatever streams they are; only the
watch's id and the prefix before it differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from townhall.core.queries import Reader
from townhall.face.etcd.member import SPACE
from townhall.model.keys import KeyEvent
from townhall.wire.etcd import fragments

__all__ = ["Events", "Form", "News"]

EVENTS_COUNT_MAX: Final = 1_000
"""Events that a watch is told at a time; etcd catches up by as many revisions."""
EVENTS_SIZE_MAX: Final = 1_048_576
"""A message of events is closed at this size, between two revisions; and so is what one turn tells a stream."""
_KEPT_COUNT_MAX: Final = 10_000
"""Encoded events and payloads that are kept; enough for what watchers are behind by, and then it begins anew."""


class Form(NamedTuple):
    """How a watch wants its events."""

    start: bytes
    end: bytes
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False


class News(NamedTuple):
    """What comes next for a watch."""

    payloads: Sequence[Sequence[bytes]]
    """The events, one message's after another's; none when there is nothing to tell."""
    after: int
    """All events up to this revision are in it."""
    more: bool
    """Further ones stand already."""


_Key = tuple[Form, int]


class Events:
    """Encoded events of the space."""

    __slots__ = ("_encoded", "_news", "_revision")

    def __init__(self) -> None:
        self._encoded: dict[tuple[int, bytes, bool], bytes] = {}
        self._news: dict[_Key, News] = {}
        self._revision = 0
        """The space's revision that ``_news`` is true at."""

    def news(self, reader: Reader, form: Form, after: int) -> News:
        """What a watch of this form that has been told up to ``after`` hears next. Raises Compacted."""
        revision = reader.space_revision(SPACE)
        if not reader.free_in(SPACE):
            return self._make(reader, form, after, revision)
        if revision != self._revision or len(self._news) >= _KEPT_COUNT_MAX:
            self._news.clear()
            self._revision = revision
        key = (form, after)
        news = self._news.get(key)
        if news is None:
            news = self._news[key] = self._make(reader, form, after, revision)
        return news

    def _make(self, reader: Reader, form: Form, after: int, revision: int) -> News:
        limit = EVENTS_COUNT_MAX
        events = reader.key_events(SPACE, form.start, form.end, after, limit=limit)
        more = len(events) >= limit
        told = events[-1].revision if more else max(after, revision)
        if form.no_put or form.no_delete:
            events = [event for event in events if not (form.no_delete if event.after is None else form.no_put)]
        return News(self._payloads(events, before=form.prev_kv), told, more)

    def _payloads(self, events: Sequence[KeyEvent], *, before: bool) -> Sequence[Sequence[bytes]]:
        """Encoded, and cut between two revisions where a message would become large."""
        if len(events) == 1:
            return ((self._event(events[0], before=before),),)
        messages: list[list[bytes]] = []
        size, revision = EVENTS_SIZE_MAX, 0
        for event in events:
            if size >= EVENTS_SIZE_MAX and event.revision != revision:
                messages.append([])
                size = 0
            piece = self._event(event, before=before)
            messages[-1].append(piece)
            size += len(piece)
            revision = event.revision
        return messages

    def _event(self, event: KeyEvent, *, before: bool) -> bytes:
        key = (event.revision, event.key, before)
        piece = self._encoded.get(key)
        if piece is None:
            piece = fragments.event(event, before=before)
            if len(self._encoded) >= _KEPT_COUNT_MAX:
                self._encoded.clear()
            self._encoded[key] = piece
        return piece
