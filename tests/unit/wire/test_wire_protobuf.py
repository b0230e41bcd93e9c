"""Protobuf bytes in and out: every kind of field, whole, truncated everywhere, with something behind, and hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protobuf_samples import PAIRS, Colour, Sample

from townhall.model import limits
from townhall.model.errors import Malformed
from townhall.wire import protobuf_decode
from townhall.wire.protobuf import Field, fields
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode, varint

WHOLE = Sample(
    data=b"\xff\x00", text="t", flag=True, number=-5, unsigned=1 << 63, small=-1, small_unsigned=7, colour=1,
    child=Sample(child=Sample(text="deep")), children=[Sample(number=1), Sample(data=b"z" * 300)],
    numbers=[0, -1, 1 << 40], texts=["a", "bc"], blobs=[b"", b"d"], colours=[0, 1, 5], one_data=b"o", far=b"far",
)  # fmt: skip


@pytest.mark.parametrize(("message", "data"), PAIRS)
def test_the_same_table_drives_reader_and_writer(message: Sample, data: str) -> None:
    assert encode(message).hex() == data
    assert decode(Sample, bytes.fromhex(data)) == message


def test_all_fields_at_once_come_back() -> None:
    assert decode(Sample, encode(WHOLE)) == WHOLE


def test_every_truncation_is_either_a_shorter_message_or_malformed() -> None:
    data = encode(WHOLE)
    cut = 0
    for size in range(len(data)):
        try:
            decode(Sample, data[:size])
        except Malformed:
            cut += 1
    assert cut > len(data) // 2  # Cuts between two fields leave a message.


def test_what_lies_behind_a_message_is_read_as_fields() -> None:
    with pytest.raises(Malformed):
        decode(Sample, encode(WHOLE) + b"\x00")
    with pytest.raises(Malformed):
        decode(Sample, encode(WHOLE) + b"\xff")
    assert decode(Sample, encode(WHOLE) + b"\x20\x05").number == 5


def test_the_last_of_several_counts_and_messages_merge() -> None:
    data = encode(Sample(number=1)) + encode(Sample(number=2))
    assert decode(Sample, data).number == 2
    data = encode(Sample(child=Sample(number=1, texts=["a"]))) + encode(Sample(child=Sample(flag=True, texts=["b"])))
    assert decode(Sample, data).child == Sample(number=1, flag=True, texts=["a", "b"])


def test_the_last_member_of_a_oneof_takes_the_place_of_the_others() -> None:
    data = encode(Sample(one_number=3)) + encode(Sample(one_data=b"x"))
    assert decode(Sample, data) == Sample(one_data=b"x")
    data += encode(Sample(one_child=Sample(number=4)))
    assert decode(Sample, data) == Sample(one_child=Sample(number=4))


def test_lists_of_numbers_come_packed_or_not_or_both() -> None:
    assert decode(Sample, bytes.fromhex("58015a0202035804")).numbers == [1, 2, 3, 4]
    assert decode(Sample, bytes.fromhex("7001")).colours == [Colour.GREEN]


def test_numbers_are_cut_to_their_size() -> None:
    assert decode(Sample, b"\x38" + varint((1 << 40) + 7)).small_unsigned == 7
    assert decode(Sample, b"\x30" + varint((1 << 40) - 1)).small == -1
    assert decode(Sample, bytes.fromhex("1802")).flag is True
    assert decode(Sample, bytes.fromhex("18808000")).flag is False
    assert decode(Sample, b"\x20" + b"\xff" * 9 + b"\x7f").number == -1


UNKNOWN = {
    "varint": "a00601",
    "fixed64": "a1060102030405060708",
    "bytes": "a20602abcd",
    "group": "a3060801a306a406a406",
    "fixed32": "a50601020304",
}


@pytest.mark.parametrize("data", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_fields_are_dropped(data: str) -> None:
    raw = bytes.fromhex(data)
    assert decode(Sample, b"\x18\x01" + raw + b"\x20\x07") == Sample(flag=True, number=7)
    for size in range(1, len(raw)):
        with pytest.raises(Malformed):
            decode(Sample, raw[:size])


BAD = {
    "field number 0": "0001",
    "wire type 6": "a6060000",
    "wire type 7": "a7060000",
    "end of no group": "a406",
    "another group's end": "a306ac06",
    "a known field of another wire type": "0801",
    "a message as a number": "4801",
    "a number as bytes": "220100",
    "a number of eleven bytes": "20" + "ff" * 10 + "01",
    "a length beyond the end": "0a05ff",
    "a length beyond all": "0a" + "ff" * 9 + "01",
    "not UTF-8": "1202c328",
    "not UTF-8 in a list": "6201ff",
    "a field number beyond 29 bits": "f8ffffffff0f01",
    "a child that is cut": "4a020a05",
    "packed numbers that are cut": "5a01ff",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_malformed(data: str) -> None:
    with pytest.raises(Malformed):
        decode(Sample, bytes.fromhex(data))


@pytest.mark.parametrize("tag", [b"\x4a", b"\x52"])
def test_nesting_is_bounded(tag: bytes) -> None:
    def nested(depth: int) -> bytes:
        data = b""
        for _ in range(depth):
            data = tag + varint(len(data)) + data
        return data

    decode(Sample, nested(limits.PROTOBUF_DEPTH_MAX))
    with pytest.raises(Malformed, match="deeper"):
        decode(Sample, nested(limits.PROTOBUF_DEPTH_MAX + 1))
    with pytest.raises(Malformed, match="deeper"):
        decode(Sample, b"\xa3\x06" * (limits.PROTOBUF_DEPTH_MAX + 2))


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        message = decode(Sample, data)
    except Malformed:
        return
    assert decode(Sample, encode(message)) == message


@given(st.integers(0, (1 << 64) - 1))
def test_varints(value: int) -> None:
    assert decode(Sample, b"\x28" + varint(value)).unsigned == value
    signed = value - (1 << 64) if value >> 63 else value
    assert decode(Sample, encode(Sample(number=signed))).number == signed


def test_fields_tell_the_declaration() -> None:
    by_name = {field.name: field for field in fields(Sample)}
    assert by_name["far"].number == 640
    assert by_name["child"].type is Sample
    assert by_name["colours"].repeated
    assert by_name["one_number"].explicit
    assert not by_name["one_child"].explicit


def test_a_list_of_messages_has_an_end() -> None:
    most = limits.PROTOBUF_MESSAGES_MAX
    assert len(decode(Sample, b"\x52\x00" * most).children) == most
    with pytest.raises(Malformed, match="children"):
        decode(Sample, b"\x52\x00" * (most + 1))


def test_another_thread_may_meet_a_type_while_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_one, met = protobuf_decode._readers, list[Sample]()

    def readers(field: Field) -> list[tuple[int, protobuf_decode._Read]]:
        # Where a thread may have to wait for another one, which decodes the same type.
        if field.name == "text" and not met:
            met.append(Sample())
            met[0] = decode(Sample, encode(WHOLE))
        return compile_one(field)

    monkeypatch.setattr(protobuf_decode, "_TABLES", {})
    monkeypatch.setattr(protobuf_decode, "_readers", readers)
    assert decode(Sample, encode(WHOLE)) == WHOLE
    assert met == [WHOLE]
