"""Domain names: reading with compression, joining, text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.model.errors import Malformed
from townhall.wire.dns_names import LABEL_SIZE_MAX, NAME_SIZE_MAX, ROOT, join, labels, name_of, read_name, text_of

HEAD = bytes(12)
WEB = b"\x03web\x06consul\x00"


@pytest.mark.parametrize(
    ("text", "name"),
    [("", ROOT), (".", ROOT), ("web.consul", WEB), ("web.consul.", WEB), ("é", b"\x02\xc3\xa9\x00")],
)
def test_text_becomes_a_name(text, name):
    assert name_of(text) == name


@pytest.mark.parametrize("text", ["a..b", ".a", "a" * (LABEL_SIZE_MAX + 1), ".".join(["a" * 60] * 5)])
def test_impossible_names_are_refused(text):
    with pytest.raises(Malformed):
        name_of(text)


def test_a_name_of_the_largest_size_is_read_and_one_byte_more_is_not():
    largest = join([b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61])
    assert len(largest) == NAME_SIZE_MAX
    assert read_name(HEAD + largest, 12) == (largest, 12 + NAME_SIZE_MAX)
    parts = [b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 62]
    with pytest.raises(Malformed):
        read_name(HEAD + b"".join(bytes((len(p),)) + p for p in parts) + ROOT, 12)


def test_a_pointer_leads_back_to_an_earlier_name():
    data = HEAD + WEB + b"\x02v1\xc0\x0c"
    assert read_name(data, 12 + len(WEB)) == (b"\x02v1" + WEB, len(data))


@pytest.mark.parametrize(
    "tail",
    [
        b"\xc0\x0c",  # to itself
        b"\x01a\xc0\x0c",  # to its own beginning
        b"\xc0\x00",  # into the header
        b"\xc0\xff",  # ahead
        b"\x40a",  # label type 01
        b"\x80a",  # label type 10
        b"\xc0",  # half a pointer
        b"\x05ab",  # half a label
        b"\x01a",  # no end
        b"",
    ],
)
def test_bad_names_are_malformed(tail):
    with pytest.raises(Malformed):
        read_name(HEAD + tail, 12)


def test_pointers_in_a_circle_are_refused():
    with pytest.raises(Malformed):
        read_name(HEAD + b"\xc0\x0e\xc0\x0c", 14)


def test_text_is_escaped_as_in_a_zone_file():
    assert text_of(join([b"a.b", b'"\\', b"\x00\xff"])) == 'a\\.b.\\"\\\\.\\000\\255.'
    assert text_of(ROOT) == "."


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=10))
def test_labels_come_back(parts):
    name = join(parts)
    assert labels(name) == parts
    assert read_name(HEAD + name, 12) == (name, 12 + len(name))
