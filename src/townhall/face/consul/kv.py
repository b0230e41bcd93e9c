"""``/v1/kv``: keys, their conditions and locks, over the keyspace ``consul``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from urllib.parse import quote_plus

from townhall.core import Interest, KeyRange, Outcome
from townhall.core.access import key_name
from townhall.core.commands import RangeResult, Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import Read, answer, encode, policy, pretty
from townhall.face.consul.errors import bad, no_such_path
from townhall.face.consul.kv_shapes import (
    SPACE,
    changed_since,
    cut_keys,
    entry,
    key_bytes,
    prefix_span,
    range_index,
)
from townhall.face.consul.requests import check_datacenter, first, flag, read_options
from townhall.face.consul.site import Site, Sited
from townhall.model.access import Level, Resource
from townhall.model.errors import Conflict, NotFound, TownhallError
from townhall.model.keys import Compare, CompareTarget, Delete, Get, KeyValue, Put, Relation, Transaction

__all__ = ["Kv", "routes", "uint"]

_VALUE_SIZE_MAX = 524_288
_ROW_SIZE_MAX = 2 * _VALUE_SIZE_MAX
"""Bodies up to this size are taken in, so that the refusal can say how large they are."""
_UINT64_MAX = 18_446_744_073_709_551_615
_RAW_HEADERS = ((b"X-Content-Type-Options", b"nosniff"), (b"Content-Security-Policy", b"sandbox"))
_HELP = "https://developer.hashicorp.com/docs/agent/config/config-files#kv_max_value_size."


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    kv = Kv(face.site)
    path = "/v1/kv/{key...}"
    return (
        Route("GET", path, kv.get),
        Route("PUT", path, kv.put, body_size_max=_ROW_SIZE_MAX),
        Route("DELETE", path, kv.delete),
    )


class Kv:
    """Handlers of the key/value store."""

    def __init__(self, site: Site) -> None:
        self._site = site

    # --- reading

    def get(self, request: Request, reader: Reader) -> Verb:
        """One key, all with a prefix (``recurse``), or only their names (``keys``)."""
        refused = _refused(request)
        if refused is not None:
            return refused
        options = read_options(request, self._site)
        key = key_bytes(request.segments["key"])
        query = request.query
        if "keys" in query:
            separator = first(request, "separator") or first(request, "seperator")
            read = _Names(key, separator.encode("utf-8", "surrogateescape"), options.index)
            return answer(request, reader, options, read.read())
        if "recurse" in query:
            return answer(request, reader, options, _Tree(key, options.index).read())
        if not key:
            raise bad("Missing key name")
        return answer(request, reader, options, _One(key, options.index, raw="raw" in query).read())

    # --- writing

    def put(self, request: Request, reader: Reader) -> Verb:
        """Write a key; with ``cas``, ``acquire`` or ``release`` on that condition, answering whether it held."""
        refused = _refused(request)
        if refused is not None:
            return refused
        value = request.body
        key = _named(request)
        if len(value) > _VALUE_SIZE_MAX:
            size = f"Request body({len(value)} bytes) too large, max size: {_VALUE_SIZE_MAX} bytes."
            raise bad(f"{size} See {_HELP}", 413)
        if not request.query:
            return _plain(reader, Put(key, value), "pretty" if self._site.pretty else "")
        check_datacenter(request, self._site)
        _guard_conflict(request, ("cas", "acquire", "release"))
        indent = "pretty" if self._site.pretty or flag(request, "pretty") else ""
        flags = uint(first(request, "flags"), "flags") if first(request, "flags") else 0
        if flag(request, "cas"):
            condition = _unchanged(key, uint(first(request, "cas"), "cas"))
            return _when(condition, Put(key, value, flags=flags), indent)
        if flag(request, "acquire"):
            return _acquire(Put(key, value, flags=flags, session=first(request, "acquire")), indent)
        if flag(request, "release"):
            held = Compare(key, CompareTarget.SESSION, Relation.EQUAL, first(request, "release").encode())
            return _when(held, Put(key, value, flags=flags, session=""), indent)
        return _plain(reader, Put(key, value, flags=flags), indent)

    def delete(self, request: Request, reader: Reader) -> Verb:
        """Delete a key, perhaps only as it was at ``cas``, or all with a prefix (``recurse``)."""
        refused = _refused(request)
        if refused is not None:
            return refused
        check_datacenter(request, self._site)
        indent = "pretty" if self._site.pretty or flag(request, "pretty") else ""
        _guard_conflict(request, ("recurse", "cas"))
        if flag(request, "recurse"):
            span = prefix_span(key_bytes(request.segments["key"]))
            return _submit(Transaction(success=(Delete(*span),)), indent)
        key = _named(request)
        if not flag(request, "cas"):
            return _submit(Transaction(success=(Delete(key),)), indent)
        condition = _unchanged(key, uint(first(request, "cas"), "cas"))
        return _submit(Transaction((condition,), (Delete(key),), (Get(key, keys_only=True),)), indent)


# --- reads that may block


class _Found(ABC):
    """A read of a range of keys, looked up once per attempt."""

    __slots__ = ("_asked", "_end", "_start")

    def __init__(self, start: bytes, end: bytes, asked: int) -> None:
        self._start = start
        self._end = end
        self._asked = asked

    def read(self) -> Read:
        interests: tuple[Interest, ...] = (KeyRange(SPACE, self._start, self._end),)
        return Read(interests, self.index, self.render)

    def index(self, reader: Reader) -> int:
        """Where nothing is found it stays what the client has, unless something was there meanwhile."""
        kvs = self.kvs(reader)
        asked = self._asked
        if not kvs and asked and not changed_since(reader, self._start, self._end, asked):
            return min(asked, reader.space_revision(SPACE))
        return range_index(reader, self._start, self._end, kvs)

    def kvs(self, reader: Reader) -> Sequence[KeyValue]:
        return reader.range(SPACE, self._start, self._end).kvs

    @abstractmethod
    def render(self, reader: Reader) -> bytes | Reply:
        """What is answered."""


class _One(_Found):
    """One key."""

    __slots__ = ("_raw",)

    def __init__(self, key: bytes, asked: int, *, raw: bool) -> None:
        super().__init__(key, b"", asked)
        self._raw = raw

    def index(self, reader: Reader) -> int:
        kv = reader.get(SPACE, self._start)
        return super().index(reader) if kv is None else kv.mod_revision

    def kvs(self, reader: Reader) -> Sequence[KeyValue]:
        kv = reader.get(SPACE, self._start)
        return () if kv is None else (kv,)

    def render(self, reader: Reader) -> bytes | Reply:
        kv = reader.get(SPACE, self._start)
        if kv is None:
            return Reply(404)
        if self._raw:
            return Reply(200, kv.value, _RAW_HEADERS, b"text/plain")
        return encode([entry(kv)])


class _Tree(_Found):
    """All keys with a prefix."""

    __slots__ = ()

    def __init__(self, prefix: bytes, asked: int) -> None:
        super().__init__(*prefix_span(prefix), asked)

    def render(self, reader: Reader) -> bytes | Reply:
        kvs = self.kvs(reader)
        return encode([entry(kv) for kv in kvs]) if kvs else Reply(404)


class _Names(_Tree):
    """Names of the keys with a prefix, cut at a separator."""

    __slots__ = ("_prefix", "_separator")

    def __init__(self, prefix: bytes, separator: bytes, asked: int) -> None:
        super().__init__(prefix, asked)
        self._prefix = prefix
        self._separator = separator

    def render(self, reader: Reader) -> bytes | Reply:
        kvs = self.kvs(reader)
        if not kvs and self._prefix:
            return Reply(404)
        return encode(cut_keys([kv.key for kv in kvs], self._prefix, self._separator))


# --- writes


def uint(text: str, field: str) -> int:
    """A number of 64 bits without sign. Raises ``Misuse`` in Go's words."""
    if text.isascii() and text.isdigit() and len(text) <= 20:
        number = int(text)
        if number <= _UINT64_MAX:
            return number
        raise bad(f'strconv.ParseUint: parsing "{text}": value out of range')
    raise bad(f'strconv.ParseUint: parsing "{text[:64]}": invalid syntax')


def _refused(request: Request) -> Reply | None:
    """What Go's path cleaning makes of a key: doubled slashes are sent elsewhere, unprintable characters away."""
    key = request.segments["key"]
    if key.startswith("/") or "//" in key:
        return no_such_path(request.path)
    if key.isprintable() or all(one.isprintable() or "\udc80" <= one <= "\udcff" for one in key):
        return None
    return Reply(400)


def _named(request: Request) -> bytes:
    key = key_bytes(request.segments["key"])
    if not key:
        raise bad("Missing key name")
    return key


def _guard_conflict(request: Request, names: Sequence[str]) -> None:
    if sum(name in request.query for name in names) > 1:
        pairs = [
            f"{quote_plus(name)}={quote_plus(value)}" for name in sorted(request.query) for value in request.query[name]
        ]
        raise bad(f"Conflicting flags: {'&'.join(pairs)}\n")


def _unchanged(key: bytes, index: int) -> Compare:
    """Index 0 means: there must be no such key. Larger numbers than a revision can be hold never."""
    return Compare(key, CompareTarget.MOD, Relation.EQUAL, min(index, 2**63 - 1))


def _boolean(reader: Reader, indent: str, value: bool) -> Reply:
    return Reply(200, pretty(b"true" if value else b"false", wanted=bool(indent)), (policy(reader),))


def _plain(reader: Reader, put: Put, indent: str) -> Verb:
    """Writing what is there already changes nothing, so it wakes nobody and costs no commit."""
    before = reader.get(SPACE, put.key)
    if before is not None and before.value == put.value and before.flags == put.flags:
        reader.require(Resource.KEY, Level.WRITE, key_name(SPACE, put.key))
        return _boolean(reader, indent, True)
    return _submit(Transaction(success=(put,)), indent)


def _when(condition: Compare, put: Put, indent: str) -> Submit:
    return _submit(Transaction((condition,), (put,)), indent)


def _submit(transaction: Transaction, indent: str) -> Submit:
    def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
        result = _result(outcomes[0])
        return _boolean(reader, indent, result.succeeded or _nothing_there(result))

    return Submit((Transact(space=SPACE, transaction=transaction),), render)


def _result(outcome: Outcome | TownhallError) -> TransactResult:
    if isinstance(outcome, TownhallError):
        raise outcome
    assert isinstance(outcome.result, TransactResult)
    return outcome.result


def _nothing_there(result: TransactResult) -> bool:
    """A delete on a condition succeeds, too, when the key is gone already."""
    found = result.responses[0] if result.responses else None
    return isinstance(found, RangeResult) and not found.kvs


def _acquire(put: Put, indent: str) -> Submit:
    """False while another session holds the lock, or its lock delay lasts."""

    def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
        outcome = outcomes[0]
        if isinstance(outcome, Conflict):
            return _boolean(reader, indent, False)
        if isinstance(outcome, NotFound):
            raise bad(f'raft apply failed: invalid session "{put.session}"')
        return _boolean(reader, indent, _result(outcome).succeeded)

    if not put.session:
        raise bad("missing session")
    return Submit((Transact(space=SPACE, transaction=Transaction(success=(put,))),), render)
