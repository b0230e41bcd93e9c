from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.model import limits
from townhall.model.errors import InvalidField, Malformed, Misuse, UnknownField
from townhall.wire.strict_json import Strict


class Inner(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: str = ""
    pairs: dict[str, str] = {}


class Outer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    text: str
    number: int = 0
    weight: float = 1.0
    flag: bool = False
    items: list[Inner] = []
    nested: Outer | None = None


class Ids(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[int]


STRICT: Strict[Outer] = Strict(Outer, recursive=True)


def test_what_is_right_is_decoded() -> None:
    body = b' {"text":"\\u00e9:\\"", "number":-0, "items":[{"name":"a:b","pairs":{"x":"1:2","y":":"}}], "weight":1.0}\n'
    found = STRICT.decode(body)
    assert (found.text, found.items[0].pairs, found.weight) == ('é:"', {"x": "1:2", "y": ":"}, 1.0)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"text":"a","text":"b"}', "text"),
        (b'{"text":"a","number":1,"number":1}', "number"),
        (b'{"text":"a","weight":1.0,"weight":1.0}', "weight"),
        (b'{"text":"a" , "items" : [ { "name" : "x" , "name" : "x" } ]}', "name"),
        (b'{"text":"a","items":[{"pairs":{"k":"1","k":"2"}}]}', "k"),
        (b'{"text":"a","items":[{"pairs":{"k":"1","\\u006b":"2"}}]}', "k"),
        (b'{"text":"a:","text":"\\u003a\\u003a"}', "text"),
        (b'{"text":"\\u003a\\u003a","text":"a"}', "text"),
        (b'{"text":"a","nested":{"text":"b","text":"b"}}', "text"),
        (b'{"text":"a","items":[{"pairs":{"":"1","":"2"}}]}', ""),
        (b'{"text":"a","items":[],"items":[]}', "items"),
    ],
)
def test_duplicate_keys_are_refused_with_their_name(body: bytes, key: str) -> None:
    with pytest.raises(Malformed) as refused:
        STRICT.decode(body)
    assert refused.value.fields["field"] == key
    assert repr(key) in refused.value.message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "text"),
        (b'{"text":1}', "text"),
        (b'{"text":null}', "text"),
        (b'{"text":"a","number":1.5}', "number"),
        (b'{"text":"a","number":true}', "number"),
        (b'{"text":"a","number":"1"}', "number"),
        (b'{"text":"a","number":' + b"1" * 5_000 + b"}", "number"),
        (b'{"text":"a","weight":1e999}', "weight"),
        (b'{"text":"a","flag":1}', "flag"),
        (b'{"text":"a","items":{}}', "items"),
        (b'{"text":"a","items":[{"name":1}]}', "items[0].name"),
        (b'{"text":"a","items":[{"pairs":{"k":1}}]}', "items[0].pairs[...]"),
        (b'{"text":"a","items":[{},{"pairs":[]}]}', "items[1].pairs"),
        (b"[]", "body"),
        (b'"text"', "body"),
        (b"7", "body"),
    ],
)
def test_wrong_types_are_refused_with_their_path(body: bytes, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        STRICT.decode(body)
    assert refused.value.fields["field"] == field
    assert "`" not in refused.value.message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"text":"a","zork":1}', "zork"),
        (b'{"text":"a","items":[{"zork":{"a":[]}}]}', "items[0].zork"),
        (b'{"text":"a","nested":{"text":"b","\\n":1}}', "nested.\n"),
        (b'{"TEXT":"a"}', "TEXT"),
    ],
)
def test_unknown_fields_are_named(body: bytes, field: str) -> None:
    with pytest.raises(UnknownField) as refused:
        STRICT.decode(body)
    assert refused.value.fields["field"] == field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"text"',
        b'{"text":"a"',
        b'{"text":"a"}x',
        b'{"text":"a"}{}',
        b'{"text":"a",}',
        b"{'text':'a'}",
        b'{"text":NaN}',
        b'{"text":"a","weight":NaN}',
        b'{"text":"a","weight":Infinity}',
        b'{"text":"a","weight":-Infinity}',
        b'{"text":"a","weight":.5}',
        b'{"text":"a","weight":01}',
        b'{"text":"a\nb"}',
        b'{"text":"\xff"}',
        b'{"text":"\xc0\xaf"}',
        b'{"text":"\xed\xa0\x80"}',
        b'{"\xff":"a"}',
        b'{"text":"\\ud800"}',
        b'{"text":"\\udc00\\ud800"}',
        b'{"text":"\\x41"}',
        b'\xef\xbb\xbf{"text":"a"}',
        '{"text":"a"}'.encode("utf-16"),
        b"//c\n{}",
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        STRICT.decode(body)


def test_every_truncation_is_malformed() -> None:
    body = '{"text":"é\\n","items":[{"name":"x","pairs":{"k":"v"}}],"number":12}'.encode()
    STRICT.decode(body)
    for size in range(len(body)):
        with pytest.raises(Misuse):
            STRICT.decode(body[:size])


def nested(depth: int) -> bytes:
    return b'{"text":"[","nested":' * (depth - 1) + b'{"text":"["}' + b"}" * (depth - 1)


def test_nesting_is_limited_exactly() -> None:
    STRICT.decode(nested(limits.JSON_DEPTH_MAX))
    with pytest.raises(Malformed) as refused:
        STRICT.decode(nested(limits.JSON_DEPTH_MAX + 1))
    assert refused.value.fields["limit"] == limits.JSON_DEPTH_MAX
    for depth in (500, 5_000, 100_000):
        with pytest.raises(Malformed):
            STRICT.decode(nested(depth))


def test_many_brackets_that_do_not_nest_are_fine() -> None:
    many = b",".join([b'{"name":"{[\\"{"}'] * 500)
    assert len(STRICT.decode(b'{"text":"","items":[' + many + b"]}").items) == 500


def test_brackets_of_other_types_end_at_the_first_wrong_one() -> None:
    with pytest.raises(InvalidField):
        Strict(Inner).decode(b'{"name":' + b"[" * 1_000_000)


def test_lax_takes_numbers_written_as_text() -> None:
    lax = Strict(Ids, lax=True)
    assert lax.decode(b'{"ids":["12",13]}').ids == [12, 13]
    for wrong in (b'{"ids":["x"]}', b'{"ids":[null]}', b'{"ids":[""]}', b'{"ids":[true]}', b'{"ids":[" 1"]}'):
        with pytest.raises(InvalidField):
            lax.decode(wrong)
    with pytest.raises(Malformed):
        lax.decode(b'{"ids":[1],"ids":[2]}')


TEXTS = st.text(st.sampled_from('ab:"\\ {}[],é\x1f'), max_size=5)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=4)


def spell(text: str, escapes: bool) -> str:
    if escapes:
        return '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"'
    return json.dumps(text, ensure_ascii=False)


@settings(max_examples=400)
@given(PAIRS, TEXTS, st.booleans(), st.sampled_from([":", " :", ": ", " : "]))
def test_duplicates_are_found_exactly(pairs: list[tuple[str, str]], text: str, escapes: bool, colon: str) -> None:
    """Whatever colons, quotes and escapes the strings hold."""
    members = ",".join(f"{spell(key, escapes)}{colon}{spell(value, not escapes)}" for key, value in pairs)
    body = f'{{"text":{spell(text, False)},"items":[{{"pairs":{{{members}}}}}]}}'.encode()
    if len({key for key, _ in pairs}) < len(pairs):
        with pytest.raises(Malformed):
            STRICT.decode(body)
    else:
        assert STRICT.decode(body).items[0].pairs == dict(pairs)


@given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_nothing_but_misuse_is_raised(body: bytes) -> None:
    with contextlib.suppress(Misuse):
        STRICT.decode(body)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner), max_leaves=9))  # fmt: skip
def test_any_json_is_accepted_or_misuse(value: Any) -> None:
    with contextlib.suppress(InvalidField, UnknownField, Malformed):
        STRICT.decode(json.dumps(value).encode())
