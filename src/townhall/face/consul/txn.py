"""``/v1/txn``: several operations on keys as one."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from townhall.core import Outcome
from townhall.core.commands import Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Headers, Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import encode, policy, pretty
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import bad
from townhall.face.consul.kv_shapes import SPACE
from townhall.face.consul.requests import ReadOptions, decode_body, read_options
from townhall.face.consul.site import Site, Sited
from townhall.face.consul.txn_kv import READING, VERBS, KvOperation, Trial, run
from townhall.model.errors import Conflict, NotFound, TownhallError

__all__ = ["Transactions", "routes"]

_BODY_SIZE_MAX = 8_388_608
"""128 operations of a few large values each; the journal takes no more in one commit either."""
_OPERATIONS_MAX = 128
_ATTEMPTS_MAX = 16
"""How often a transaction is run again because what it looked at had changed; then it is told to try again."""
_PARSE = "Failed to parse body"
_CATALOGUE = ("Node", "Service", "Check", "Intention")


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    return (Route("PUT", "/v1/txn", Transactions(face.site).apply, body_size_max=_BODY_SIZE_MAX),)


class Transactions:
    """The handler of transactions."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def apply(self, request: Request, reader: Reader) -> Verb:
        """All of the operations or none. What only reads is answered at once."""
        options = read_options(request, self._site)
        operations = _operations(decode_body(request, _PARSE))
        unknown = [(index, op.verb) for index, op in enumerate(operations) if op.verb not in VERBS]
        if unknown:
            errors = [(index, f"unknown KV operation: {verb}") for index, verb in unknown]
            return _refused(reader, options, errors, known=False)
        return _Attempts(request, options, operations).next(reader)


class _Attempts:
    """A transaction, run until nothing it looked at changed before it was written."""

    __slots__ = ("_left", "_operations", "_options", "_request", "_trial")

    def __init__(self, request: Request, options: ReadOptions, operations: Sequence[KvOperation]) -> None:
        self._request = request
        self._options = options
        self._operations = operations
        self._left = _ATTEMPTS_MAX
        self._trial: Trial | None = None

    def next(self, reader: Reader) -> Verb:
        """Run it over what is there now."""
        trial = self._trial = run(reader, self._operations, now_ms=self._request.live.now_ms())
        reads = all(operation.verb in READING for operation in self._operations)
        if trial.errors:
            return _refused(reader, self._options, trial.errors, known=True if reads else None)
        if not trial.writes:
            revision = reader.space_revision(SPACE)
            return _reply(reader, self._options, 200, trial.shown(revision), None, (revision, True) if reads else None)
        return Submit((Transact(space=SPACE, transaction=trial.transaction()),), self._written)

    def _written(self, reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Verb:
        outcome = outcomes[0]
        # A session that ended or a lock that was taken since counts as a change, too.
        changed = isinstance(outcome, Conflict | NotFound)
        if isinstance(outcome, TownhallError):
            if not changed:
                raise outcome
        else:
            result = outcome.result
            assert isinstance(result, TransactResult)
            assert self._trial is not None
            if result.succeeded:
                return _reply(reader, self._options, 200, self._trial.shown(result.revision), None, None)
        self._left -= 1
        if self._left <= 0:
            raise Conflict("too many others write the same keys", advice="try again")
        return self.next(reader)


def _refused(reader: Reader, options: ReadOptions, errors: Sequence[tuple[int, str]], *, known: bool | None) -> Reply:
    """``known`` None: a transaction that writes, whose refusal carries no index."""
    shown = [{"OpIndex": index, "What": what} for index, what in errors]
    read = None if known is None else (reader.space_revision(SPACE) if known else 0, known)
    return _reply(reader, options, 409, None, shown, read)


def _reply(
    reader: Reader,
    options: ReadOptions,
    status: int,
    results: Sequence[object] | None,
    errors: Sequence[object] | None,
    read: tuple[int, bool] | None,
) -> Reply:
    """``read``: index and whether a leader is known, of a transaction that only reads."""
    shown: dict[str, object] = {"Results": results, "Errors": errors}
    headers: Headers = (policy(reader),)
    if read is not None:
        index, known = read
        shown |= {
            "Index": index, "LastContact": 0, "KnownLeader": known, "ConsistencyLevel": "", "NotModified": False,
            "Backend": 0, "ResultsFilteredByACLs": False,
        }  # fmt: skip
        leader = (b"X-Consul-KnownLeader", b"true" if known else b"false")
        headers = (leader, (b"X-Consul-LastContact", b"0"), *headers)
    return Reply(status, pretty(encode(shown), wanted=options.pretty), headers)


# --- what a body asks for


def _operations(value: Any) -> list[KvOperation]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad(f"{_PARSE}: json: cannot unmarshal into a list of operations")
    if len(value) > _OPERATIONS_MAX:
        raise bad(f"Transaction contains too many operations ({len(value)} > {_OPERATIONS_MAX})", 413)
    found = []
    for item in value:
        operation = Body(item, None, _PARSE)
        kv = operation.child("KV", None)
        if kv is not None:
            found.append(_kv(kv))
        elif any(operation.has(name) for name in _CATALOGUE):
            raise bad("Transactions on nodes, services and checks are not supported, only on keys")
    return found


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
