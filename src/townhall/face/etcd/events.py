"""Events as bytes, shared: what many watchers hear of is encoded once for each distinct form.

``News`` is what one watch hears next: a payload (field 11 of a WatchResponse, once for each event) and up to which
revision it tells. All watches of one form that have come equally far share it, on whatever streams they are; only the
watch's id and the prefix before it differ. The whole of small news is kept for the id that asked last, because the
watch of a client that has only one on its stream has the same id as those of all others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from townhall.core import KeyRange
from townhall.core.queries import Reader
from townhall.face.etcd.member import SPACE
from townhall.model.keys import KeyEvent
from townhall.wire.etcd import fragments

__all__ = ["Events", "Form", "News", "Terms"]

EVENTS_COUNT_MAX: Final = 1_000
"""Events that a watch is told at a time; etcd catches up by as many revisions."""
EVENTS_SIZE_MAX: Final = 1_048_576
"""A message of events is closed at this size, between two revisions; and so is what one turn tells a stream."""
_WHOLE_SIZE_MAX: Final = 16_384
"""News up to this size is kept as it is said to one id; larger pieces are dearer to copy than to frame again."""
_KEPT_COUNT_MAX: Final = 10_000
"""Encoded events and payloads that are kept; enough for what watchers are behind by, and then it begins anew."""


class Terms(NamedTuple):
    """How a watch wants its events."""

    start: bytes
    end: bytes
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False


class Form:
    """All watches that want the same: one object for them, which is its own key."""

    __slots__ = ("__weakref__", "interest", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.interest = KeyRange(SPACE, terms.start, terms.end)


class News:
    """What comes next for a watch."""

    __slots__ = ("_id", "_told", "after", "more", "payloads", "size")

    def __init__(self, payloads: Sequence[Sequence[bytes]], after: int, *, more: bool) -> None:
        self.payloads = payloads
        """The events, one message's after another's; none when there is nothing to tell."""
        self.after = after
        """All events up to this revision are in it."""
        self.more = more
        """Further ones stand already."""
        self.size = sum(sum(map(len, events)) for events in payloads)
        """Bytes of all events."""
        self._id: int | None = None
        self._told = b""

    def messages(self, header: bytes, id_: int) -> Sequence[bytes]:
        """In pieces, framed, for the watch with this id. The header is that of the revision they were made at."""
        if id_ == self._id:
            return (self._told,)
        head = header + fragments.watch_id(id_)
        if self.size <= _WHOLE_SIZE_MAX and len(self.payloads) == 1:
            self._id, self._told = id_, b"".join(message(head, self.payloads[0]))
            return (self._told,)
        pieces: list[bytes] = []
        for events in self.payloads:
            pieces += message(head, events)
        return pieces


def message(head: bytes, events: Sequence[bytes]) -> Sequence[bytes]:
    """One WatchResponse in pieces, framed."""
    size = len(head) + (len(events[0]) if len(events) == 1 else sum(map(len, events)))
    return (_prefix(0, size), head, *events)


_prefix: Final = struct.Struct(">BI").pack
_Key = tuple[Form, int]


class Events:
    """Encoded events of the space."""

    __slots__ = ("_encoded", "_forms", "_news", "_revision")

    def __init__(self) -> None:
        self._encoded: dict[tuple[int, bytes, bool], bytes] = {}
        self._news: dict[_Key, News] = {}
        self._revision = 0
        """The space's revision that ``_news`` is true at."""
        self._forms: WeakValueDictionary[Terms, Form] = WeakValueDictionary()

    def form(self, terms: Terms) -> Form:
        """The one of these terms."""
        form = self._forms.get(terms)
        if form is None:
            form = self._forms[terms] = Form(terms)
        return form

    def known(self, reader: Reader, revision: int) -> dict[_Key, News]:
        """News that the reader may share, at the space's present revision."""
        if not reader.free_in(SPACE):
            return {}
        if revision != self._revision or len(self._news) >= _KEPT_COUNT_MAX:
            self._news = {}
            self._revision = revision
        return self._news

    def news(self, reader: Reader, known: dict[_Key, News], form: Form, after: int) -> News:
        """What a watch of this form that has been told up to ``after`` hears next. Raises Compacted."""
        news = known.get((form, after))
        if news is None:
            news = known[form, after] = self._make(reader, form.terms, after)
        return news

    def _make(self, reader: Reader, terms: Terms, after: int) -> News:
        limit, revision = EVENTS_COUNT_MAX, reader.space_revision(SPACE)
        events = reader.key_events(SPACE, terms.start, terms.end, after, limit=limit)
        more = len(events) >= limit
        told = events[-1].revision if more else max(after, revision)
        if terms.no_put or terms.no_delete:
            events = [event for event in events if not (terms.no_delete if event.after is None else terms.no_put)]
        return News(self._payloads(events, before=terms.prev_kv), told, more=more)

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
