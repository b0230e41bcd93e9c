"""What a transaction answers, written by hand: a response for each operation of the branch that was taken.

Headers inside carry the revision alone: that of the transaction once anything was written before or by the operation,
else the one before it. A nested transaction's header is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from townhall.core.commands import RangeResult, TransactResult
from townhall.face.etcd.pieces import KVS, Pieces
from townhall.model.keys import Get, KeyValue, Put, Transaction
from townhall.wire.etcd import kv
from townhall.wire.etcd.fragments import field, key_value
from townhall.wire.protobuf_encode import varint

__all__ = ["deleted_body", "plain_body", "previous", "txn_body"]

_RANGE, _PUT, _DELETE, _TXN = b"\x0a", b"\x12", b"\x1a", b"\x22"
_PREV_KVS: Final = b"\x1a"
_DELETED: Final = b"\x10"
_SUCCEEDED: Final = b"\x10\x01"
_RESPONSES: Final = b"\x1a"
_EMPTY_HEADER: Final = b"\x0a\x00"


def previous(before: KeyValue | None) -> bytes:
    """PutResponse.prev_kv, where there was one."""
    return b"" if before is None else field(KVS, key_value(before))


def deleted_body(gone: Sequence[KeyValue], *, prev_kv: bool) -> bytes:
    """A DeleteRangeResponse without its header."""
    parts = [_DELETED + varint(len(gone))] if gone else []
    if prev_kv:
        parts += [field(_PREV_KVS, key_value(one)) for one in gone]
    return b"".join(parts)


def txn_body(request: kv.TxnRequest, result: TransactResult, pieces: Pieces) -> bytes:
    """A TxnResponse without its header."""
    return _Writing(result, pieces).body(request, result)


def plain_body(transaction: Transaction, result: TransactResult, pieces: Pieces) -> bytes:
    """The same for a transaction whose operations ask for nothing but themselves (``requests_quick``)."""
    operations = transaction.success if result.succeeded else transaction.failure
    after = result.revision
    header = b""
    parts = [_SUCCEEDED] if result.succeeded else []
    for operation, response in zip(operations, result.responses, strict=True):
        if type(operation) is Put:
            header = _inner_header(after)
            # Short enough for lengths of one byte.
            parts.append(b"\x1a%c\x12%c%b" % (len(header) + 2, len(header), header))
            continue
        header = header or _inner_header(after - 1 if _wrote(result) else after)
        if type(operation) is Get:
            assert isinstance(response, RangeResult)
            body = field(_RANGE, header + pieces.one(response.kvs[0]) if response.kvs else header)
        else:
            assert isinstance(response, tuple)
            if response:
                header = _inner_header(after)
            body = field(_DELETE, header + deleted_body(response, prev_kv=False))
        parts.append(field(_RESPONSES, body))
    return b"".join(parts)


def _inner_header(revision: int) -> bytes:
    number = varint(revision)
    return b"\x0a%c\x18%b" % (len(number) + 1, number)


class _Writing:
    """One answer: which revision stands after the operations so far."""

    __slots__ = ("_after", "_pieces", "_revision")

    def __init__(self, result: TransactResult, pieces: Pieces) -> None:
        self._after = result.revision
        self._revision = result.revision - 1 if _wrote(result) else result.revision
        self._pieces = pieces

    def body(self, request: kv.TxnRequest, result: TransactResult) -> bytes:
        operations = request.success if result.succeeded else request.failure
        parts = [_SUCCEEDED] if result.succeeded else []
        for operation, response in zip(operations, result.responses, strict=True):
            parts.append(field(_RESPONSES, self._response(operation, response)))
        return b"".join(parts)

    def _response(self, operation: kv.RequestOp, response: object) -> bytes:
        if operation.request_put is not None:
            assert response is None or isinstance(response, KeyValue)
            self._revision = self._after
            return field(_PUT, self._header() + (previous(response) if operation.request_put.prev_kv else b""))
        if operation.request_range is not None:
            assert isinstance(response, RangeResult)
            body = self._pieces.body(operation.request_range, response.kvs, response.count)
            return field(_RANGE, self._header() + body)
        if operation.request_delete_range is not None:
            assert isinstance(response, tuple)
            if response:
                self._revision = self._after
            body = deleted_body(response, prev_kv=operation.request_delete_range.prev_kv)
            return field(_DELETE, self._header() + body)
        assert isinstance(response, TransactResult)
        assert operation.request_txn is not None
        return field(_TXN, _EMPTY_HEADER + self.body(operation.request_txn, response))

    def _header(self) -> bytes:
        return _inner_header(self._revision)


def _wrote(result: TransactResult) -> bool:
    """Whether it changed anything: a put answers with a KeyValue or None, a delete with what it deleted."""
    return any(
        _wrote(response)
        if isinstance(response, TransactResult)
        else not isinstance(response, RangeResult) and response != ()
        for response in result.responses
    )
