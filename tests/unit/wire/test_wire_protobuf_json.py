"""The JSON form: out as etcd's gateway writes it, in as lenient as it reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protobuf_samples import PAIRS, Sample

from townhall.model import limits
from townhall.model.errors import Malformed
from townhall.wire import protobuf_json
from townhall.wire.protobuf_json import decode, encode, from_shape


@pytest.mark.parametrize("message", [message for message, _ in PAIRS])
def test_what_is_written_is_read(message: Sample) -> None:
    assert decode(Sample, encode(message)) == message


def test_numbers_of_64_bits_are_strings_and_enums_have_names() -> None:
    message = Sample(
        data=b"\xfb\xff", number=-1, unsigned=1 << 63, small=-3, small_unsigned=4, colour=1, colours=[1, 8]
    )
    assert json.loads(encode(message)) == {
        "data": "+/8=",
        "number": "-1",
        "unsigned": "9223372036854775808",
        "small": -3,
        "small_unsigned": 4,
        "colour": "GREEN",
        "colours": ["GREEN", 8],
    }


def test_defaults_are_left_out_but_not_members_of_a_oneof() -> None:
    assert json.loads(encode(Sample(child=Sample(), one_number=0))) == {"child": {}, "one_number": "0"}
    assert encode(Sample()) == b"{}"


READ: list[tuple[dict[str, Any], Sample]] = [
    ({"smallUnsigned": 1, "oneData": ""}, Sample(small_unsigned=1, one_data=b"")),
    ({"number": 5, "unsigned": "6", "small": 7.0}, Sample(number=5, unsigned=6, small=7)),
    ({"number": "-9223372036854775808"}, Sample(number=-(1 << 63))),
    ({"data": "__4="}, Sample(data=b"\xff\xfe")),
    ({"data": "//4"}, Sample(data=b"\xff\xfe")),
    ({"colour": "GREEN", "colours": [1, "RED", "MAUVE"]}, Sample(colour=1, colours=[1, 0, 0])),
    ({"colour": "MAUVE"}, Sample()),
    ({"colour": 9}, Sample(colour=9)),
    ({"nonsense": [1], "number": None, "child": None}, Sample()),
    ({"one_number": 1, "one_child": {"flag": True}}, Sample(one_child=Sample(flag=True))),
    ({"children": []}, Sample()),
    ({"children": [{}, {"text": "x"}]}, Sample(children=[Sample(), Sample(text="x")])),
]


@pytest.mark.parametrize(("found", "message"), READ)
def test_what_a_gateway_takes(found: dict[str, Any], message: Sample) -> None:
    assert decode(Sample, json.dumps(found).encode()) == message
    assert from_shape(Sample, found) == message


def test_an_empty_body_is_an_empty_message() -> None:
    assert decode(Sample, b" \n") == Sample()


BAD = [
    b"{nonsense", b"[1]", b"3", b'{"data": "***"}', b'{"data": "a"}', b'{"data": 1}', b'{"data": "AA AA"}', b'{"text": 1}', b'{"flag": 1}', b'{"flag": "true"}',
    b'{"number": "x"}', b'{"number": 1.5}', b'{"number": "9223372036854775808"}', b'{"number": true}', b'{"unsigned": -1}',
    b'{"small": 2147483648}', b'{"small_unsigned": 4294967296}', b'{"colour": []}', b'{"child": 1}', b'{"children": {}}',
    b'{"number": "' + b"9" * 5000 + b'"}', b'{"number": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"text": "\xff"}', "{\"number\": \"\u0661\"}".encode(),
]  # fmt: skip


@pytest.mark.parametrize("body", BAD)
def test_what_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(Sample, body)


def test_the_error_names_field_and_value() -> None:
    with pytest.raises(Malformed, match=r'proto: invalid value for bytes field data: "\*\*\*"'):
        decode(Sample, b'{"data": "***"}')
    with pytest.raises(Malformed, match=r"unexpected token \["):
        decode(Sample, b"[1]")


def test_nesting_is_bounded() -> None:
    depth = limits.PROTOBUF_DEPTH_MAX
    decode(Sample, b'{"child":' * depth + b"{}" + b"}" * depth)
    with pytest.raises(Malformed, match="deeper"):
        decode(Sample, b'{"child":' * (depth + 1) + b"{}" + b"}" * (depth + 1))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda some: st.lists(some) | st.dictionaries(st.sampled_from(list(Sample.__struct_fields__)), some), max_leaves=9))  # fmt: skip
def test_any_value_is_a_message_or_malformed(value: Any) -> None:
    try:
        message = from_shape(Sample, value)
    except Malformed:
        return
    assert decode(Sample, encode(message)) == message


def test_another_thread_may_meet_a_type_while_its_names_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, met = {"oneNumber": "1", "text": "a"}, list[Sample]()
    camel = protobuf_json._camel

    def in_between(name: str) -> str:
        if name == "text" and not met:
            met.append(Sample())
            met[0] = from_shape(Sample, shape)
        return camel(name)

    monkeypatch.setattr(protobuf_json, "_NAMES", {})
    monkeypatch.setattr(protobuf_json, "_camel", in_between)
    assert from_shape(Sample, shape) == Sample(text="a", one_number=1)
    assert met == [Sample(text="a", one_number=1)]
