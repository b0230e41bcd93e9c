"""Keys: read, list, write, delete, compare-and-set, transactions, history, and watching them."""

from __future__ import annotations

from collections.abc import Sequence

from townhall.core import KeyRange, Outcome
from townhall.core.commands import CompactSpace, RangeResult, Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Headers, Park, Pulled, Reply, Request, Stream, Verb
from townhall.face.native import outcomes, problems
from townhall.face.native.key_shapes import (
    CompactBody,
    CompactView,
    DeletedView,
    KeysView,
    KeyView,
    TransactionBody,
    TransactionView,
    WrittenView,
    event_view,
    key_bytes,
    key_text,
    key_view,
    prefix_end,
    transaction_of,
    transaction_view,
)
from townhall.face.native.operations import Operation
from townhall.face.native.rendering import encode, position_header, reply
from townhall.face.native.requests import AFTER, WAIT, Flag, Text, Whole, lease_id
from townhall.face.native.watching import LEAVING, STREAM_HEADERS
from townhall.model import limits, names
from townhall.model.errors import Compacted, Conflict, InvalidField, NotFound, TownhallError
from townhall.model.keys import Compare, CompareTarget, Delete, Get, KeyEvent, Put, Relation, Transaction
from townhall.wire import sse
from townhall.wire.strict_json import Strict

__all__ = ["KeyWatch", "operations"]

_COMPACT: Strict[CompactBody] = Strict(CompactBody)
_TRANSACTION: Strict[TransactionBody] = Strict(TransactionBody, recursive=True)

_SPACE = Text("space", "The keyspace.", default="native", size_max=limits.LABEL_SIZE_MAX)
_REVISION = Whole("revision", "Read the key as it was at this revision of its space.")
_RAW = Flag("raw", "Answer the value's bytes and nothing else.")
_PREFIX = Text("prefix", "Keys that begin with this.", size_max=limits.KEY_SIZE_MAX)
_START = Text("start", "Begin after this key: the last one of the page before.", size_max=limits.KEY_SIZE_MAX)
_LIMIT = Whole("limit", "At most this many keys.", default=1_000, least=1, most=limits.RANGE_COUNT_MAX)
_KEYS_ONLY = Flag("keys_only", "Leave the values out.")
_WATCH = Flag("watch", "Stream changes as server-sent events.")
_LEASE = Text("lease", "The key goes when this lease ends.", size_max=20)
_CAS = Whole("cas", "Only while the key's `mod_revision` is this; 0: while there is no such key.")
_CREATE = Flag("create", "Only if there is no such key.")
_EVENTS_PER_ASK = 1_000


def operations() -> list[Operation]:
    """The rows of the table."""
    tag = "keys"
    one = "/kv/{key...}"
    return [
        Operation(
            method="GET", path="/kv", handler=many, summary="List keys, or watch them", tag=tag,
            parameters=(_SPACE, _PREFIX, _START, _LIMIT, _KEYS_ONLY, _WATCH, AFTER), answers={200: KeysView},
            description="With `watch=1` a stream of the events `put` and `delete` (and `ready`, `compacted`, `leaving`), "
            "from `after` on, or from now.",
        ),
        Operation(
            method="DELETE", path="/kv", handler=delete_many, summary="Delete the keys with a prefix", tag=tag,
            parameters=(_SPACE, _PREFIX), answers={200: DeletedView},
        ),
        Operation(
            method="GET", path=one, handler=get, summary="One key", tag=tag,
            parameters=(_SPACE, _REVISION, _RAW, AFTER, WAIT), answers={200: KeyView}, refusals=(404, 410),
            description="With `after` and `wait` a long poll: answered when the key changes after that revision of its "
            "space, which the header X-Townhall-Space-Revision tells.",
        ),
        Operation(
            method="PUT", path=one, handler=put, summary="Write a key; the body is its value", tag=tag,
            parameters=(_SPACE, _LEASE, _CAS, _CREATE), raw_body="application/octet-stream",
            body_size_max=limits.VALUE_SIZE_MAX + 1, answers={200: WrittenView}, refusals=(404, 409, 413, 429),
        ),
        Operation(
            method="DELETE", path=one, handler=delete, summary="Delete a key", tag=tag, parameters=(_SPACE, _CAS),
            answers={200: DeletedView}, refusals=(409,),
        ),
        Operation(
            method="POST", path="/txn", handler=transact, summary="A transaction on one space", tag=tag,
            body=TransactionBody, body_size_max=limits.BODY_SIZE_MAX, answers={200: TransactionView},
            refusals=(404, 409, 413, 429),
        ),
        Operation(
            method="POST", path="/kv-compact", handler=compact, summary="Forget the history before a revision", tag=tag,
            body=CompactBody, answers={200: CompactView}, refusals=(404, 410),
        ),
    ]  # fmt: skip


def _space(request: Request) -> str:
    return names.label(_SPACE.read(request), "space")


def _headers(reader: Reader, space: str) -> Headers:
    return (position_header(reader.position), (b"x-townhall-space-revision", b"%d" % reader.space_revision(space)))


# --- reading


def get(request: Request, reader: Reader) -> Verb:
    """One key, now, as it was, or once it changes."""
    space = _space(request)
    key = key_bytes(request.segments["key"])
    revision = _REVISION.read(request)
    raw = _RAW.read(request)
    after = AFTER.given(request)

    def answer(reader: Reader) -> Reply:
        headers = _headers(reader, space)
        kv = reader.get(space, key, revision=revision)
        if kv is None:
            return problems.reply(NotFound(f"no key {key_text(key)!r} in space {space!r}", key=key_text(key)), headers)
        if raw:
            return Reply(200, kv.value, headers, b"application/octet-stream")
        return Reply(200, encode(key_view(kv)), headers)

    if after is None:
        return answer(reader)
    if revision:
        raise InvalidField("revision", "cannot be given together with after")

    def attempt(reader: Reader, expired: bool) -> Reply | None:
        return answer(reader) if expired or _changed(reader, space, key, after) else None

    return Park([KeyRange(space, key)], attempt, WAIT.read(request))


def _changed(reader: Reader, space: str, key: bytes, after: int) -> bool:
    if after > reader.space_revision(space):  # From before a restore: waiting for it would be in vain.
        return True
    try:
        return bool(reader.key_events(space, key, b"", after, limit=1))
    except Compacted:
        return True


def many(request: Request, reader: Reader) -> Verb:
    """The keys with a prefix, page by page, or their changes."""
    reader.require_token()
    space = _space(request)
    prefix = _PREFIX.read(request)
    start = key_bytes(prefix, "prefix") if prefix else b"\0"
    end = prefix_end(start) if prefix else b"\0"
    if _WATCH.read(request):
        return _watch(request, reader, KeyRange(space, start, end))
    if AFTER.given(request) is not None:
        raise InvalidField("after", "goes with watch=1 only")
    begin = _START.read(request)
    # The key right behind another one is that key with a zero byte.
    first = max(start, key_bytes(begin, "start") + b"\0") if begin else start
    keys_only = _KEYS_ONLY.read(request)
    found = _range(reader, KeyRange(space, first, end), _LIMIT.read(request))
    shown = KeysView(
        revision=found.revision,
        count=found.count,
        more=found.more,
        keys=[key_view(kv, keys_only=keys_only) for kv in found.kvs],
    )
    return Reply(200, encode(shown), _headers(reader, space))


def _range(reader: Reader, span: KeyRange, limit: int) -> RangeResult:
    if span.end != b"\0" and span.start >= span.end:
        return RangeResult((), 0, False, reader.space_revision(span.space))
    return reader.range(span.space, span.start, span.end, limit=limit)


def _watch(request: Request, reader: Reader, span: KeyRange) -> Stream:
    resume = request.headers.get("last-event-id")
    after = lease_id(resume, "Last-Event-ID") if resume else AFTER.given(request)
    reader.key_events(span.space, span.start, span.end, reader.space_revision(span.space), limit=1)  # Checks rights.
    watch = KeyWatch(span, after)
    return Stream(
        interests=[span],
        pull=watch.pull,
        headers=(*_headers(reader, span.space), *STREAM_HEADERS),
        heartbeat=sse.HEARTBEAT,
        heartbeat_ms=limits.STREAM_HEARTBEAT_MS,
        leaving=LEAVING,
    )


class KeyWatch:
    """One peer's place in the history of a range of keys."""

    __slots__ = ("_after", "_span", "_started")

    def __init__(self, span: KeyRange, after: int | None) -> None:
        self._span = span
        self._after = after
        self._started = False

    def pull(self, reader: Reader) -> Pulled | None:
        """All events since the last pull. The id goes with the last event of a revision: it tells of whole ones."""
        current = reader.space_revision(self._span.space)
        parts: list[bytes] = []
        if not self._started:
            self._started = True
            ready = sse.event("ready", encode({"revision": current}))
            if self._after is None:
                self._after = current
                return Pulled(sse.identified(ready, current))
            parts.append(ready)
        self._read(reader, current, parts)
        return Pulled(b"".join(parts)) if parts else None

    def _read(self, reader: Reader, current: int, parts: list[bytes]) -> None:
        assert self._after is not None
        space, start, end = self._span
        try:
            if self._after > current:
                raise Compacted(f"revision {self._after} has not been yet", oldest=current)
            while self._after < current:
                events = reader.key_events(space, start, end, self._after, limit=_EVENTS_PER_ASK)
                parts += _render(events)
                self._after = events[-1].revision if len(events) >= _EVENTS_PER_ASK else current
        except Compacted as error:
            told = {"revision": current, "oldest": error.fields.get("oldest", current)}
            parts.append(sse.identified(sse.event("compacted", encode(told)), current))
            self._after = current


def _render(events: Sequence[KeyEvent]) -> list[bytes]:
    rendered = []
    for index, event in enumerate(events):
        part = sse.event("delete" if event.after is None else "put", encode(event_view(event)))
        if index == len(events) - 1 or events[index + 1].revision != event.revision:
            part = sse.identified(part, event.revision)
        rendered.append(part)
    return rendered


# --- writing


def put(request: Request, reader: Reader) -> Verb:
    """Write one key, perhaps on conditions."""
    space = _space(request)
    key = key_bytes(request.segments["key"])
    lease = _LEASE.read(request)
    compares = _conditions(request, key)
    if _CREATE.read(request):
        compares.append(Compare(key, CompareTarget.VERSION, Relation.EQUAL, 0))
    write = Put(key, request.body, lease_id(lease) if lease else 0)
    command = Transact(space=space, transaction=_conditional(compares, write, key))

    def render(reader: Reader, outcome: Outcome) -> Reply:
        result = _result(outcome)
        if not result.succeeded:
            return problems.reply(_conflict(key, result), _headers(reader, space))
        shown = WrittenView(revision=result.revision, created=result.responses[0] is None)
        return Reply(200, encode(shown), _headers(reader, space))

    return outcomes.submit(command, render)


def delete(request: Request, reader: Reader) -> Verb:
    """Delete one key, perhaps only at a revision."""
    space = _space(request)
    key = key_bytes(request.segments["key"])
    transaction = _conditional(_conditions(request, key), Delete(key), key)
    return _delete(space, transaction, key)


def delete_many(request: Request, reader: Reader) -> Verb:
    """Delete all keys with a prefix, which must be given: nobody deletes everything by leaving something out."""
    prefix = _PREFIX.read(request)
    if not prefix:
        raise InvalidField("prefix", "is required", advice="an empty prefix would delete every key of the space")
    start = key_bytes(prefix, "prefix")
    return _delete(_space(request), Transaction(success=(Delete(start, prefix_end(start)),)), start)


def _delete(space: str, transaction: Transaction, key: bytes) -> Verb:
    def render(reader: Reader, outcome: Outcome) -> Reply:
        result = _result(outcome)
        if not result.succeeded:
            return problems.reply(_conflict(key, result), _headers(reader, space))
        removed = result.responses[0]
        assert isinstance(removed, tuple)
        shown = DeletedView(deleted=len(removed), revision=result.revision)
        return Reply(200, encode(shown), _headers(reader, space))

    return outcomes.submit(Transact(space=space, transaction=transaction), render)


def _conditions(request: Request, key: bytes) -> list[Compare]:
    cas = _CAS.given(request)
    return [] if cas is None else [Compare(key, CompareTarget.MOD, Relation.EQUAL, cas)]


def _conditional(compares: list[Compare], write: Put | Delete, key: bytes) -> Transaction:
    # Refused, it reads the key instead, so that the answer can say what is there.
    return Transaction(tuple(compares), (write,), (Get(key, keys_only=True),) if compares else ())


def _result(outcome: Outcome) -> TransactResult:
    assert isinstance(outcome.result, TransactResult)
    return outcome.result


def _conflict(key: bytes, result: TransactResult) -> TownhallError:
    found = result.responses[0]
    assert isinstance(found, RangeResult)
    current = found.kvs[0].mod_revision if found.kvs else 0
    what = f"is at revision {current}" if current else "does not exist"
    return Conflict(
        f"key {key_text(key)!r} {what}", advice="read it and try again", key=key_text(key), mod_revision=current
    )


def transact(request: Request, reader: Reader) -> Verb:
    """Several operations as one."""
    body = _TRANSACTION.decode(request.body)
    space = names.label(body.space, "space")
    transaction = transaction_of(body)

    def render(reader: Reader, outcome: Outcome) -> Reply:
        return Reply(200, encode(transaction_view(transaction, _result(outcome))), _headers(reader, space))

    return outcomes.submit(Transact(space=space, transaction=transaction), render)


def compact(request: Request, reader: Reader) -> Verb:
    """Forget history."""
    body = _COMPACT.decode(request.body)
    space = names.label(body.space, "space")

    def render(reader: Reader, outcome: Outcome) -> Reply:
        return reply(reader, CompactView(compacted=reader.space_compacted(space)))

    return outcomes.submit(CompactSpace(space=space, revision=body.revision), render)
