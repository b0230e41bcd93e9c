"""Data of records, both ways."""

from __future__ import annotations

import pytest

from townhall.model.errors import Malformed
from townhall.wire.dns_names import name_of
from townhall.wire.dns_records import (
    AAAA,
    CNAME,
    NS,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    Soa,
    Srv,
    Target,
    read_data,
    text_data,
    write_data,
)

HEAD = bytes(12)
NAME = name_of("web.consul")
CASES = [
    (A, b"\x7f\0\0\1"),
    (AAAA, bytes(15) + b"\1"),
    (TXT, b"\3abc\0"),
    (CNAME, Target(NAME)),
    (NS, Target(NAME)),
    (PTR, Target(NAME)),
    (SRV, Srv(1, 2, 80, NAME)),
    (SOA, Soa(NAME, name_of("h.consul"), 1, 2, 3, 4, 5)),
    (65280, b"whatever"),
]


def written(data) -> bytes:
    out = bytearray(HEAD)
    write_data(out, data, out.extend)
    return bytes(out)


@pytest.mark.parametrize(("type_", "data"), CASES)
def test_data_is_written_and_read_back(type_, data):
    whole = written(data)
    assert read_data(type_, whole, 12, len(whole)) == data


@pytest.mark.parametrize(("type_", "data"), CASES[:-1])
def test_data_cut_short_or_with_more_behind_it_is_malformed(type_, data):
    whole = written(data)
    for end in range(12, len(whole)):
        if type_ == TXT and whole[12:end] == b"\3abc":
            continue  # one string fewer is a TXT record too
        with pytest.raises(Malformed):
            read_data(type_, whole[:end], 12, end)
    with pytest.raises(Malformed):
        read_data(type_, whole + b"\x05", 12, len(whole) + 1)


@pytest.mark.parametrize(
    ("text", "data"), [(b"", b"\0"), (b"a=b", b"\3a=b"), (b"x" * 256, b"\xff" + b"x" * 255 + b"\1x")]
)
def test_long_text_is_several_strings(text, data):
    assert text_data(text) == data
