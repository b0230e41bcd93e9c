"""The quick readers of puts and transactions find what the plain decoder finds, or nothing; so do their answers."""

from __future__ import annotations

from typing import Any

import pytest
from etcd_world import EtcdWorld
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.core import Outcome
from townhall.core.commands import Transact, TransactResult
from townhall.face.etcd.member import SPACE
from townhall.face.etcd.pieces import Pieces
from townhall.face.etcd.requests import put_of, transaction_of
from townhall.face.etcd.requests_quick import quick_put, quick_transaction
from townhall.face.etcd.responses import plain_body, txn_body
from townhall.wire.etcd import kv
from townhall.wire.etcd.kv import Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

KEYS = st.sampled_from([b"a", b"b", b"c", b"d" * 127, b"e" * 128, b""])
VALUES = st.sampled_from([b"", b"v", b"v" * 127, b"v" * 128, b"v" * 16_383, b"v" * 16_384])
NUMBERS = st.sampled_from([0, 1, 127, 128, 2**62, 2**63 - 1, -1, -(2**63)])
RARELY = st.sampled_from([False] * 9 + [True])
PUTS = st.builds(PutRequest, key=KEYS, value=VALUES, lease=st.sampled_from([0] * 9 + [7]), prev_kv=RARELY)
OPERATIONS = st.one_of(
    st.builds(RequestOp, request_put=PUTS),
    st.builds(RequestOp, request_range=st.builds(RangeRequest, key=KEYS, serializable=RARELY)),
    st.builds(RequestOp, request_delete_range=st.builds(DeleteRangeRequest, key=KEYS, prev_kv=RARELY)),
    st.just(RequestOp()),
)
UNION: dict[str, st.SearchStrategy[Any]] = {
    "version": NUMBERS, "create_revision": NUMBERS, "mod_revision": NUMBERS, "value": VALUES, "lease": NUMBERS,
}  # fmt: skip


@st.composite
def compares(draw: st.DrawFn) -> Compare:
    fields: dict[str, Any] = {"result": draw(st.integers(0, 4)), "target": draw(st.integers(0, 5)), "key": draw(KEYS)}
    name = draw(st.sampled_from(["", *UNION]))
    if draw(st.booleans()):
        # What fits, as clients send it.
        name = ("version", "create_revision", "mod_revision", "value", "lease", "version")[fields["target"]]
    if name:
        fields[name] = draw(UNION[name])
    return Compare(**fields)


TRANSACTIONS = st.builds(
    TxnRequest,
    compare=st.lists(compares(), max_size=3),
    success=st.lists(OPERATIONS, max_size=4),
    failure=st.lists(OPERATIONS, max_size=3),
)


def spoilt(data: bytes, at: int, byte: int, cut: bool) -> bytes:
    """One byte another, or the rest cut off."""
    at %= len(data) + 1
    return data[:at] if cut else data[:at] + bytes((byte,)) + data[at + 1 :]


@given(PUTS, st.booleans(), st.integers(0, 2**16), st.integers(0, 255), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_put_is_read_as_by_the_plain_decoder(put: PutRequest, spoil: bool, at: int, byte: int, cut: bool) -> None:
    data = encode(put)
    if spoil:
        data = spoilt(data, at, byte, cut)
    found = quick_put(data, 0, len(data))
    if found is not None:
        assert found == put_of(decode(PutRequest, data))


@given(TRANSACTIONS, st.booleans(), st.integers(0, 2**16), st.integers(0, 255), st.booleans())
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_transaction_is_read_as_by_the_plain_decoder(
    request: TxnRequest, spoil: bool, at: int, byte: int, cut: bool
) -> None:
    data = encode(request)
    if spoil:
        data = spoilt(data, at, byte, cut)
    found = quick_transaction(data)
    if found is not None:
        assert found == transaction_of(decode(TxnRequest, data))


@given(st.binary(max_size=40))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_noise_is_left_to_the_plain_decoder_or_read_like_it(data: bytes) -> None:
    if quick_put(data, 0, len(data)) is not None:
        assert quick_put(data, 0, len(data)) == put_of(decode(PutRequest, data))
    if quick_transaction(data) is not None:
        assert quick_transaction(data) == transaction_of(decode(TxnRequest, data))


PLAIN = TxnRequest(
    (Compare(1, 0, b"k", version=0), Compare(0, 2, b"k", mod_revision=2**62), Compare(3, 3, b"k", value=b"v" * 300)),
    (RequestOp(request_put=PutRequest(b"k", b"v")), RequestOp(request_range=RangeRequest(b"k"))),
    (RequestOp(request_delete_range=DeleteRangeRequest(b"k")),),
)


def test_the_usual_forms_are_read_quickly() -> None:
    long = encode(PutRequest(b"k", b"v" * 300))
    assert quick_put(long, 0, len(long)) is not None
    assert quick_transaction(encode(PLAIN)) == transaction_of(PLAIN)
    assert quick_transaction(encode(TxnRequest(compare=(Compare(0, 4, b"k", lease=-5),)))) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode(PutRequest(b"k", b"v", prev_kv=True)),
        encode(PutRequest(b"k", b"v", 7)),
        encode(PutRequest(b"", b"v")),
        encode(PutRequest(b"k")),
    ],
)
def test_other_puts_are_not(data: bytes) -> None:
    assert quick_put(data, 0, len(data)) is None


@pytest.mark.parametrize(
    "request_",
    [
        TxnRequest(success=(RequestOp(request_txn=TxnRequest()),)),
        TxnRequest(success=(RequestOp(request_range=RangeRequest(b"k", b"l")),)),
        TxnRequest(success=(RequestOp(),)),
        TxnRequest(compare=(Compare(0, 0, b"k", version=1, range_end=b"l"),)),
        TxnRequest(compare=(Compare(0, 0, b"k"),)),
        TxnRequest(compare=(Compare(0, 1, b"k", version=1),)),
        TxnRequest(compare=(Compare(7, 0, b"k", version=1),)),
        TxnRequest(success=(RequestOp(request_put=PutRequest(b"k", b"v")),) * 65),
    ],
)
def test_other_transactions_are_not(request_: TxnRequest) -> None:
    assert quick_transaction(encode(request_)) is None


def test_a_result_of_two_bytes_is_not_taken_for_one() -> None:
    compare = encode(Compare(0, 0, b"k", version=1))
    assert quick_transaction(b"\x0a%c" % (len(compare) + 4) + b"\x08\x80\x08\x01" + compare) is None


@given(st.lists(TRANSACTIONS, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_answers_are_those_of_the_plain_way(requests: list[TxnRequest]) -> None:
    world, pieces = EtcdWorld(), Pieces()
    for request in requests:
        transaction = quick_transaction(encode(request))
        if transaction is None:
            continue
        outcome = world.run(Transact(space=SPACE, transaction=transaction))
        if isinstance(outcome, Outcome):
            assert isinstance(outcome.result, TransactResult)
            body = plain_body(transaction, outcome.result, pieces)
            assert body == txn_body(request, outcome.result, pieces)
            assert decode(kv.TxnResponse, body).succeeded == outcome.result.succeeded
