"""``/v1/query``: prepared queries."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence

from townhall.core import KeyRange, Outcome
from townhall.core.commands import Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import Read, answer, encode, headers_of, json_reply, policy, pretty
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import PLAIN_TEXT, bad
from townhall.face.consul.ids import UUID, Identifiers
from townhall.face.consul.picture import Picture
from townhall.face.consul.query_definitions import (
    IDS,
    SPACE,
    Prepared,
    by_id,
    definition_of,
    every,
    find,
    id_key,
    name_key,
    run,
)
from townhall.face.consul.rendering import Rendering, array
from townhall.face.consul.requests import ReadOptions, boolean, decode_body, first, flag, read_options
from townhall.face.consul.site import Site, Sited
from townhall.model.errors import TownhallError
from townhall.model.instance import Instance
from townhall.model.keys import Compare, CompareTarget, Delete, Operation, Put, Relation, Transaction

__all__ = ["Queries", "routes"]

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_NOT_FOUND = b"Query not found"


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    queries = Queries(face.site)
    return (
        Route("GET", "/v1/query", queries.listing),
        Route("POST", "/v1/query", queries.create),
        Route("GET", "/v1/query/{id}", queries.get),
        Route("PUT", "/v1/query/{id}", queries.update),
        Route("DELETE", "/v1/query/{id}", queries.delete),
        Route("GET", "/v1/query/{id}/execute", queries.execute),
        Route("GET", "/v1/query/{id}/explain", queries.explain),
    )


class Queries:
    """Handlers of prepared queries."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._picture = Picture(site)
        self._rendering = Rendering(self._picture)
        self._ids = Identifiers(site.node)

    # --- keeping

    def create(self, request: Request, reader: Reader) -> Verb:
        """Keep a new one under an id of ours; a name is taken once."""
        options = read_options(request, self._site)
        definition = definition_of(Body(decode_body(request), None))
        _guard_session(reader, definition["Session"])
        query_id = self._ids.new(request, reader)
        return _write(
            Prepared(query_id, definition, 0, 0), None, lambda reader: json_reply(reader, options, {"ID": query_id})
        )

    def update(self, request: Request, reader: Reader) -> Verb:
        """Replace one."""
        read_options(request, self._site)
        before = self._existing(request, reader)
        definition = definition_of(Body(decode_body(request), None))
        _guard_session(reader, definition["Session"])
        return _write(before._replace(definition=definition), before, _done)

    def delete(self, request: Request, reader: Reader) -> Verb:
        """Forget one."""
        read_options(request, self._site)
        before = self._existing(request, reader)
        operations: list[Operation] = [Delete(id_key(before.id))]
        if before.name:
            operations.append(Delete(name_key(before.name)))

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            _succeeded(outcomes[0])
            return _done(reader)

        return Submit((Transact(space=SPACE, transaction=Transaction(success=tuple(operations))),), render)

    def _existing(self, request: Request, reader: Reader) -> Prepared:
        query_id = _checked_id(request)
        found = by_id(reader, query_id)
        if found is None:
            raise bad(f"Cannot modify non-existent prepared query: '{query_id}'")
        return found

    # --- reading

    def listing(self, request: Request, reader: Reader) -> Verb:
        """All of them, in the order of their making."""
        read = Read(
            (KeyRange(SPACE, *IDS),),
            lambda reader: reader.space_revision(SPACE),
            lambda reader: encode([query.shown() for query in sorted(every(reader), key=lambda query: query.created)]),
        )
        return answer(request, reader, read_options(request, self._site), read)

    def get(self, request: Request, reader: Reader) -> Verb:
        """One, in a list."""
        query_id = _checked_id(request)

        def render(reader: Reader) -> bytes | Reply:
            found = by_id(reader, query_id)
            return Reply(404, _NOT_FOUND, (), PLAIN_TEXT) if found is None else encode([found.shown()])

        read = Read((KeyRange(SPACE, id_key(query_id)),), lambda reader: reader.space_revision(SPACE), render)
        return answer(request, reader, read_options(request, self._site), read)

    # --- running

    def execute(self, request: Request, reader: Reader) -> Verb:
        """Run it. There are no other datacenters to fail over to."""
        options = read_options(request, self._site)
        limit = _limit(first(request, "limit"))
        found = find(reader, request.segments["id"])
        if found is None:
            return _nothing(reader, options)
        definition = found.definition
        if flag(request, "connect") and boolean(first(request, "connect") or "true"):
            definition = {**definition, "Service": {**definition["Service"], "Connect": True}}
        instances = run(reader, self._picture, definition, near=options.near)
        instances = _shuffled(instances, request) if not (options.near or definition["Service"]["Near"]) else instances
        rows = []
        for instance in instances[:limit] if limit > 0 else instances:
            row = self._rendering.health_row(reader, instance, passing=False)
            if row is not None:
                rows.append(row)
        head = encode({"Service": definition["Service"]["Service"]})[:-1]
        tail = encode({
            "DNS": definition["DNS"], "Datacenter": self._site.datacenter, "PeerName": "", "Failovers": 0,
            **_meta(options),
        })[1:]  # fmt: skip
        body = b'%b,"Nodes":%b,%b' % (head, array(rows), tail)
        return _unkept(reader, options, body)

    def explain(self, request: Request, reader: Reader) -> Verb:
        """What a name leads to, with the template filled in."""
        options = read_options(request, self._site)
        found = find(reader, request.segments["id"])
        if found is None:
            return _nothing(reader, options)
        shown = encode({"Query": found.shown(), **_meta(options)})
        return _unkept(reader, options, shown)


def _meta(options: ReadOptions) -> dict[str, object]:
    return {
        "Index": 1, "LastContact": 0, "KnownLeader": True, "ConsistencyLevel": options.consistency,
        "NotModified": False, "Backend": 0, "ResultsFilteredByACLs": False,
    }  # fmt: skip


def _unkept(reader: Reader, options: ReadOptions, body: bytes) -> Reply:
    """An answer for this one request: its order is drawn for it, and what it depends on is not followed. The real one
    does not block here either.
    """
    return Reply(200, pretty(body, wanted=options.pretty), headers_of(reader, options, 1))


def _nothing(reader: Reader, options: ReadOptions) -> Reply:
    return Reply(404, _NOT_FOUND, headers_of(reader, options, 1), PLAIN_TEXT)


def _done(reader: Reader) -> Reply:
    return Reply(200, b"", (policy(reader),))


def _checked_id(request: Request) -> str:
    query_id = request.segments["id"]
    if UUID.fullmatch(query_id) is None:
        raise bad("failed prepared query lookup: index error: UUID must be 36 characters")
    return query_id.lower()


def _guard_session(reader: Reader, session: str) -> None:
    if session and session not in reader.state.sessions:
        raise bad(f'raft apply failed: invalid session "{session[:64]}"')


def _limit(text: str) -> int:
    if not text:
        return 0
    if _WHOLE.fullmatch(text) is None:
        raise bad(f'Bad limit: strconv.Atoi: parsing "{text[:64]}": invalid syntax')
    return int(text)


def _shuffled(instances: Sequence[Instance], request: Request) -> list[Instance]:
    """Another order for each request, so that who takes the first does not always take the same."""
    salt = b"%d%b" % (request.live.now_ms(), request.peer.encode("utf-8", "replace"))
    return sorted(instances, key=lambda one: zlib.crc32(salt + one.id.encode("utf-8", "replace")))


def _write(query: Prepared, before: Prepared | None, done: Callable[[Reader], Reply]) -> Submit:
    """Put the definition and its name, as long as nobody else has taken the name or changed the query meanwhile."""
    key, name = id_key(query.id), query.name
    compares = [Compare(key, CompareTarget.MOD, Relation.EQUAL, 0 if before is None else before.modified)]
    operations: list[Operation] = [Put(key, encode(query.definition))]
    renamed = before is None or before.name != name
    if renamed and name:
        compares.append(Compare(name_key(name), CompareTarget.VERSION, Relation.EQUAL, 0))
        operations.append(Put(name_key(name), query.id.encode()))
    if renamed and before is not None and before.name:
        operations.append(Delete(name_key(before.name)))

    def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
        if not _succeeded(outcomes[0]):
            raise bad(f"raft apply failed: name '{name}' aliases an existing query name")
        return done(reader)

    return Submit((Transact(space=SPACE, transaction=Transaction(tuple(compares), tuple(operations))),), render)


def _succeeded(outcome: Outcome | TownhallError) -> bool:
    if isinstance(outcome, TownhallError):
        raise outcome
    assert isinstance(outcome.result, TransactResult)
    return outcome.result.succeeded
