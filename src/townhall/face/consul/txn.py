"""``/v1/txn``: several operations on keys, nodes, services and checks as one."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from townhall.core import Outcome
from townhall.core.commands import Together, Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Headers, Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import encode, policy, pretty
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import bad
from townhall.face.consul.kv_shapes import SPACE
from townhall.face.consul.picture import Picture
from townhall.face.consul.requests import ReadOptions, decode_body, read_options
from townhall.face.consul.site import Sited
from townhall.face.consul.txn_catalogue import KINDS, CatalogOperation, CatalogTrial, Row
from townhall.face.consul.txn_kv import READING, VERBS, KvOperation, Trial, perform
from townhall.model.errors import Conflict, NotFound, TownhallError
from townhall.model.keys import Transaction

__all__ = ["Transactions", "routes"]

_BODY_SIZE_MAX = 8_388_608
"""128 operations of a few large values each; the journal takes no more in one commit either."""
_OPERATIONS_MAX = 128
_NOTHING = Transaction()
_ATTEMPTS_MAX = 16
"""How often a transaction is run again because what it looked at had changed; then it is told to try again."""
_PARSE = "Failed to parse body"
Operation = KvOperation | CatalogOperation


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    return (Route("PUT", "/v1/txn", Transactions(Picture(face.site)).apply, body_size_max=_BODY_SIZE_MAX),)


class Transactions:
    """The handler of transactions."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._site = picture.site

    def apply(self, request: Request, reader: Reader) -> Verb:
        """All of the operations or none. What only reads is answered at once."""
        options = read_options(request, self._site)
        operations = _operations(decode_body(request, _PARSE))
        unknown = [
            (index, op.verb)
            for index, op in enumerate(operations)
            if isinstance(op, KvOperation) and op.verb not in VERBS
        ]
        if unknown:
            errors = [(index, f"unknown KV operation: {verb}") for index, verb in unknown]
            return _refused(reader, options, errors, known=False)
        return _Attempts(request, options, operations, self._picture).next(reader)


class _Run:
    """One run of all operations over what is there now."""

    __slots__ = ("_order", "catalogue", "errors", "keys")

    def __init__(self, picture: Picture, request: Request, reader: Reader, operations: Sequence[Operation]) -> None:
        self.keys = Trial(reader, now_ms=request.live.now_ms())
        self.catalogue = CatalogTrial(picture, reader, origin=request.peer)
        self.errors: list[tuple[int, str]] = []
        self._order: list[int | Row] = []
        """How many keys come next in the answer, or what makes the next row of it."""
        for index, operation in enumerate(operations):
            if isinstance(operation, KvOperation):
                before = len(self.keys.results)
                refusal = perform(self.keys, operation)
                self._order.append(len(self.keys.results) - before)
            else:
                row, refusal = self.catalogue.perform(operation)
                if row is not None:
                    self._order.append(row)
            if refusal:
                self.errors.append((index, refusal))

    def shown(self, reader: Reader, revision: int) -> tuple[list[dict[str, object]], bool]:
        """The results in order, and whether some were left out that may not be seen."""
        keys = iter(self.keys.shown(revision))
        found: list[dict[str, object]] = []
        left_out = False
        for one in self._order:
            if isinstance(one, int):
                found += [next(keys) for _ in range(one)]
                continue
            row = one(reader)
            if row is None:
                left_out = True
            else:
                found.append(row)
        return found, left_out


class _Attempts:
    """A transaction, run until nothing it looked at changed before it was written."""

    __slots__ = ("_left", "_operations", "_options", "_picture", "_request", "_run")

    def __init__(
        self, request: Request, options: ReadOptions, operations: Sequence[Operation], picture: Picture
    ) -> None:
        self._picture = picture
        self._request = request
        self._options = options
        self._operations = operations
        self._left = _ATTEMPTS_MAX
        self._run: _Run | None = None

    def next(self, reader: Reader) -> Verb:
        """Run it over what is there now."""
        run = self._run = _Run(self._picture, self._request, reader, self._operations)
        reads = all(operation.verb in READING for operation in self._operations)
        if run.errors:
            return _refused(reader, self._options, run.errors, known=True if reads else None)
        commands, expected = run.catalogue.commands(), run.catalogue.expected()
        if commands or run.keys.writes:
            keys = Transact(space=SPACE, transaction=run.keys.transaction())
            if not commands and not expected:
                return Submit((keys,), self._written)
            if keys.transaction != _NOTHING:
                commands.append(keys)
            return Submit((Together(commands=tuple(commands), expected=expected),), self._written_together)
        revision = reader.space_revision(SPACE)
        results, left_out = run.shown(reader, revision)
        if expected:
            revision = reader.position + 1
        return _reply(reader, self._options, 200, results, None, _Read(revision, True, left_out) if reads else None)

    def _written_together(self, reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Verb:
        outcome = outcomes[0]
        if isinstance(outcome, TownhallError):
            return self._again(reader, outcome)
        results = outcome.result
        assert isinstance(results, tuple)
        assert self._run is not None
        revision = next((one.revision for one in results if isinstance(one, TransactResult)), 0)
        return _reply(reader, self._options, 200, self._run.shown(reader, revision)[0], None, None)

    def _again(self, reader: Reader, refusal: TownhallError) -> Verb:
        """Run it again when what it looked at had changed: a session that ended or a lock that was taken counts, too."""
        if not isinstance(refusal, Conflict | NotFound):
            raise refusal
        self._left -= 1
        if self._left <= 0:
            raise Conflict("too many others write the same", advice="try again")
        return self.next(reader)

    def _written(self, reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Verb:
        outcome = outcomes[0]
        if isinstance(outcome, TownhallError):
            return self._again(reader, outcome)
        result = outcome.result
        assert isinstance(result, TransactResult)
        assert self._run is not None
        if result.succeeded:
            return _reply(reader, self._options, 200, self._run.shown(reader, result.revision)[0], None, None)
        return self._again(reader, Conflict("a key has changed meanwhile"))


class _Read(NamedTuple):
    revision: int
    known: bool
    """Whether a leader is known."""
    left_out: bool = False
    """Some results may not be seen."""


def _refused(reader: Reader, options: ReadOptions, errors: Sequence[tuple[int, str]], *, known: bool | None) -> Reply:
    """``known`` None: a transaction that writes, whose refusal carries no index."""
    shown = [{"OpIndex": index, "What": what} for index, what in errors]
    read = None if known is None else _Read(reader.space_revision(SPACE) if known else 0, known)
    return _reply(reader, options, 409, None, shown, read)


def _reply(
    reader: Reader,
    options: ReadOptions,
    status: int,
    results: Sequence[object] | None,
    errors: Sequence[object] | None,
    read: _Read | None,
) -> Reply:
    """``read``: of a transaction that only reads."""
    shown: dict[str, object] = {"Results": results, "Errors": errors}
    headers: Headers = (policy(reader),)
    if read is not None:
        index, known, left_out = read
        shown |= {
            "Index": index, "LastContact": 0, "KnownLeader": known, "ConsistencyLevel": "", "NotModified": False,
            "Backend": 0, "ResultsFilteredByACLs": left_out,
        }  # fmt: skip
        leader = (b"X-Consul-KnownLeader", b"true" if known else b"false")
        headers = (leader, (b"X-Consul-LastContact", b"0"), *headers)
    return Reply(status, pretty(encode(shown), wanted=options.pretty), headers)


# --- what a body asks for


def _operations(value: Any) -> list[Operation]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad(f"{_PARSE}: json: cannot unmarshal into a list of operations")
    if len(value) > _OPERATIONS_MAX:
        raise bad(f"Transaction contains too many operations ({len(value)} > {_OPERATIONS_MAX})", 413)
    found: list[Operation] = []
    for item in value:
        operation = Body(item, None, _PARSE)
        kv = operation.child("KV", None)
        if kv is not None:
            found.append(_kv(kv))
            continue
        for kind in KINDS:
            given = operation.child(kind, None)
            if given is not None:
                found.append(_catalogue(kind, given))
                break
    return found


def _catalogue(kind: str, body: Body) -> CatalogOperation:
    """``{"Verb": …, "Node": {…}}``; a service has the node's name beside it, a check within it."""
    thing = body.child(kind, None) or Body(None, None, _PARSE)
    node = body.text("Node") if kind == "Service" else thing.text("Node")
    return CatalogOperation(kind, body.text("Verb"), thing, node)


def _kv(body: Body) -> KvOperation:
    key = body.text("Key")
    verb = body.text("Verb")
    if not key and verb not in ("get-tree", "delete-tree"):
        raise bad(f"{_PARSE}: Missing key name")
    return KvOperation(
        verb=verb, key=key, value=_value(body.text("Value")), flags=_unsigned(body, "Flags"),
        index=_unsigned(body, "Index"), session=body.text("Session"),
    )  # fmt: skip


def _unsigned(body: Body, name: str) -> int:
    number = body.integer(name)
    if not 0 <= number < 2**64:
        raise bad(f"{_PARSE}: json: cannot unmarshal number {number} into field {name} of type uint64")
    return number


_DIGITS: Mapping[str, None] = dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _value(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        at = next((index for index, digit in enumerate(text) if digit not in _DIGITS), len(text))
        raise bad(f"{_PARSE}: illegal base64 data at input byte {at}") from None
