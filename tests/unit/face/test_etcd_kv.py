"""Range, Put, DeleteRange, Txn and Compact: answers, codes and texts as etcd 3.6 gives them."""

from __future__ import annotations

from typing import Any

import pytest
from etcd_world import KV, EtcdWorld

from townhall.core import Rules
from townhall.face.etcd import kv as etcd_kv
from townhall.face.etcd import pieces as etcd_pieces
from townhall.face.etcd.pieces import Pieces, chosen
from townhall.face.etcd.requests import transaction_of
from townhall.face.etcd.responses import deleted_body, previous
from townhall.model import limits
from townhall.model.keys import KeyValue as CoreKeyValue
from townhall.wire.etcd import kv
from townhall.wire.etcd.kv import Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

R: dict[str, Any] = {"key": b"r/", "range_end": b"r0"}


@pytest.fixture
def world() -> EtcdWorld:
    return EtcdWorld()


@pytest.fixture
def filled(world: EtcdWorld) -> EtcdWorld:
    """r/a (mod 3), r/b (created 4, mod 6), r/c (2), r/d (5)."""
    for key, value in ((b"r/c", b"3"), (b"r/a", b"9"), (b"r/b", b"5"), (b"r/d", b"1"), (b"r/b", b"6")):
        world.put(key, value)
    return world


def names(response: kv.RangeResponse) -> str:
    return "".join(found.key.decode()[-1] for found in response.kvs)


def test_a_header_names_member_cluster_term_and_revision(world: EtcdWorld) -> None:
    header = world.range(b"none").header
    assert header is not None
    assert header.cluster_id == world.etcd.identity.cluster_id
    assert header.member_id == world.etcd.identity.member_id
    assert (header.revision, header.raft_term) == (1, 2)


def test_revisions_are_dense_and_versions_begin_anew(world: EtcdWorld) -> None:
    assert world.put(b"a", b"1").header.revision == 2  # type: ignore[union-attr]
    assert world.put(b"a", b"2", prev_kv=True).prev_kv == KeyValue(b"a", 2, 2, 1, b"1")
    assert world.put(b"b", prev_kv=True).prev_kv is None
    assert world.range(b"a").kvs == [KeyValue(b"a", 2, 3, 2, b"2")]
    assert world.delete(b"none").header.revision == 4  # type: ignore[union-attr]
    gone = world.delete(b"a", prev_kv=True)
    assert (gone.deleted, gone.prev_kvs) == (1, [KeyValue(b"a", 2, 3, 2, b"2")])
    world.put(b"a")
    assert world.range(b"a").kvs == [KeyValue(b"a", 6, 6, 1, b"v")]


RANGES: list[tuple[dict[str, Any], str, bool]] = [
    ({}, "abcd", False),
    ({"limit": 2}, "ab", True),
    ({"limit": 4}, "abcd", False),
    ({"limit": -1}, "abcd", False),
    ({"keys_only": True}, "abcd", False),
    ({"count_only": True}, "", False),
    ({"count_only": True, "limit": 1}, "", False),
    ({"serializable": True}, "abcd", False),
    ({"sort_order": 1}, "abcd", False),
    ({"sort_order": 2}, "dcba", False),
    ({"sort_target": 1}, "acdb", False),
    ({"sort_target": 2}, "cabd", False),
    ({"sort_target": 2, "sort_order": 2, "limit": 1}, "d", True),
    ({"sort_target": 3}, "cadb", False),
    ({"sort_target": 4}, "dcba", False),
    ({"sort_target": 4, "sort_order": 2, "limit": 2}, "ab", True),
    ({"sort_target": 1, "sort_order": 2}, "bacd", False),
    ({"min_mod_revision": 3}, "abd", False),
    ({"max_mod_revision": 3}, "ac", False),
    ({"min_create_revision": 4}, "bd", False),
    ({"max_create_revision": 3, "limit": 1}, "a", True),
    ({"max_create_revision": 1, "limit": 1}, "", False),
    ({"min_mod_revision": 5, "max_mod_revision": 3}, "", False),
    ({"min_mod_revision": 5, "count_only": True}, "", False),
]


@pytest.mark.parametrize(("fields", "found", "more"), RANGES)
def test_ranges(filled: EtcdWorld, fields: dict[str, Any], found: str, more: bool) -> None:
    for _ in range(3):  # The second is kept, the third is answered from it.
        response = filled.range(**R, **fields)
        assert (names(response), response.more, response.count) == (found, more, 4)
        assert all(not one.value for one in response.kvs) == (bool(fields.get("keys_only")) or not response.kvs)
    inside = filled.txn(success=[RequestOp(request_range=RangeRequest(**R, **fields))]).responses[0].response_range
    assert inside is not None
    assert (names(inside), inside.more, inside.count) == (found, more, 4)


def test_ends_of_ranges(filled: EtcdWorld) -> None:
    assert names(filled.range(b"r/c", range_end=b"\0")) == "cd"
    assert filled.range(b"\0", range_end=b"\0", count_only=True).count == 4
    assert filled.range(b"r0", range_end=b"r/").count == 0
    assert filled.range(b"r/a", range_end=b"r/a").count == 0
    assert filled.delete(b"r0", range_end=b"r/").deleted == 0


def test_the_past_can_be_read_until_it_is_compacted(filled: EtcdWorld) -> None:
    assert names(filled.range(**R, revision=3)) == "ac"
    assert filled.range(b"r/b", revision=5).kvs == [KeyValue(b"r/b", 4, 4, 1, b"5")]
    assert filled.range(**R, revision=3, count_only=True).count == 2
    assert filled.range(b"r/b", revision=-1).kvs[0].mod_revision == 6
    assert filled.refused(f"{KV}/Range", RangeRequest(key=b"a", revision=7)) == (
        "OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision",
    )  # fmt: skip
    filled.compact(5)
    assert names(filled.range(**R, revision=5)) == "abcd"
    compacted = ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted")
    assert filled.refused(f"{KV}/Range", RangeRequest(key=b"a", revision=4)) == compacted
    for revision in (5, 4, -1):
        assert filled.refused(f"{KV}/Compact", kv.CompactionRequest(revision=revision)) == compacted
    future = ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision")
    assert filled.refused(f"{KV}/Compact", kv.CompactionRequest(revision=7)) == future
    within = TxnRequest(success=[RequestOp(request_range=RangeRequest(key=b"a", revision=3))])
    assert filled.refused(f"{KV}/Txn", within) == compacted


def test_compacting_nothing_is_fine(world: EtcdWorld) -> None:
    assert world.compact(0).header.revision == 1  # type: ignore[union-attr]
    assert world.compact(1).header.revision == 1  # type: ignore[union-attr]
    world.put(b"a")
    assert world.compact(0).header.revision == 2  # type: ignore[union-attr]


def test_a_kept_answer_ends_with_the_first_change_and_tells_the_revision_of_now(filled: EtcdWorld) -> None:
    for _ in range(3):
        filled.range(**R)
    assert [view.fresh for view in filled.views] == [True]
    filled.put(b"elsewhere")
    assert filled.range(**R).header.revision == 7  # type: ignore[union-attr]
    assert [view.fresh for view in filled.views] == [True]
    filled.put(b"r/e")
    assert [view.fresh for view in filled.views] == [False]
    assert names(filled.range(**R)) == "abcde"
    filled.delete(b"r/a")
    assert names(filled.range(**R)) == "bcde"


def test_ranges_that_are_no_prefix_are_not_kept(filled: EtcdWorld) -> None:
    for _ in range(3):
        filled.range(b"r/a", range_end=b"r/cc")
        filled.range(b"r/" + b"x" * etcd_kv.KEPT_REQUEST_SIZE_MAX, range_end=b"r0")
    assert not filled.views


def test_what_is_kept_is_bounded(filled: EtcdWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_kv, "KEPT_COUNT_MAX", 2)
    for prefix in (b"r/", b"s/", b"t/"):
        for _ in range(2):
            filled.range(prefix, range_end=prefix[:1] + b"0")
    for _ in range(2):
        filled.range(**R)
    assert len(filled.views) == 4  # The first was forgotten, so it was kept anew.
    monkeypatch.setattr(etcd_kv, "KEPT_SIZE_MAX", 8)
    for _ in range(3):
        assert names(filled.range(**R)) == "abcd"
    assert len(filled.views) == 4


def test_pieces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_pieces, "PIECES_SIZE_MAX", 1_000)
    monkeypatch.setattr(etcd_pieces, "PIECE_SIZE_MAX", 100)
    pieces = Pieces()
    kvs = [CoreKeyValue(b"%d" % n, b"v" * n, 2, 2, 1) for n in range(200)]
    for _ in range(2):
        for found in kvs:
            assert decode(kv.RangeResponse, pieces.piece(found)).kvs[0].key == found.key
            assert pieces.size < 1_500
    assert pieces.piece(kvs[5]) is pieces.piece(kvs[5])
    assert pieces.piece(kvs[150]) is not pieces.piece(kvs[150])


def test_chosen_and_bodies_of_deletes() -> None:
    one, two = CoreKeyValue(b"a", b"2", 2, 4, 2), CoreKeyValue(b"b", b"1", 3, 3, 1)
    assert list(chosen(RangeRequest(sort_target=kv.SortTarget.VALUE), [one, two])) == [two, one]
    assert decode(kv.DeleteRangeResponse, deleted_body((one,), prev_kv=False)) == kv.DeleteRangeResponse(deleted=1)
    assert previous(None) == b""


def put(key: bytes, value: bytes = b"x", **fields: Any) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key, value=value, **fields))


def get(key: bytes, **fields: Any) -> RequestOp:
    return RequestOp(request_range=RangeRequest(key=key, **fields))


def delete(key: bytes, **fields: Any) -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, **fields))


def nested(compare: Any = (), success: Any = (), failure: Any = ()) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(compare, success, failure))


INVALID: list[tuple[str, Any, str]] = [
    ("Range", RangeRequest(), "etcdserver: key is not provided"),
    ("Range", b"\x0a\x00", "etcdserver: key is not provided"),
    ("Range", RangeRequest(range_end=b"b"), "etcdserver: key is not provided"),
    ("Range", RangeRequest(**R, sort_order=9), "etcdserver: invalid sort option"),
    ("Range", RangeRequest(**R, sort_target=-1), "etcdserver: invalid sort option"),
    ("Put", PutRequest(value=b"x"), "etcdserver: key is not provided"),
    ("Put", PutRequest(key=b"a", value=b"x", ignore_value=True), "etcdserver: value is provided"),
    ("Put", PutRequest(key=b"a", lease=5, ignore_lease=True), "etcdserver: lease is provided"),
    ("Put", PutRequest(key=b"zz", ignore_value=True), "etcdserver: key not found"),
    ("Put", PutRequest(key=b"zz", ignore_lease=True), "etcdserver: key not found"),
    ("Put", PutRequest(key=b"a", value=b"x" * limits.VALUE_SIZE_MAX), "etcdserver: request is too large"),
    ("DeleteRange", DeleteRangeRequest(), "etcdserver: key is not provided"),
    ("Txn", TxnRequest(success=[RequestOp()]), "etcdserver: key not found"),
    ("Txn", TxnRequest(success=[put(b"")]), "etcdserver: key is not provided"),
    ("Txn", TxnRequest(compare=[Compare()]), "etcdserver: key is not provided"),
    ("Txn", TxnRequest(success=[put(b"d"), put(b"d")]), "etcdserver: duplicate key given in txn request"),
    ("Txn", TxnRequest(success=[delete(b"d", range_end=b"e"), put(b"da")]), "etcdserver: duplicate key given in txn request"),
    ("Txn", TxnRequest(success=[put(b"n"), nested(success=[put(b"n")])]), "etcdserver: duplicate key given in txn request"),
    ("Txn", TxnRequest(success=[get(b"t")] * 129), "etcdserver: too many operations in txn request"),
    ("Txn", TxnRequest(compare=[Compare(key=b"t")] * 129), "etcdserver: too many operations in txn request"),
    ("Txn", TxnRequest(success=[put(b"zz", b"", ignore_value=True)]), "etcdserver: key not found"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "message", "text"), INVALID)
def test_what_is_refused(world: EtcdWorld, method: str, message: Any, text: str) -> None:
    assert world.refused(f"{KV}/{method}", message) == ("INVALID_ARGUMENT", text)
    assert world.reader().space_revision("etcd") == 1


def test_an_unknown_lease_is_looked_at_before_the_key(world: EtcdWorld) -> None:
    unknown = ("NOT_FOUND", "etcdserver: requested lease not found")
    for request in (PutRequest(key=b"a", lease=7), PutRequest(key=b"a", lease=-1), PutRequest(key=b"a", lease=7, ignore_value=True)):  # fmt: skip
        assert world.refused(f"{KV}/Put", request) == unknown
    assert world.refused(f"{KV}/Txn", TxnRequest(success=[put(b"d", lease=999)])) == unknown


def test_what_cannot_be_decoded(world: EtcdWorld) -> None:
    code, text = world.refused(f"{KV}/Range", b"\x10\x01")
    assert (code, text) == (
        "INTERNAL",
        "grpc: error unmarshalling request: proto: wrong wireType = 0 for field RangeEnd",
    )


def test_a_value_of_nearly_a_whole_request(world: EtcdWorld) -> None:
    value = b"x" * (limits.VALUE_SIZE_MAX - 3)
    world.put(b"big", value)
    assert world.range(b"big").kvs[0].value == value


T = (KeyValue(b"t", 2, 2, 1, b"1"),)
COMPARES: list[tuple[Compare, bool]] = [
    (Compare(key=b"t", target=0, version=1), True),
    (Compare(key=b"no", target=0, version=0), True),
    (Compare(1, 2, b"t", mod_revision=0), True),
    (Compare(2, 1, b"t", create_revision=2), False),
    (Compare(key=b"t", target=3, value=b"1"), True),
    (Compare(1, 3, b"no", value=b""), False),
    (Compare(3, 3, b"no", value=b"1"), False),
    (Compare(key=b"t", target=4, lease=0), True),
    (Compare(key=b"no", target=4, lease=0), True),
    (Compare(1, 0, b"r/", version=0, range_end=b"r0"), True),
    (Compare(0, 0, b"r/", version=1, range_end=b"r0"), False),
    (Compare(1, 0, b"q/", version=9, range_end=b"q0"), False),
    (Compare(1, 0, b"r0", version=0, range_end=b"r/"), False),
    (Compare(key=b"t", target=0), False),
    (Compare(key=b"t", target=3, version=1), False),
    (Compare(9, 0, b"t", version=77), True),
    (Compare(9, 3, b"t", value=b"no"), True),
    (Compare(9, 3, b"no", value=b"no"), False),
    (Compare(9, 9, b"no"), True),
    (Compare(0, 9, b"t"), True),
    (Compare(1, 9, b"t"), False),
    (Compare(3, 9, b"no"), False),
]


@pytest.mark.parametrize(("compare", "holds"), COMPARES)
def test_compares(world: EtcdWorld, compare: Compare, holds: bool) -> None:
    for key, value in ((b"t", b"1"), (b"r/a", b"1"), (b"r/a", b"2"), (b"r/b", b"1")):
        world.put(key, value)
    assert world.txn([compare]).succeeded is holds


def test_each_operation_tells_the_revision_it_stands_at(world: EtcdWorld) -> None:
    world.put(b"t", b"1")
    response = world.txn(
        [],
        [
            get(b"t"),
            delete(b"no"),
            put(b"n1"),
            delete(b"no"),
            nested([], [put(b"n2", prev_kv=True), get(b"n1")]),
            get(b"t"),
        ],
    )
    assert response.header.revision == 3  # type: ignore[union-attr]
    shown = [_revision(one) for one in response.responses]
    assert shown == [2, 2, 3, 3, None, 3]
    inner = response.responses[4].response_txn
    assert inner is not None
    assert inner.header == kv.ResponseHeader()
    assert [_revision(one) for one in inner.responses] == [3, 3]
    assert inner.responses[1].response_range.kvs == [KeyValue(b"n1", 3, 3, 1, b"x")]  # type: ignore[union-attr]


def _revision(response: kv.ResponseOp) -> int | None:
    for found in (response.response_range, response.response_put, response.response_delete_range):
        if found is not None:
            assert found.header is not None
            assert found.header == kv.ResponseHeader(revision=found.header.revision)
            return found.header.revision
    return None


def test_a_transaction_that_writes_nothing_takes_no_revision(world: EtcdWorld) -> None:
    world.put(b"t")
    response = world.txn([], [delete(b"no"), delete(b"no"), nested()])
    assert response.header.revision == 2  # type: ignore[union-attr]
    assert _revision(response.responses[0]) == 2
    assert world.txn().succeeded


def test_previous_values_within_a_transaction(world: EtcdWorld) -> None:
    world.put(b"a", b"1")
    response = world.txn([], [put(b"a", b"2", prev_kv=True), put(b"b"), get(b"a"), delete(b"c", prev_kv=True)])
    assert response.responses[0].response_put.prev_kv == KeyValue(b"a", 2, 2, 1, b"1")  # type: ignore[union-attr]
    assert response.responses[1].response_put.prev_kv is None  # type: ignore[union-attr]
    assert response.responses[2].response_range.kvs == [KeyValue(b"a", 2, 3, 2, b"2")]  # type: ignore[union-attr]


def test_the_budget_of_operations_is_what_upper_levels_leave() -> None:
    transaction_of(TxnRequest(success=[nested(success=[get(b"k")] * 127)]))
    with pytest.raises(Exception, match="too many operations"):
        transaction_of(TxnRequest(success=[nested(success=[get(b"k")] * 128)]))


def test_a_full_space_stops_puts_and_nothing_else() -> None:
    world = EtcdWorld(Rules(space_size_max=1_000))
    full = ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded")
    world.put(b"a", b"v" * 300)
    assert world.refused(f"{KV}/Put", PutRequest(key=b"b", value=b"v" * 600)) == full
    assert world.refused(f"{KV}/Put", PutRequest(key=b"a", value=b"v")) == full  # The alarm stands.
    assert world.refused(f"{KV}/Txn", TxnRequest(success=[put(b"c")])) == full
    assert world.range(b"a").count == 1
    assert world.delete(b"a").deleted == 1


def test_unknown_fields_do_not_hide_a_request_of_one_key(world: EtcdWorld) -> None:
    world.put(b"a")
    assert world.get(f"{KV}/Range", encode(RangeRequest(key=b"a")) + b"\xf8\x07\x01", kv.RangeResponse).count == 1
    long = b"k" * 200
    world.put(long)
    assert world.range(long).count == 1
