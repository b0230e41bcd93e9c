"""etcd's messages: every one compiles and comes back; bytes recorded from Google's library; the fragments' bytes."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.model.errors import Malformed
from townhall.model.keys import KeyEvent
from townhall.model.keys import KeyValue as CoreKeyValue
from townhall.wire import protobuf_json
from townhall.wire.etcd import EtcdMessage, auth, cluster, concurrency, fragments, health, kv, lease, maintenance, watch
from townhall.wire.etcd.kv import (  # fmt: skip
    Compare,
    KeyValue,
    PutRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseHeader,
    TxnRequest,
)
from townhall.wire.etcd.lease import LeaseGrantRequest, LeaseTimeToLiveResponse
from townhall.wire.etcd.maintenance import StatusResponse
from townhall.wire.etcd.watch import Event, WatchCreateRequest, WatchRequest, WatchResponse
from townhall.wire.protobuf import Field, Kind, Message, fields
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

FILES = (kv, watch, lease, cluster, maintenance, auth, concurrency, health)


def messages() -> Iterator[type[Message]]:
    for module in FILES:
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, Message) and found.__module__ == module.__name__:
                yield found


def sample(type_: type[Message], depth: int = 0) -> Any:
    """A message in which every field is set, and of a oneof one."""
    values: dict[str, Any] = {}
    taken: set[str] = set()
    for name, field in zip(type_.__struct_fields__, fields(type_), strict=True):
        if field.member_of in taken or (field.kind is Kind.MESSAGE and depth > 3):
            continue
        if field.member_of:
            taken.add(field.member_of)
        value = _value(field, depth)
        values[name] = [value, value] if field.repeated else value
    return type_(**values)


def _value(field: Field, depth: int) -> Any:
    match field.kind:
        case Kind.MESSAGE:
            return sample(field.type, depth + 1)
        case Kind.BYTES:
            return b"\xff" + field.name.encode()
        case Kind.STRING:
            return field.name
        case Kind.BOOL:
            return True
        case Kind.ENUM:
            return max(field.type)
        case Kind.UINT64 | Kind.UINT32:
            return 3_000_000_000
        case _:
            return -field.number


@pytest.mark.parametrize("type_", list(messages()), ids=lambda type_: type_.__name__)
def test_every_message_comes_back_in_both_forms(type_: type[Message]) -> None:
    message = sample(type_)
    data = encode(message)
    assert decode(type_, data) == message
    assert protobuf_json.decode(type_, protobuf_json.encode(message)) == message
    for size in range(len(data)):
        with contextlib.suppress(Malformed):
            decode(type_, data[:size])
    with pytest.raises(Malformed):
        decode(type_, data + b"\x07")


RECORDED: list[tuple[EtcdMessage, str]] = [
    (RangeRequest(key=b"a", range_end=b"b", limit=1, sort_order=2, sort_target=3, serializable=True), "0a01611201621801280230033801"),
    (PutRequest(key=b"k", value=b"v", lease=-5, prev_kv=True), "0a016b12017618fbffffffffffffffff012001"),
    (
        TxnRequest(
            compare=[Compare(result=3, target=1, key=b"k", create_revision=0, range_end=b"l")],
            success=[RequestOp(request_txn=TxnRequest())],
        ),
        "0a0d080310011a016b28008204016c12022200",
    ),
    (WatchRequest(create_request=WatchCreateRequest(key=b"k", filters=[0, 1], watch_id=-1)), "0a120a016b2a02000138ffffffffffffffffff01"),
    (LeaseGrantRequest(ttl=5, id=7), "08051007"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "data"), RECORDED)
def test_bytes_of_google_s_library(message: EtcdMessage, data: str) -> None:
    assert encode(message).hex() == data
    assert decode(type(message), bytes.fromhex(data)) == message


def test_names_in_json_are_those_of_the_proto_files() -> None:
    found = json.loads(protobuf_json.encode(sample(StatusResponse)))
    assert set(found) == {
        "header", "version", "dbSize", "leader", "raftIndex", "raftTerm", "raftAppliedIndex", "errors", "dbSizeInUse",
        "isLearner", "storageVersion", "dbSizeQuota", "downgradeInfo",
    }  # fmt: skip
    assert set(found["header"]) == {"cluster_id", "member_id", "revision", "raft_term"}
    assert set(json.loads(protobuf_json.encode(sample(LeaseTimeToLiveResponse)))) == {
        "header",
        "ID",
        "TTL",
        "grantedTTL",
        "keys",
    }


# --- fragments

KVS = [
    CoreKeyValue(b"k", b"", 2, 2, 1),
    CoreKeyValue(b"key" * 60, b"v" * 20_000, 1 << 40, 1 << 41, 300, -7),
    CoreKeyValue(b"\x00", b"\xff", 3, 9, 7, 1 << 62, flags=5, session="s"),
]


def whole(pair: CoreKeyValue) -> KeyValue:
    return KeyValue(pair.key, pair.create_revision, pair.mod_revision, pair.version, pair.value, pair.lease)


@pytest.mark.parametrize("pair", KVS)
def test_a_key_value_is_what_the_codec_writes(pair: CoreKeyValue) -> None:
    assert fragments.key_value(pair) == encode(whole(pair))
    without = fragments.key_value(pair, value=False)
    assert decode(KeyValue, without) == KeyValue(
        pair.key, pair.create_revision, pair.mod_revision, pair.version, b"", pair.lease
    )
    joined = (
        fragments.Header(1, 2, 3).at(4)
        + fragments.field(b"\x12", fragments.key_value(pair))
        + fragments.COUNT
        + b"\x01"
    )
    assert joined == encode(RangeResponse(ResponseHeader(1, 2, 4, 3), [whole(pair)], False, 1))


@given(st.integers(1, (1 << 64) - 1), st.integers(1, (1 << 64) - 1), st.integers(0, 1 << 62))
def test_a_header_is_what_the_codec_writes(cluster: int, member: int, revision: int) -> None:
    header = fragments.Header(cluster, member, 2)
    assert header.at(revision) == encode(RangeResponse(ResponseHeader(cluster, member, revision, 2)))
    assert header.at(revision) is header.at(revision)


@pytest.mark.parametrize("before", [True, False])
def test_an_event_is_what_the_codec_writes(before: bool) -> None:
    put = KeyEvent(9, KVS[1].key, KVS[1], KVS[0])
    made = KeyEvent(9, b"k", KVS[0], None)
    gone = KeyEvent(12, b"k", None, KVS[0])
    data = b"".join(fragments.event(event, before=before) for event in (put, made, gone))
    assert data == encode(
        WatchResponse(
            events=[
                Event(0, whole(KVS[1]), whole(KVS[0]) if before else None),
                Event(0, whole(KVS[0])),
                Event(1, KeyValue(b"k", mod_revision=12), whole(KVS[0]) if before else None),
            ]
        )
    )
    assert fragments.watch_id(-1) + fragments.watch_id(0) == encode(WatchResponse(watch_id=-1))


def test_base64_is_what_the_gateway_sends() -> None:
    assert json.loads(protobuf_json.encode(PutRequest(key=b"\xff")))["key"] == base64.b64encode(b"\xff").decode()
