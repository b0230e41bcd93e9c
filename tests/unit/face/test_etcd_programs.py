"""Random programs of Range, Put, DeleteRange, Txn and Compact through the face, against a keyspace in obvious code."""

from __future__ import annotations

from typing import Any

from etcd_calls import Calls
from etcd_world import KV, EtcdWorld, create, watching
from hypothesis import given, settings
from hypothesis import strategies as st

from model.naive_keyspace import NaiveKeyspace
from townhall.core.commands import RangeResult, TransactResult
from townhall.face.etcd.requests import transaction_of
from townhall.face.grpc import Code
from townhall.model.keys import KeyValue as CoreKeyValue
from townhall.model.keys import Transaction
from townhall.wire.etcd import kv
from townhall.wire.protobuf_encode import encode

KEYS = st.sampled_from([b"a", b"a/1", b"a/2", b"b", b"b/1"])
ENDS = st.sampled_from([b"", b"", b"a0", b"b", b"c", b"\0"])
VALUES = st.sampled_from([b"", b"x", b"yy"])
NUMBERS = st.integers(0, 6)

puts = st.builds(kv.PutRequest, key=KEYS, value=VALUES, prev_kv=st.booleans())
deletes = st.builds(kv.DeleteRangeRequest, key=KEYS, range_end=ENDS, prev_kv=st.booleans())
ranges = st.builds(
    kv.RangeRequest, key=KEYS, range_end=ENDS, limit=st.integers(-1, 3), revision=st.sampled_from([0, 0, 0, 2, 3, 5]),
    sort_order=st.integers(0, 2), sort_target=st.integers(0, 4), serializable=st.booleans(), keys_only=st.booleans(),
    count_only=st.booleans(), min_mod_revision=st.sampled_from([0, 0, 3]), max_create_revision=st.sampled_from([0, 0, 4]),
)  # fmt: skip
compares = st.one_of(
    st.builds(kv.Compare, result=st.integers(0, 3), target=st.just(0), key=KEYS, range_end=ENDS, version=NUMBERS),
    st.builds(
        kv.Compare, result=st.integers(0, 3), target=st.just(1), key=KEYS, range_end=ENDS, create_revision=NUMBERS
    ),
    st.builds(kv.Compare, result=st.integers(0, 3), target=st.just(2), key=KEYS, range_end=ENDS, mod_revision=NUMBERS),
    st.builds(kv.Compare, result=st.integers(0, 3), target=st.just(3), key=KEYS, range_end=ENDS, value=VALUES),
)
operations = st.recursive(
    st.one_of(
        st.builds(kv.RequestOp, request_put=puts),
        st.builds(kv.RequestOp, request_delete_range=deletes),
        st.builds(kv.RequestOp, request_range=ranges),
    ),
    lambda inner: st.builds(
        kv.RequestOp,
        request_txn=st.builds(
            kv.TxnRequest, st.lists(compares, max_size=1), st.lists(inner, max_size=2), st.lists(inner, max_size=2)
        ),
    ),
    max_leaves=4,
)
transactions = st.builds(
    kv.TxnRequest, st.lists(compares, max_size=2), st.lists(operations, max_size=3), st.lists(operations, max_size=2)
)
compactions = st.builds(kv.CompactionRequest, revision=st.integers(0, 8))
programs = st.lists(st.one_of(puts, puts, deletes, ranges, ranges, transactions, compactions), max_size=14)

PATHS = {
    kv.PutRequest: ("Put", kv.PutResponse),
    kv.DeleteRangeRequest: ("DeleteRange", kv.DeleteRangeResponse),
    kv.RangeRequest: ("Range", kv.RangeResponse),
    kv.TxnRequest: ("Txn", kv.TxnResponse),
    kv.CompactionRequest: ("Compact", kv.CompactionResponse),
}
SORTS = ("key", "version", "create_revision", "mod_revision", "value")


class Expected:
    """The answers that etcd's documentation promises, from whole dictionaries."""

    def __init__(self) -> None:
        self.space = NaiveKeyspace(1_000_000)

    def shown(self, found: CoreKeyValue, revision: int, *, value: bool = True) -> kv.KeyValue:
        return kv.KeyValue(
            found.key,
            found.create_revision,
            found.mod_revision,
            found.version,
            found.value if value else b"",
            found.lease,
        )

    def range(self, request: kv.RangeRequest, kvs: list[CoreKeyValue]) -> dict[str, Any]:
        count = len(kvs)
        kvs = [one for one in kvs if request.min_mod_revision == 0 or one.mod_revision >= request.min_mod_revision]
        kvs = [
            one for one in kvs if request.max_create_revision == 0 or one.create_revision <= request.max_create_revision
        ]
        kvs = sorted(kvs, key=lambda one: getattr(one, SORTS[request.sort_target]), reverse=request.sort_order == 2)
        more = 0 < request.limit < len(kvs)
        kvs = kvs[: request.limit] if more else kvs
        if request.count_only:
            kvs, more = [], False
        return {"kvs": [self.shown(one, 0, value=not request.keys_only) for one in kvs], "more": more, "count": count}

    def txn(self, request: kv.TxnRequest, result: TransactResult) -> list[Any]:
        branch = request.success if result.succeeded else request.failure
        return [self.response(op, response) for op, response in zip(branch, result.responses, strict=True)]

    def response(self, op: kv.RequestOp, response: Any) -> Any:
        if op.request_put is not None:
            return ("put", self.shown(response, 0) if response is not None and op.request_put.prev_kv else None)
        if op.request_delete_range is not None:
            gone = [self.shown(one, 0) for one in response] if op.request_delete_range.prev_kv else []
            return ("delete", len(response), gone)
        if op.request_range is not None:
            assert isinstance(response, RangeResult)
            if op.request_range.count_only:
                return ("range", {"kvs": [], "more": False, "count": response.count}, response.revision)
            # The transaction was asked for all keys wherever they must be sifted; otherwise the limit has cut them.
            whole = list(response.kvs)
            shown = self.range(op.request_range, whole)
            shown["more"] = shown["more"] or len(whole) < response.count
            return ("range", {**shown, "count": response.count}, response.revision)
        return ("txn", response.succeeded, self.txn(op.request_txn, response))  # type: ignore[arg-type]


def told(op: kv.ResponseOp) -> Any:
    if op.response_put is not None:
        return ("put", op.response_put.prev_kv)
    if op.response_delete_range is not None:
        return ("delete", op.response_delete_range.deleted, list(op.response_delete_range.prev_kvs))
    if op.response_range is not None:
        found = op.response_range
        assert found.header is not None
        return ("range", {"kvs": list(found.kvs), "more": found.more, "count": found.count}, found.header.revision)
    assert op.response_txn is not None
    return ("txn", op.response_txn.succeeded, [told(inner) for inner in op.response_txn.responses])


@settings(max_examples=150, deadline=None)
@given(programs)
def test_programs_answer_as_a_plain_dictionary_would(program: list[Any]) -> None:
    world, expected = EtcdWorld(), Expected()
    space = expected.space
    stream = watching(world)
    stream.say(create(b"\0", range_end=b"\0", prev_kv=True))
    heard = []
    for request in program:
        method, type_ = PATHS[type(request)]
        reply = world.ask(f"{KV}/{method}", request)
        if reply.status is not Code.OK:
            assert _may_be_refused(expected, request), (request, reply.body)
            continue
        response: Any = Calls.message(world, reply, type_)
        _follow(expected, request, response)
        assert response.header.revision == space.revision
        heard += stream.hear()
    assert (
        world.etcd.identity.header.at(space.revision)
        in world.ask(f"{KV}/Range", encode(kv.RangeRequest(key=b"a"))).body
    )
    events = [event for one in heard for event in one.events]
    assert [(event.kv.key, event.kv.mod_revision, bool(event.type)) for event in events] == [
        (event.key, event.revision, event.after is None) for event in space.log
    ]
    assert [event.prev_kv for event in events] == [
        expected.shown(event.before, 0) if event.before else None for event in space.log
    ]


def _follow(expected: Expected, request: Any, response: Any) -> None:
    space = expected.space
    if isinstance(request, kv.RangeRequest):
        at = request.revision if request.revision > 0 else space.revision
        kvs, _ = space.range(request.key, request.range_end, at)
        assert {"kvs": list(response.kvs), "more": response.more, "count": response.count} == expected.range(
            request, kvs
        )
    elif isinstance(request, kv.CompactionRequest):
        space.compact(request.revision)
    elif isinstance(request, kv.TxnRequest):
        result = space.transact(transaction_of(request))
        assert response.succeeded is result.succeeded
        assert [told(op) for op in response.responses] == expected.txn(request, result)
    else:
        field = "request_put" if isinstance(request, kv.PutRequest) else "request_delete_range"
        whole = kv.TxnRequest(success=[kv.RequestOp(**{field: request})])
        result = space.transact(Transaction(success=transaction_of(whole).success))
        (wanted,) = expected.txn(whole, result)
        assert (
            told(kv.ResponseOp(**{"response_put" if field == "request_put" else "response_delete_range": response}))
            == wanted
        )


def _may_be_refused(expected: Expected, request: Any) -> bool:
    """Revisions of the future and the forgotten past, and two fates of one key."""
    space = expected.space
    if isinstance(request, kv.RangeRequest):
        return not space.compacted <= request.revision <= space.revision
    if isinstance(request, kv.CompactionRequest):
        return request.revision > space.revision or request.revision <= space.compacted
    return isinstance(request, kv.TxnRequest)
