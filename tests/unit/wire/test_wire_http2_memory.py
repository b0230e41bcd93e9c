"""Header blocks: what is remembered, and that remembering changes nothing."""

from __future__ import annotations

from typing import Any

import hpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.model.limits import HTTP2_FIELD_MEMO_COUNT_MAX, HTTP2_HEAD_MEMO_COUNT_MAX, HTTP2_HEAD_MEMO_SIZE_MAX
from townhall.wire.http2 import ErrorCode, Fault, Http2Limits
from townhall.wire.http2 import memory as module
from townhall.wire.http2.blocks import cut
from townhall.wire.http2.heads import Field, Head
from townhall.wire.http2.memory import HeadReader, Memory, Recent

GOOD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"x")]
LIMITS = Http2Limits()
VARYING = b"grpc-timeout"
SIZE_MAX = LIMITS.header_size_max * 4


def encode(fields: list[tuple[bytes, bytes]], encoder: hpack.Encoder | None = None, *, huffman: bool = True) -> bytes:
    block: bytes = (encoder or hpack.Encoder()).encode(fields, huffman=huffman)
    return block


def reader(memory: Memory | None = None) -> HeadReader:
    return HeadReader(memory or Memory(LIMITS, varying=VARYING), LIMITS)


def tableless(memory: Memory) -> tuple[HeadReader, hpack.Encoder]:
    heads, encoder = reader(memory), hpack.Encoder()
    heads.acknowledged()
    encoder.header_table_size = 0
    heads.read(encode(GOOD, encoder))
    assert heads.tableless
    return heads, encoder


def test_tables_are_used_until_the_peer_has_read_our_settings() -> None:
    encoder, heads = hpack.Encoder(), reader()
    fields = [*GOOD, (b"token", b"abc")]
    first, second = encode(fields, encoder), encode(fields, encoder)
    assert len(second) < len(first), "the table is in use"
    assert heads.read(first)[0].fields == heads.read(second)[0].fields == [(b"token", b"abc")]
    assert not heads.tableless
    heads.acknowledged()
    encoder.header_table_size = 0
    assert heads.read(encode(fields, encoder))[0].fields == [(b"token", b"abc")]
    assert heads.tableless
    again = encode(fields, encoder)
    assert heads.read(again)[0] is heads.read(again)[0]


def test_a_peer_that_goes_on_using_its_table_is_read_as_it_wants_to_be() -> None:
    encoder, heads = hpack.Encoder(), reader()
    fields = [*GOOD, (b"token", b"abc")]
    heads.read(encode(fields, encoder))
    heads.acknowledged()
    assert heads.read(encode(fields, encoder))[0].fields == [(b"token", b"abc")]
    assert not heads.tableless
    encoder.header_table_size = 100
    with pytest.raises(Fault) as caught:
        heads.read(encode(fields, encoder))
    assert caught.value.error is ErrorCode.COMPRESSION_ERROR, "but it may not ask for one"


def test_blocks_that_only_read_a_table_are_remembered_until_it_changes() -> None:
    encoder, heads = hpack.Encoder(), reader()
    heads.acknowledged()
    fields = [*GOOD, (b"token", b"abc")]
    heads.read(encode(fields, encoder))
    block = encode(fields, encoder)
    first = heads.read(block)
    assert heads.read(block)[0] is first[0]
    heads.read(encode([*GOOD, (b"more", b"1")], encoder))  # Enters the table, so that all indices move.
    found = heads.read(block)[0]
    assert found is not first[0]
    assert found.fields != first[0].fields
    moved = encode(fields, encoder)
    assert heads.read(moved)[0].fields == [(b"token", b"abc")]
    assert heads.read(moved)[0] is heads.read(moved)[0]
    # Never the same bytes twice: what is remembered stays bounded.
    for number in range(3 * module._STEADY_COUNT_MAX):
        plain = b"\x00\x01x\x03%03d" % number
        assert heads.read(moved + plain)[0].fields == [(b"token", b"abc"), (b"x", b"%03d" % number)]
        assert len(heads._steady) <= module._STEADY_COUNT_MAX


def test_a_table_that_was_given_up_stays_so() -> None:
    heads, encoder = tableless(Memory(LIMITS, varying=VARYING))
    encoder.header_table_size = 100
    with pytest.raises(Fault):
        heads.read(encode(GOOD, encoder))


def test_a_client_that_keeps_no_table_is_known_to_all_by_its_blocks_however_early_it_begins() -> None:
    heads = reader()
    block = b"\x20" + encode(GOOD)  # Before it has read our settings, and each block says that it keeps no table.
    heads.read(block)
    heads.acknowledged()
    assert heads.tableless
    assert heads.read(block)[0] is heads.whole.get(block)


def test_the_varying_field_is_looked_for_only_where_fields_begin() -> None:
    heads, encoder = tableless(Memory(LIMITS, varying=VARYING))
    before, after = [*GOOD, (b"x", b"y")], [(b"z", b"")]
    for huffman in (True, False):
        for value in (b"1S", b"25m", b"1S"):
            block = encode([*before, (VARYING, value), *after], encoder, huffman=huffman)
            for _ in range(2):
                head, varying = heads.read(block)
                assert (varying, head.fields) == (value, [(b"x", b"y"), *after])
        inside = encode([*before, (b"note", b"\x0cgrpc-timeout\x021S"), *after], encoder, huffman=huffman)
        assert heads.read(inside)[1] == b""


def test_a_recent_dictionary_is_bounded_and_keeps_what_is_asked_for() -> None:
    recent: Recent[int, int] = Recent(10)
    recent.put(-1, 0)
    for number in range(100):
        recent.put(number, number)
        assert len(recent) <= 20
        if number % 5 == 0:
            assert recent.get(-1) == 0
    assert recent.get(1) is None
    assert HTTP2_FIELD_MEMO_COUNT_MAX > HTTP2_HEAD_MEMO_COUNT_MAX > 10


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HTTP2_HEAD_MEMO_COUNT_MAX", 10)
    monkeypatch.setattr(module, "HTTP2_FIELD_MEMO_COUNT_MAX", 10)
    memory = Memory(LIMITS, varying=VARYING)
    heads, encoder = tableless(memory)
    first = encode([*GOOD, (b"x", b"first")], encoder)
    kept: Any = heads.read(first)
    for index in range(100):
        heads.read(encode([*GOOD, (b"x", b"%d" % index), (VARYING, b"%dS" % index)], encoder))
        heads.read(encode([*GOOD, (b"x", b"%d" % index)], encoder))
        assert len(memory) <= 100
        if index % 5 == 0:
            assert heads.read(first)[0] is kept[0], "what is asked for stays"
    large = encode([*GOOD, (b"x", b"~" * HTTP2_HEAD_MEMO_SIZE_MAX)], encoder)
    assert heads.read(large)[0] is not heads.read(large)[0]


NAMES = st.sampled_from([b"x", b"token", b"user-agent", VARYING, b"content-type", b"grpc-timeout-not", b"a-bin"])
VALUES = st.one_of(
    st.sampled_from([b"", b"1S", b"4999871u", b"application/grpc", b"\0\x0cgrpc-timeout\x021S", b"trailers"]),
    st.binary(max_size=200),
)
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


def meaning(made: tuple[Head, bytes]) -> tuple[object, ...]:
    head, varying = made
    return head.method, head.path, head.fields, head.length, bool(head.fault), varying


def plainly(decoder: hpack.Decoder, block: bytes) -> tuple[object, ...]:
    """What the library's decoder alone makes of a block, or how it fails."""
    try:
        fields: list[Field] = [(bytes(n), bytes(v)) for n, v in decoder.decode(block, raw=True)]
    except (hpack.HPACKError, IndexError) as error:
        return ("oversized" if isinstance(error, hpack.OversizedHeaderListError) else "broken",)
    return meaning(Memory(LIMITS, varying=VARYING).apart(fields))


def quickly(heads: HeadReader, block: bytes) -> tuple[object, ...]:
    try:
        return meaning(heads.read(block))
    except Fault as fault:
        return ("oversized" if fault.error is ErrorCode.ENHANCE_YOUR_CALM else "broken",)


MEMORY = Memory(LIMITS, varying=VARYING)
"""One for all examples, as one is for all connections."""


@given(st.lists(st.tuples(LISTS, st.booleans(), st.integers(0, 3)), max_size=6), st.booleans(), st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_remembering_gives_what_the_plain_decoder_gives(
    lists: list[tuple[list[Field], bool, int]], empty: bool, data: st.DataObject
) -> None:
    encoder, decoder, heads = hpack.Encoder(), hpack.Decoder(SIZE_MAX), reader(MEMORY)
    if empty:
        heads.acknowledged()
        encoder.header_table_size = 0
    for fields, huffman, damage in lists:
        never = damage == 3
        listed = [hpack.NeverIndexedHeaderTuple(n, v) if never else (n, v) for n, v in [*GOOD, *fields]]
        block: bytes = encoder.encode(listed, huffman=huffman)
        if damage == 1 and block:
            at = data.draw(st.integers(0, len(block) - 1))
            block = block[:at] + bytes((data.draw(st.integers(0, 255)),)) + block[at + 1 :]
        elif damage == 2:
            block = block[: data.draw(st.integers(0, len(block)))]
        if empty and not heads.tableless and block[:1] != b"\x20":
            return  # The damage took the size update: what comes then depends on the table.
        if empty:
            decoder.max_allowed_table_size = 0  # A second update that makes the table grow again is refused by both.
        expected = plainly(decoder, block)
        assert quickly(heads, block) == expected
        if expected in (("broken",), ("oversized",)):
            return
        if heads.tableless:
            decoder.max_allowed_table_size = 0
            assert quickly(heads, block) == expected, "and once more"


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_give_what_the_plain_decoder_gives(block: bytes) -> None:
    assert quickly(reader(MEMORY), block) == plainly(hpack.Decoder(SIZE_MAX), block)


CUTS: list[tuple[bytes, bool, list[bytes] | None]] = [
    (b"", False, []),
    (b"\x82\x84", False, [b"\x82", b"\x84"]),
    (b"\x00\x01a\x01b", False, [b"\x00\x01a\x01b"]),
    (b"\x10\x01a\x00\x04\x01/", False, [b"\x10\x01a\x00", b"\x04\x01/"]),
    (b"\x0f\x10\x01x", False, [b"\x0f\x10\x01x"]),
    (b"\x0f\x2f\x01x", False, None),
    (b"\x41\x01x", False, None),
    (b"\x41\x01x", True, [b"\x41\x01x"]),
    (b"\x7f\x00\x01x", True, None),
    (b"\x20\x82", True, [b"\x82"]),
    (b"\x20\x82", False, None),
    (b"\x82\x20", True, None),
    (b"\x80", False, None),
    (b"\xbe", True, None),
    (b"\xff\x00", True, None),
    (b"\x00\x7f\x00" + b"a" * 127 + b"\x00", False, [b"\x00\x7f\x00" + b"a" * 127 + b"\x00"]),
    (b"\x00\x7f\x81\x01" + b"a" * 256 + b"\x00", False, [b"\x00\x7f\x81\x01" + b"a" * 256 + b"\x00"]),
    (b"\x00\x7f\x81\x81\x01", False, None),
    (b"\x00\x05ab", False, None),
    (b"\x00", False, None),
]


@pytest.mark.parametrize(("block", "empty", "parts"), CUTS)
def test_where_fields_begin_and_end(block: bytes, empty: bool, parts: list[bytes] | None) -> None:
    assert cut(block, tableless=empty) == parts


@pytest.mark.parametrize(
    "block", [b"\x80", b"\xff\xff\xff\xff\xff\xff", b"\x00\x05ab", b"\x40", b"\x3f\xff\xff\x03", b"\xbe"]
)
def test_blocks_that_are_none(block: bytes) -> None:
    for heads in (reader(), tableless(Memory(LIMITS, varying=b"x"))[0]):
        with pytest.raises(Fault) as caught:
            heads.read(block)
        assert (caught.value.error, caught.value.stream) == (ErrorCode.COMPRESSION_ERROR, 0)


def test_a_bomb_does_not_unfold() -> None:
    encoder, heads = hpack.Encoder(), reader()
    heads.read(encode([*GOOD, (b"x", b"y" * 4_000)], encoder))
    for block in (b"\xbe" * 16_000, b"\x82" * 16_000):
        with pytest.raises(Fault) as caught:
            heads.read(block)
        assert caught.value.error is ErrorCode.ENHANCE_YOUR_CALM
