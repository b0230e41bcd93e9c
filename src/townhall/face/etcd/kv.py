"""The KV service: Range, Put, DeleteRange, Txn and Compact on the space of etcd's clients.

Range is answered from what is kept: the request of one key is recognised by its first bytes, the pieces of keys are
kept (``pieces``), and the answer to a prefix that is asked for again is kept whole until one of its keys changes; only
the header, which tells the revision of now, is put before it each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from townhall.core import KeyRange, Outcome, View
from townhall.core.commands import CompactSpace, Transact, TransactResult
from townhall.core.interest import prefix_of
from townhall.core.queries import Reader
from townhall.face import Reply, Submit, Verb
from townhall.face.etcd.answers import outcome_of
from townhall.face.etcd.errors import COMPACTED, EMPTY_KEY, FUTURE, Said
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.etcd.pieces import Pieces
from townhall.face.etcd.requests import MESSAGE_SIZE_MAX, delete_of, put_of, range_checked, sifted, transaction_of
from townhall.face.etcd.requests_quick import quick_put, quick_transaction
from townhall.face.etcd.responses import deleted_body, plain_body, previous, txn_body
from townhall.face.grpc import Call, Code, Method
from townhall.model.errors import NotFound, TownhallError
from townhall.model.keys import Delete, KeyValue, Put, Transaction
from townhall.wire.etcd import kv
from townhall.wire.protobuf_decode import decode

__all__ = ["KvService"]

KEPT_SIZE_MAX: Final = 67_108_864
"""Whole answers to ranges that the etcd face keeps."""
KEPT_COUNT_MAX: Final = 4_096
"""Ranges that are remembered, each at the price of one entry in the index of interests."""
KEPT_REQUEST_SIZE_MAX: Final = 1_024
"""A request for a range that is longer than this is not remembered."""
_OK: Final = Code.OK
Render = Callable[[Reader, Sequence[Outcome | TownhallError]], Reply]


class _Answer(NamedTuple):
    """A RangeResponse without its header, and how long it is good."""

    view: View
    span: KeyRange
    body: bytes


class KvService:
    """``etcdserverpb.KV``."""

    def __init__(self, identity: Identity) -> None:
        self._header = identity.header
        self._pieces = Pieces()
        self._asked: OrderedDict[bytes, _Answer | None] = OrderedDict()
        """By request: the kept answer, or None while it was asked for only once."""
        self._asked_size = 0

    def methods(self) -> Sequence[Method]:
        """The rows of the face's table."""
        prefix, size = "/etcdserverpb.KV", MESSAGE_SIZE_MAX
        return [
            Method(f"{prefix}/Range", self.range, message_size_max=size),
            Method(f"{prefix}/Put", self.put, message_size_max=size),
            Method(f"{prefix}/DeleteRange", self.delete_range, message_size_max=size),
            Method(f"{prefix}/Txn", self.txn, message_size_max=size),
            Method(f"{prefix}/Compact", self.compact, message_size_max=size),
        ]

    # --- Range

    def range(self, call: Call, reader: Reader) -> Verb:
        """Keys of a range, of now or of a revision."""
        message = call.message
        # Field 1 and nothing behind it, or ``serializable`` alone: one key of now.
        if len(message) > 2 and message[0] == 0x0A and message[1] < 0x80:
            end = message[1] + 2
            if end == len(message) or message[end:] == b"\x38\x01":
                return self._one(reader, message[2:end])
        if message in self._asked:
            kept = self._asked[message]
            if kept is not None and kept.view.fresh:
                reader.require_range(*kept.span)
                return Reply(_OK, self._header.at(reader.space_revision(SPACE)) + kept.body)
        return self._many(call, reader)

    def _one(self, reader: Reader, key: bytes) -> Reply:
        if not key:
            raise Said(EMPTY_KEY)
        found = reader.get(SPACE, key)
        header = self._header.at(reader.space_revision(SPACE))
        return Reply(_OK, header if found is None else header + self._pieces.one(found))

    def _many(self, call: Call, reader: Reader) -> Reply:
        request = range_checked(decode(kv.RangeRequest, call.message))
        key, end = request.key, request.range_end
        reader.require_range(SPACE, key, end)
        limit = 1 if request.count_only else 0 if sifted(request) else max(request.limit, 0)
        found = reader.range(SPACE, key, end, limit=limit, revision=max(request.revision, 0))
        body = self._pieces.body(request, found.kvs, found.count)
        if end and request.revision <= 0:
            self._keep(call, KeyRange(SPACE, key, end), body)
        return Reply(_OK, self._header.at(found.revision) + body)

    def _keep(self, call: Call, span: KeyRange, body: bytes) -> None:
        """Keep the answer when it was asked for before. Ranges that are no prefix would slow down every write."""
        asked, message = self._asked, call.message
        if len(message) > KEPT_REQUEST_SIZE_MAX or len(body) > KEPT_SIZE_MAX // 4:
            return
        before = asked.pop(message, False)
        if isinstance(before, _Answer):
            self._asked_size -= len(before.body)
        if before is False or prefix_of(span) is None:
            asked[message] = None
        else:
            asked[message] = _Answer(call.live.view((span,)), span, body)
            self._asked_size += len(body)
        while len(asked) > KEPT_COUNT_MAX or self._asked_size > KEPT_SIZE_MAX:
            _, oldest = asked.popitem(last=False)
            self._asked_size -= len(oldest.body) if oldest is not None else 0

    # --- writing

    def put(self, call: Call, reader: Reader) -> Verb:
        """Write one key."""
        put = quick_put(call.message, 0, len(call.message))
        if put is not None:
            return self._submit(put, self._put_done)
        request = decode(kv.PutRequest, call.message)
        return self._put_previous(request) if request.prev_kv else self._submit(put_of(request), self._put_done)

    def _put_done(self, reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
        return Reply(_OK, self._header.at(_result(results).revision))

    def _put_previous(self, request: kv.PutRequest) -> Submit:
        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            result = _result(results)
            before = result.responses[0]
            assert before is None or isinstance(before, KeyValue)
            return Reply(_OK, self._header.at(result.revision) + previous(before))

        return self._submit(put_of(request), done)

    def delete_range(self, call: Call, reader: Reader) -> Verb:
        """Delete a key or a range."""
        request = decode(kv.DeleteRangeRequest, call.message)

        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            result = _result(results)
            gone = result.responses[0]
            assert isinstance(gone, tuple)
            return Reply(_OK, self._header.at(result.revision) + deleted_body(gone, prev_kv=request.prev_kv))

        return self._submit(delete_of(request), done)

    def _submit(self, operation: Put | Delete, done: Render) -> Submit:
        return Submit((Transact(space=SPACE, transaction=Transaction(success=(operation,)), alarm=True),), done)

    def txn(self, call: Call, reader: Reader) -> Verb:
        """A transaction."""
        transaction = quick_transaction(call.message)
        if transaction is not None:
            return self._plain(transaction)
        request = decode(kv.TxnRequest, call.message)

        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            result = _result(results)
            return Reply(_OK, self._header.at(result.revision) + txn_body(request, result, self._pieces))

        return Submit((Transact(space=SPACE, transaction=transaction_of(request), alarm=True),), done)

    def _plain(self, transaction: Transaction) -> Submit:
        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            result = _result(results)
            return Reply(_OK, self._header.at(result.revision) + plain_body(transaction, result, self._pieces))

        return Submit((Transact(space=SPACE, transaction=transaction, alarm=True),), done)

    def compact(self, call: Call, reader: Reader) -> Verb:
        """Forget what was before a revision."""
        revision = decode(kv.CompactionRequest, call.message).revision
        if revision < 0:
            raise Said(COMPACTED)
        if revision > reader.space_revision(SPACE):
            raise Said(FUTURE)

        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            if not isinstance(results[0], NotFound):  # A space that was never written has nothing to forget.
                outcome_of(results)
            return Reply(_OK, self._header.at(reader.space_revision(SPACE)))

        return Submit((CompactSpace(space=SPACE, revision=revision),), done)


def _result(results: Sequence[Outcome | TownhallError]) -> TransactResult:
    result = outcome_of(results).result
    assert isinstance(result, TransactResult)
    return result
