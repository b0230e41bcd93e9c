"""Coverage-guided fuzzing of the etcd edge: bodies of the JSON gateway and protobuf messages (atheris).

Run with ``make fuzz``, or ``python tests/fuzz/fuzz_etcd.py [libFuzzer options] [corpus directory]``. What it holds
against every input, in one sentence: a body or message either raises ``Malformed`` or is the same message again after
every way there and back, objects of a streaming body do not depend on where its bytes are cut, a range joined of its pairs
is the JSON of the whole, and what the quick readers of puts and transactions find is what the plain ones find.
"""

from __future__ import annotations

import json
import sys

import atheris

with atheris.instrument_imports(include=["townhall"]):
    from townhall.face.etcd.gateway_json import Rendering
    from townhall.face.etcd.gateway_streams import Objects
    from townhall.face.etcd.gateway_table import ROWS
    from townhall.face.etcd.requests import put_of, transaction_of
    from townhall.face.etcd.requests_quick import quick_put, quick_transaction
    from townhall.model.errors import Malformed
    from townhall.wire import protobuf_json
    from townhall.wire.etcd.kv import PutRequest, RangeResponse, TxnRequest
    from townhall.wire.protobuf_decode import decode
    from townhall.wire.protobuf_encode import encode

TYPES = sorted({type_ for row in ROWS for type_ in (row.request, row.response)}, key=lambda type_: type_.__qualname__)


def check_body(body: bytes, which: int) -> None:
    type_ = TYPES[which % len(TYPES)]
    try:
        message = protobuf_json.decode(type_, body)
    except Malformed:
        return
    assert decode(type_, encode(message)) == message, "its bytes are another message"
    assert encode(protobuf_json.decode(type_, protobuf_json.encode(message))) == encode(message), "its JSON is another"
    rendering = Rendering()
    assert rendering.request(type_, body) == rendering.request(type_, body) == encode(message)


def check_message(data: bytes, which: int) -> None:
    type_ = TYPES[which % len(TYPES)]
    try:
        message = decode(type_, data)
    except Malformed:
        return
    again = encode(message)
    assert encode(decode(type_, again)) == again, "it is not the same again"
    found = json.loads(Rendering().answer(type_, again))
    assert found == json.loads(protobuf_json.encode(message)), "the gateway tells something else"


def check_range(data: bytes) -> None:
    try:
        message = decode(RangeResponse, data)
    except Malformed:
        return
    rendering = Rendering()
    for _ in range(2):
        found = json.loads(rendering.answer(RangeResponse, encode(message)))
        assert found == json.loads(protobuf_json.encode(message)), "joined it is not what it is as a whole"


def check_quick(data: bytes) -> None:
    put, transaction = quick_put(data), quick_transaction(data)
    assert put is None or put == put_of(decode(PutRequest, data)), "the quick reader found another put"
    assert transaction is None or transaction == transaction_of(decode(TxnRequest, data)), "or another transaction"


def check_objects(data: bytes, cut: int) -> None:
    def found(pieces: list[bytes]) -> tuple[list[bytes], bool]:
        finder, objects = Objects(), []
        try:
            for piece in pieces:
                objects += finder.feed(piece)
        except Malformed:
            return objects, False
        return objects, True

    at = cut % (len(data) + 1)
    whole, cut_once = found([data]), found([data[:at], data[at:]])
    assert whole[1] == cut_once[1], "where it is cut decides whether it is well formed"
    assert not whole[1] or whole[0] == cut_once[0], "where it is cut decides what it is"


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    which, rest = data[0], data[1:]
    check_body(rest, which)
    check_message(rest, which)
    check_range(rest)
    check_quick(rest)
    check_objects(rest, which)


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
