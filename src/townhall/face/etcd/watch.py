"""The Watch service: many watches on one stream, each a cursor on a range of keys.

What etcd promises holds by construction: a watch pulls events of the space's history above the revision it was told
last, so they come ordered, once, whole revisions at a time and without gaps, however slow its peer is; one that falls
off the history that is kept is told so and cancelled. A change only notes which watches it concerns; the pull that
follows tells them in slices, so that ten thousand watches of one key do not hold up the rest.

Requests are answered as etcd 3.6 does: a refused watch by one message (created and canceled, id -1), one from a
compacted revision by two; what makes no sense on the stream is not answered at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from townhall.core import Command
from townhall.core.keyspace import TO_THE_END
from townhall.core.queries import Reader
from townhall.face import Duplex, Follow, Pulled, Step, Stream, Unfollow, Verb
from townhall.face.etcd.errors import COMPACTED, words_of
from townhall.face.etcd.events import EVENTS_SIZE_MAX, Events, Form, News, Terms, message
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.etcd.requests import MESSAGE_SIZE_MAX
from townhall.face.grpc import Call, Code, Kind, Method, framed
from townhall.model import limits
from townhall.model.errors import Compacted, Denied, Unauthenticated
from townhall.wire.etcd import fragments
from townhall.wire.etcd import watch as wire
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

__all__ = ["WatchService", "WatchStream"]

FRAGMENT_SIZE_MAX: Final = 1_572_864
"""A watch that wants fragments gets messages smaller than this, etcd's limit for a request."""
WATCHES_SLICE_COUNT: Final = 256
"""Watches of one stream that are told in one turn of the loop: about a millisecond."""
_NO_WATCH: Final = -1
"""The id in answers that concern no watch."""
_EMPTY_RANGE: Final = "mvcc: watcher range is empty"
_DUPLICATE: Final = "mvcc: duplicate watch ID provided on the WatchStream"
_FRAGMENT: Final = b"\x38\x01"


class WatchService:
    """``etcdserverpb.Watch``."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._events = Events()

    def methods(self) -> Sequence[Method]:
        """The rows of the face's table."""
        return [Method("/etcdserverpb.Watch/Watch", self.watch, Kind.DUPLEX, MESSAGE_SIZE_MAX)]

    def watch(self, call: Call, reader: Reader) -> Verb:
        """A stream of watches."""
        return WatchStream(self._identity, self._events).duplex()


class _Watch:
    """One watch: how far it has been told."""

    __slots__ = ("_floor", "_woken", "after", "due", "form", "fragment", "id", "live", "lost", "progress", "quiet")

    def __init__(self, id_: int, form: Form, after: int, woken: list[_Watch]) -> None:
        self.id = id_
        self.form = form
        self.after = after
        self.fragment = False
        self.progress = False
        """It wants to be told how far it is when it was quiet for a while."""
        self.quiet = False
        """Nothing was told since the last tick."""
        self.live = True
        self.due = False
        """It stands in line to be told."""
        self.lost = False
        """Events that it had to hear of are forgotten."""
        self._floor = 0
        self._woken = woken

    def wake(self) -> None:
        """There is something to tell, from where it is."""
        if not self.due and self.live:
            self.due = True
            self._woken.append(self)

    def woken(self, revision: int) -> None:
        """Its range has changed, at this revision for the first time since it was told everything.

        So nothing in the range lies between, and a compaction up to there has taken nothing from it: a watch of a quiet
        key lives on while the history of others is forgotten.
        """
        if self._floor:
            self.lost = self.lost or 0 < revision < self._floor
            self._floor = 0
        if not self.due and self.live:
            self.after = max(self.after, revision - 1)
            self.due = True
            self._woken.append(self)

    def skip(self, compacted: int) -> None:
        """Go on above what is forgotten, trusting that nothing there concerned it; ``woken`` finds out otherwise."""
        self.after, self._floor = compacted - 1, compacted


class WatchStream:
    """The watches of one call."""

    __slots__ = ("_checked", "_dead", "_events", "_header", "_next_id", "_progress_due", "_quiet", "_watches", "_woken")

    def __init__(self, identity: Identity, events: Events) -> None:
        self._header = identity.header
        self._events = events
        self._watches: dict[int, _Watch] = {}
        self._woken: list[_Watch] = []
        self._next_id = 0
        self._dead: list[Unfollow] = []
        """Watches that were cancelled within a pull, whose cursors are still there."""
        self._progress_due = False
        """Progress was asked for, and is told when all watches have caught up."""
        self._quiet: list[_Watch] = []
        """Those that are told how far they are, when all watches have caught up."""
        self._checked = 0
        """All watches have been told up to this revision of the space."""

    def duplex(self) -> Duplex:
        """What the driver runs."""
        stream = Stream((), self.pull, heartbeat_ms=limits.WATCH_PROGRESS_MS, tick=self.tick)
        return Duplex(stream, self.receive, self.closed, outlives_input=True)

    def tick(self) -> None:
        """Watches that asked for it and were told nothing since the last tick are told how far they are."""
        for watch in self._watches.values():
            if watch.progress and watch.quiet:
                self._quiet.append(watch)
            watch.quiet = True

    def closed(self, clean: bool) -> Sequence[Command]:
        """Nothing is left behind."""
        return ()

    # --- what the client says

    def receive(self, reader: Reader, data: bytes) -> Sequence[Step]:
        """One request. What is none is ignored."""
        request = decode(wire.WatchRequest, data)
        steps: list[Step] = list(self._dead)
        self._dead.clear()
        if request.create_request is not None:
            steps += self._create(reader, request.create_request)
        elif request.cancel_request is not None:
            steps += self._cancel(reader, request.cancel_request.watch_id)
        elif request.progress_request is not None:
            steps += self._progress(reader)
        return steps

    def _create(self, reader: Reader, request: wire.WatchCreateRequest) -> Sequence[Step]:
        start, end = request.key or b"\0", request.range_end
        reason = self._refusal(reader, request, start, end)
        revision = reader.space_revision(SPACE)
        if reason:
            refused = wire.WatchResponse(watch_id=_NO_WATCH, created=True, canceled=True, cancel_reason=reason)
            return (self._message(revision, encode(refused)),)
        watch = self._add(request, start, end, revision)
        created = self._message(revision, encode(wire.WatchResponse(watch_id=watch.id, created=True)))
        if watch.after + 1 < reader.space_compacted(SPACE):
            return (created, self._compacted(watch, reader.space_compacted(SPACE)))
        if watch.after < revision:
            watch.wake()
        self._checked = min(self._checked, watch.after)
        return (created, self._follow(watch))

    @staticmethod
    def _follow(watch: _Watch) -> Follow:
        return Follow(watch.form.interest, watch.wake, watch.id, watch.woken)

    def _refusal(self, reader: Reader, request: wire.WatchCreateRequest, start: bytes, end: bytes) -> str:
        try:
            reader.require_range(SPACE, start, end)
        except (Denied, Unauthenticated) as error:
            code, text = words_of(error)
            return f"rpc error: code = {_camel(code)} desc = {text}"
        if end and end != TO_THE_END and start >= end:
            return _EMPTY_RANGE
        if request.watch_id in self._watches and request.watch_id != 0:
            return _DUPLICATE
        return COMPACTED.text if request.start_revision < 0 else ""

    def _add(self, request: wire.WatchCreateRequest, start: bytes, end: bytes, revision: int) -> _Watch:
        id_ = request.watch_id
        if not id_:
            while self._next_id in self._watches:
                self._next_id += 1
            id_ = self._next_id
            self._next_id += 1
        no_put = wire.FilterType.NOPUT in request.filters
        no_delete = wire.FilterType.NODELETE in request.filters
        form = self._events.form(Terms(start, end, request.prev_kv, no_put, no_delete))
        after = request.start_revision - 1 if request.start_revision else revision
        watch = self._watches[id_] = _Watch(id_, form, after, self._woken)
        watch.fragment, watch.progress = request.fragment, request.progress_notify
        return watch

    def _cancel(self, reader: Reader, id_: int) -> Sequence[Step]:
        watch = self._watches.pop(id_, None)
        if watch is None:
            return ()
        watch.live = False
        cancelled = wire.WatchResponse(watch_id=id_, canceled=True)
        return (self._message(reader.space_revision(SPACE), encode(cancelled)), Unfollow(id_))

    def _progress(self, reader: Reader) -> Sequence[Step]:
        """Tell what is due, whether or not its wake-up has come yet, and then how far that is."""
        revision = reader.space_revision(SPACE)
        if self._checked < revision:
            compacted = reader.space_compacted(SPACE)
            for watch in self._watches.values():
                if not watch.due and watch.after + 1 < compacted:
                    watch.skip(compacted)
                if watch.after < revision:
                    watch.wake()
            self._checked = revision
        self._progress_due = True
        pulled = self.pull(reader)
        told: Step = pulled.data if pulled is not None else b""
        if not self._progress_due:
            return (told,)
        watch = self._woken[0]  # Followed anew, so that the driver goes on pulling until all is told.
        return (told, self._follow(watch))

    # --- what it is told

    def pull(self, reader: Reader) -> Pulled | None:
        """What the watches that were woken have to hear, as many of them as one turn allows."""
        woken, told = self._woken, list[bytes]()
        revision = reader.space_revision(SPACE)
        if woken:
            self._tell_woken(reader, revision, told)
        if not woken:
            if self._progress_due:
                self._progress_due = False
                told.append(self._message(revision, fragments.watch_id(_NO_WATCH)))
            for one in self._quiet:
                self._tell_progress(reader, one, revision, told)
            self._quiet.clear()
        return Pulled(b"".join(told), more=bool(woken)) if told or woken else None

    def _tell_woken(self, reader: Reader, revision: int, told: list[bytes]) -> None:
        woken, known = self._woken, self._events.known(reader, revision)
        size = count = 0
        for watch in woken:  # Those that have more to hear stand in line again, behind all others.
            if count >= WATCHES_SLICE_COUNT or size >= EVENTS_SIZE_MAX:
                break
            watch.due = False
            count += 1
            if watch.live:
                size += self._tell(reader, known, watch, revision, told)
        del woken[:count]

    def _tell_progress(self, reader: Reader, watch: _Watch, revision: int, told: list[bytes]) -> None:
        """How far a quiet watch is; first what has happened since, whose wake-up may be still to come."""
        if watch.live and watch.after < revision:
            compacted = reader.space_compacted(SPACE)
            if watch.after + 1 < compacted:
                watch.skip(compacted)
            self._tell(reader, self._events.known(reader, revision), watch, revision, told)
        if watch.live and watch.quiet and watch.after >= revision:
            told.append(self._message(revision, fragments.watch_id(watch.id)))

    def _tell(
        self, reader: Reader, known: dict[tuple[Form, int], News], watch: _Watch, revision: int, told: list[bytes]
    ) -> int:
        try:
            if watch.lost:
                raise Compacted("events of a watch are forgotten")
            news = self._events.news(reader, known, watch.form, watch.after)
        except Compacted:
            told.append(self._compacted(watch, reader.space_compacted(SPACE)))
            self._dead.append(Unfollow(watch.id))
            return len(told[-1])
        watch.after = news.after
        if news.more:
            watch.wake()
        if not news.payloads:
            return 0
        watch.quiet = False
        header = self._header.at(revision)
        if watch.fragment and news.size >= FRAGMENT_SIZE_MAX:
            for events in news.payloads:
                told += _in_fragments(header + fragments.watch_id(watch.id), events)
        else:
            told += news.messages(header, watch.id)
        return news.size

    def _message(self, revision: int, body: bytes) -> bytes:
        return framed(self._header.at(revision) + body)

    def _compacted(self, watch: _Watch, compacted: int) -> bytes:
        """The end of a watch whose events are forgotten. Its header tells no revision."""
        self._watches.pop(watch.id, None)
        watch.live = False
        response = wire.WatchResponse(watch_id=watch.id, canceled=True, compact_revision=compacted)
        return self._message(0, encode(response))


def _in_fragments(head: bytes, events: Sequence[bytes]) -> Sequence[bytes]:
    """As many messages as needed for none to be larger than a request may be; all but the last say that more follows."""
    told: list[bytes] = []
    first = 0
    room = sum(map(len, events))
    while room >= FRAGMENT_SIZE_MAX and len(events) - first > 1:
        last, taken = first, 0
        while last < len(events) - 1 and (last == first or taken + len(events[last]) < FRAGMENT_SIZE_MAX):
            taken += len(events[last])
            last += 1
        told += message(head + _FRAGMENT, events[first:last])
        room -= taken
        first = last
    told += message(head, events[first:])
    return told


def _camel(code: Code) -> str:
    return "".join(part.capitalize() for part in code.name.split("_"))
