"""The JSON objects about keys and transactions, and their way to and from the values of ``model.keys``."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec.structs
from msgspec import UNSET, Meta, UnsetType

from townhall.core.commands import RangeResult, TransactResult
from townhall.face.native.requests import lease_id
from townhall.face.native.shapes import Body, Number, Shown
from townhall.model import limits
from townhall.model.errors import InvalidField, TooLarge
from townhall.model.keys import (
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyEvent,
    KeyValue,
    Operation,
    Put,
    Relation,
    Transaction,
)

__all__ = [
    "CompactBody", "CompactView", "DeletedView", "KeyEventView", "KeyView", "KeysView", "TransactionBody", "TransactionView", "WrittenView",
    "event_view", "key_bytes", "key_text", "key_view", "prefix_end", "transaction_of", "transaction_view",
]  # fmt: skip


class KeyView(Shown, frozen=True, kw_only=True, omit_defaults=True):
    """A key. ``value`` is null when the bytes are not UTF-8; ``key_base64`` is given only when the key is not."""

    key: str
    value: str | None
    value_base64: str
    create_revision: int
    mod_revision: int
    version: int
    lease: str | None
    key_base64: str = ""


class KeysView(Shown, frozen=True, kw_only=True):
    """A range of keys. ``more``: begin the next page after the last key."""

    revision: int
    count: int
    more: bool
    keys: list[KeyView]


class WrittenView(Shown, frozen=True, kw_only=True):
    """A write: the revision it got in its space, and whether the key is new."""

    revision: int
    created: bool


class DeletedView(Shown, frozen=True, kw_only=True):
    """How many keys were deleted."""

    deleted: int
    revision: int


class KeyEventView(KeyView, frozen=True, kw_only=True, omit_defaults=True):
    """A key that changed at ``revision`` of its space; a deleted one is shown without its value."""

    revision: int
    previous_revision: int
    """The ``mod_revision`` that it had before; 0 when it is new."""


class CompactBody(Body, frozen=True, kw_only=True):
    """Forget the history before ``revision``."""

    revision: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    space: str = "native"


class CompactView(Shown, frozen=True, kw_only=True):
    """The oldest revision that can still be read."""

    compacted: int


# --- transactions

_TARGETS = {
    "version": CompareTarget.VERSION,
    "create": CompareTarget.CREATE,
    "mod": CompareTarget.MOD,
    "value": CompareTarget.VALUE,
    "lease": CompareTarget.LEASE,
}
_RELATIONS = {
    "=": Relation.EQUAL,
    "!=": Relation.NOT_EQUAL,
    ">": Relation.GREATER,
    "<": Relation.LESS,
}


class CompareBody(Body, frozen=True, kw_only=True):
    """A condition on one key, or on all keys of a range (``end`` or ``prefix``)."""

    key: str
    target: str
    relation: str = "="
    value: str | int | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET
    end: str = ""
    prefix: bool = False


class PutBody(Body, frozen=True, kw_only=True):
    """Write one key."""

    key: str
    value: str | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET
    lease: str | int | None = None


class GetBody(Body, frozen=True, kw_only=True):
    """Read a key, or the keys up to ``end``, or those that begin with it (``prefix``)."""

    key: str
    end: str = ""
    prefix: bool = False
    limit: Number = 0
    keys_only: bool = False


class DeleteBody(Body, frozen=True, kw_only=True):
    """Delete a key, or a range as in ``get``."""

    key: str
    end: str = ""
    prefix: bool = False


class OperationBody(Body, frozen=True, kw_only=True):
    """Exactly one of these."""

    put: PutBody | None = None
    get: GetBody | None = None
    delete: DeleteBody | None = None
    txn: NestedBody | None = None


class NestedBody(Body, frozen=True, kw_only=True):
    """If all ``compares`` hold do ``success``, else ``failure``."""

    compares: tuple[CompareBody, ...] = ()
    success: tuple[OperationBody, ...] = ()
    failure: tuple[OperationBody, ...] = ()


class TransactionBody(NestedBody, frozen=True, kw_only=True):
    """A transaction on one space."""

    space: str = "native"


class PutView(Shown, frozen=True, kw_only=True):
    """What a put did."""

    created: bool
    previous_revision: int


class RangeView(Shown, frozen=True, kw_only=True):
    """What a get read."""

    count: int
    more: bool
    keys: list[KeyView]


class RemovedView(Shown, frozen=True, kw_only=True):
    """What a delete removed."""

    deleted: int
    keys: list[str]


class ResponseView(Shown, frozen=True, kw_only=True, omit_defaults=True):
    """What one operation answers, under its own name."""

    put: PutView | None = None
    get: RangeView | None = None
    delete: RemovedView | None = None
    txn: TransactionView | None = None


class TransactionView(Shown, frozen=True, kw_only=True):
    """Whether the compares held, and one response per operation of the branch taken."""

    succeeded: bool
    revision: int
    responses: list[ResponseView]


# --- from text to bytes and back


def key_bytes(text: str, field: str = "key") -> bytes:
    """A key's bytes. Raises InvalidField, TooLarge."""
    if not text:
        raise InvalidField(field, "must not be empty")
    try:
        # Escapes in a path that are not UTF-8 come as surrogates; they stand for the bytes themselves.
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidField(field, "is not valid text") from error
    if len(data) > limits.KEY_SIZE_MAX:
        raise TooLarge(f"{field}: longer than {limits.KEY_SIZE_MAX} bytes", field=field, limit=limits.KEY_SIZE_MAX)
    return data


def key_text(key: bytes) -> str:
    """A key as text; bytes that are not UTF-8 are shown escaped."""
    return key.decode("utf-8", "backslashreplace")


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of keys that begin with ``prefix``; a zero byte when it reaches to the last key."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else b"\0"


def key_view(kv: KeyValue, *, keys_only: bool = False) -> KeyView:
    """A key as it is shown."""
    try:
        name, name_base64 = kv.key.decode(), ""
    except UnicodeDecodeError:
        name, name_base64 = key_text(kv.key), base64.b64encode(kv.key).decode()
    value: str | None = None
    if not keys_only:
        try:
            value = kv.value.decode()
        except UnicodeDecodeError:
            value = None
    return KeyView(
        key=name,
        value=value,
        value_base64="" if keys_only else base64.b64encode(kv.value).decode(),
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=str(kv.lease) if kv.lease else None,
        key_base64=name_base64,
    )


def event_view(event: KeyEvent) -> KeyEventView:
    """An event as it is shown."""
    shown = event.after or event.before
    assert shown is not None
    return KeyEventView(
        **msgspec.structs.asdict(key_view(shown, keys_only=event.after is None)),
        revision=event.revision,
        previous_revision=event.before.mod_revision if event.before is not None else 0,
    )


def transaction_of(body: NestedBody, path: str = "") -> Transaction:
    """The transaction that a body asks for. Raises InvalidField, with the place of what is wrong."""
    return Transaction(
        tuple(_compare(one, f"{path}compares[{index}]") for index, one in enumerate(body.compares)),
        tuple(_operation(one, f"{path}success[{index}]") for index, one in enumerate(body.success)),
        tuple(_operation(one, f"{path}failure[{index}]") for index, one in enumerate(body.failure)),
    )


def _compare(body: CompareBody, path: str) -> Compare:
    target = _TARGETS.get(body.target)
    if target is None:
        raise InvalidField(f"{path}.target", f"must be one of {', '.join(_TARGETS)}")
    relation = _RELATIONS.get(body.relation)
    if relation is None:
        raise InvalidField(f"{path}.relation", f"must be one of {' '.join(_RELATIONS)}")
    key, end = _span(body, path)
    return Compare(key, target, relation, _compared(body, target, path), end)


def _compared(body: CompareBody, target: CompareTarget, path: str) -> int | bytes:
    if target is CompareTarget.VALUE:
        if isinstance(body.value, int):
            raise InvalidField(f"{path}.value", "a value is compared with a string")
        return _value(body.value, body.value_base64, path)
    if body.value_base64 is not UNSET or body.value is UNSET:
        raise InvalidField(f"{path}.value", "must be a number")
    if target is CompareTarget.LEASE and body.value not in (0, "0"):
        return lease_id(body.value, f"{path}.value")
    if isinstance(body.value, str) or not 0 <= body.value < 2**63:
        raise InvalidField(f"{path}.value", "must be a whole number that is not negative")
    return body.value


def _operation(body: OperationBody, path: str) -> Operation:
    if sum(one is not None for one in (body.put, body.get, body.delete, body.txn)) != 1:
        raise InvalidField(path, "must hold exactly one of put, get, delete and txn")
    if body.put is not None:
        put = body.put
        lease = 0 if put.lease is None else lease_id(put.lease, f"{path}.put.lease")
        key = key_bytes(put.key, f"{path}.put.key")
        return Put(key, _value(put.value, put.value_base64, f"{path}.put"), lease)
    if body.get is not None:
        start, end = _span(body.get, f"{path}.get")
        return Get(start, end, min(body.get.limit, limits.RANGE_COUNT_MAX), body.get.keys_only)
    if body.delete is not None:
        return Delete(*_span(body.delete, f"{path}.delete"))
    assert body.txn is not None
    return transaction_of(body.txn, f"{path}.txn.")


def _span(body: CompareBody | GetBody | DeleteBody, path: str) -> tuple[bytes, bytes]:
    if body.prefix and body.end:
        raise InvalidField(f"{path}.end", "cannot be given together with prefix")
    start = key_bytes(body.key, f"{path}.key")
    if body.prefix:
        return start, prefix_end(start)
    return start, key_bytes(body.end, f"{path}.end") if body.end else b""


def _value(text: str | UnsetType, encoded: str | UnsetType, path: str) -> bytes:
    if (text is UNSET) is (encoded is UNSET):
        raise InvalidField(f"{path}.value", "give either value or value_base64")
    if not isinstance(encoded, UnsetType):
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidField(f"{path}.value_base64", "is not Base64") from error
    assert isinstance(text, str)
    return text.encode()


def transaction_view(transaction: Transaction, result: TransactResult) -> TransactionView:
    """What a transaction answered."""
    branch = transaction.success if result.succeeded else transaction.failure
    responses = [_response(operation, one) for operation, one in zip(branch, result.responses, strict=True)]
    return TransactionView(succeeded=result.succeeded, revision=result.revision, responses=responses)


def _response(operation: Operation, response: object) -> ResponseView:
    if isinstance(operation, Put):
        assert response is None or isinstance(response, KeyValue)
        previous = 0 if response is None else response.mod_revision
        return ResponseView(put=PutView(created=response is None, previous_revision=previous))
    if isinstance(operation, Get):
        assert isinstance(response, RangeResult)
        keys = [key_view(kv, keys_only=operation.keys_only) for kv in response.kvs]
        return ResponseView(get=RangeView(count=response.count, more=response.more, keys=keys))
    if isinstance(operation, Delete):
        assert isinstance(response, tuple)
        return ResponseView(
            delete=RemovedView(deleted=len(response), keys=[key_text(previous.key) for previous in response])
        )
    assert isinstance(response, TransactResult)
    return ResponseView(txn=transaction_view(operation, response))
