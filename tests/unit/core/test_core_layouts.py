"""What each layout reads and writes, and what survives a round trip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.core.keyspace import TO_THE_END
from townhall.core.layouts import Entry
from townhall.core.layouts.address import Address
from townhall.core.layouts.keys import Place, key_of, place_of, prefix_end
from townhall.core.layouts.kitex import Kitex
from townhall.core.layouts.kratos import Kratos
from townhall.core.layouts.naming import Naming
from townhall.core.layouts.table import LAYOUTS
from townhall.core.layouts.values import endpoint, text_of
from townhall.model import limits

HERE = {"address": "127.0.0.1", "port": 8080}


def read(layout: str, value: str | bytes, service: str = "web", id_: str = "a") -> Entry | None:
    return LAYOUTS[layout].read(value.encode() if isinstance(value, str) else value, service=service, id=id_)


def write(layout: str, entry: Entry, service: str = "web", id_: str = "a") -> bytes | None:
    return LAYOUTS[layout].write(entry, service=service, id=id_)


@pytest.mark.parametrize(
    ("layout", "value", "fields"),
    [
        # As go.etcd.io/etcd/client/v3/naming/endpoints writes it.
        ("naming", '{"Op":0,"Addr":"127.0.0.1:8080","Metadata":null}', {}),
        ("naming", '{"Addr":"127.0.0.1:8080"}', {}),
        ("naming", '{"Op":0,"Addr":"[::1]:8080","Metadata":null}', {"address": "::1"}),
        ("naming", '{"Op":0,"Addr":"db.local:8080","Metadata":"v1"}', {"address": "db.local", "metadata": {"Metadata": "v1"}}),
        ("naming", '{"Op":0,"Addr":"127.0.0.1:8080","Metadata":[1]}', {"metadata": {"Metadata": "[1]"}}),
        (
            "naming",
            '{"Op":0,"Addr":"127.0.0.1:8080","Metadata":{"weight":2,"tags":["x"],"zone":"z1","v":"1","n":{"a":1}}}',
            {"weight": 2.0, "tags": ("x",), "zone": "z1", "metadata": {"v": "1", "n": '{"a":1}'}},
        ),
        ("plain", "127.0.0.1:8080", {}),
        ("plain", "https://127.0.0.1:8080/path?x=1", {"metadata": {"scheme": "https"}}),
        ("url", "http://127.0.0.1:8080", {}),
        ("go-kit", "http://127.0.0.1:8080", {"metadata": {"scheme": "http"}}),
        ("go-zero", "127.0.0.1:8080", {}),
        (
            "kratos",
            '{"id":"a","name":"web","version":"v2","metadata":{"weight":"30","x":"y"},'
            '"endpoints":["http://127.0.0.1:8080?isSecure=false","grpc://127.0.0.1:9000"]}',
            {"ports": {"http": 8080, "grpc": 9000}, "weight": 30.0, "metadata": {"version": "v2", "x": "y"}},
        ),
        ("kratos", '{"id":"a","name":"web","version":"","metadata":null,"endpoints":["grpc://127.0.0.1:8080"]}', {}),
        ("kitex", '{"network":"tcp","address":"127.0.0.1:8080","weight":7,"tags":{"a":"b"}}', {"weight": 7.0, "metadata": {"a": "b"}}),
        ("kitex", '{"network":"tcp","address":"127.0.0.1:8080","weight":0,"tags":null}', {"weight": 10.0}),
    ],
)  # fmt: skip
def test_what_the_libraries_write_is_read(layout: str, value: str, fields: dict[str, Any]) -> None:
    assert read(layout, value) == Entry(**(HERE | fields))


@pytest.mark.parametrize(
    ("layout", "value"),
    [
        ("naming", '{"Op":1,"Addr":"127.0.0.1:8080"}'),  # What old clients wrote to delete.
        ("naming", '{"Addr":"127.0.0.1:8080","name":"an application\'s own"}'),
        ("naming", '{"Addr":"http://127.0.0.1:8080"}'),
        ("naming", '{"Addr":""}'),
        ("naming", '{"Addr":":8080"}'),
        ("naming", '{"Addr":"0.0.0.0:8080"}'),
        ("naming", '{"Addr":"127.0.0.1:0"}'),
        ("naming", '{"Addr":"127.0.0.1:99999"}'),
        ("naming", '{"Addr":5}'),
        ("naming", "[]"),
        ("naming", b'{"Addr":"\xff:1"}'),
        ("naming", '{"Addr":"127.0.0.1:8080","Metadata":' + "[" * 100_000),
        ("naming", '{"Addr":"127.0.0.1:8080","Metadata":' + "[" * 300 + "]" * 300 + "}"),
        ("naming", '{"Addr":"127.0.0.1:8080","Metadata":"' + "x" * limits.LAYOUT_VALUE_SIZE_MAX + '"}'),
        ("naming", json.dumps({"Addr": "127.0.0.1:8080", "Metadata": {"": "no name"}})),
        ("plain", "hello"),
        ("plain", "127.0.0.1"),
        ("plain", "127.0.0.1:8080 and more"),
        ("plain", b"\xff\xfe"),
        ("plain", "x" * 5_000 + ":80"),
        ("kratos", '{"id":"a","name":"other","endpoints":["grpc://127.0.0.1:8080"]}'),
        ("kratos", '{"id":"a","name":"web","endpoints":[]}'),
        ("kratos", '{"id":"a","name":"web","endpoints":["nowhere"]}'),
        ("kitex", '{"network":"unix","address":"/tmp/socket","weight":10}'),
        ("kitex", '{"network":"tcp","address":"127.0.0.1:8080","weight":99999999999999999999999}'),
    ],
)
def test_anything_else_is_simply_a_key(layout: str, value: str | bytes) -> None:
    assert read(layout, value) is None


@pytest.mark.parametrize("layout", LAYOUTS)
@given(value=st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_no_value_raises(layout: str, value: bytes) -> None:
    LAYOUTS[layout].read(value, service="web", id="a")


def test_brackets_are_counted_before_anything_is_decoded() -> None:
    fits = limits.LAYOUT_BRACKETS_MAX - 1
    deep = "[" * fits + "]" * fits
    assert read("naming", '{"Addr":"127.0.0.1:8080","Metadata":' + deep + "}") is not None
    assert read("naming", '{"Addr":"127.0.0.1:8080","Metadata":[' + deep + "]}") is None


words = st.text("abcxyz-_.0", min_size=1, max_size=8)
OWN = {"weight", "tags", "ports", "region", "zone", "cluster", "Metadata"}
names_ = words.filter(lambda word: word not in OWN)
entries = st.builds(
    Entry,
    address=st.sampled_from(("127.0.0.1", "::1", "db.local")),
    port=st.integers(1, 65_535),
    ports=st.dictionaries(st.sampled_from(("http", "grpc", "admin_1")), st.integers(1, 65_535), max_size=3),
    tags=st.lists(words, max_size=3, unique=True).map(tuple),
    metadata=st.dictionaries(names_, st.text(max_size=8).filter(str.isprintable), max_size=3),
    weight=st.sampled_from((1.0, 0.0, 2.0, 2.5, 100.0)),
    region=st.sampled_from(("", "r1")),
    zone=st.sampled_from(("", "z1")),
    cluster=st.sampled_from(("", "c1")),
)


@given(entries)
def test_all_survives_the_naming_json(entry: Entry) -> None:
    value = write("naming", entry)
    assert value is not None
    assert read("naming", value) == entry


KEPT = {
    "naming": {"ports", "tags", "metadata", "weight", "region", "zone", "cluster"},
    "plain": set(), "url": set(), "go-zero": set(), "go-kit": set(),
    "kratos": {"metadata", "weight"},
    "kitex": {"metadata"},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_page_says_what_survives(layout: str) -> None:
    fields = ("ports", "tags", "metadata", "weight", "region", "zone", "cluster")
    row = f"| `{layout}` | yes | " + " | ".join("yes" if field in KEPT[layout] else "no" for field in fields) + " |"
    page = Path(__file__).resolve().parents[3] / "docs" / "protocols" / "etcd-layouts.md"
    assert row in page.read_text().splitlines()


@pytest.mark.parametrize("layout", LAYOUTS)
@given(entry=entries)
def test_what_survives_from_instance_to_key_to_instance(layout: str, entry: Entry) -> None:
    """Beside address and port, which always do."""
    value = write(layout, entry)
    assert value is not None
    again = read(layout, value)
    assert again is not None
    for field in {"address", "port"} | KEPT[layout]:
        assert getattr(again, field) == getattr(entry, field), field


@pytest.mark.parametrize("layout", LAYOUTS)
@given(entry=entries)
def test_a_second_round_trip_changes_nothing(layout: str, entry: Entry) -> None:
    """From key to instance to key: what the layout writes it reads, and writes again byte by byte."""
    value = write(layout, entry)
    assert value is not None
    again = read(layout, value)
    assert again is not None
    assert write(layout, again) == value


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_instance_without_a_port_cannot_be_shown(layout: str) -> None:
    assert write(layout, Entry(address="127.0.0.1", port=0)) is None


def test_clients_of_go_zero_are_given_no_url() -> None:
    entry = Entry(address="127.0.0.1", port=80, metadata={"scheme": "http"})
    written = {name: write(name, entry) for name in ("go-kit", "plain", "go-zero")}
    assert written == {"go-kit": b"http://127.0.0.1:80", "plain": b"http://127.0.0.1:80", "go-zero": b"127.0.0.1:80"}


def test_the_table_names_them_all() -> None:
    assert {name: type(layout) for name, layout in LAYOUTS.items()} == {
        "naming": Naming, "plain": Address, "url": Address, "go-zero": Address, "kratos": Kratos, "go-kit": Address, "kitex": Kitex,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "db.local:80", "grpc://127.0.0.1:80", "http://[::1]:80"])
def test_endpoints_there_and_back(text: str) -> None:
    found = endpoint(text)
    assert found is not None
    assert text_of(found[1], found[2], found[0]) == text


# --- keys


@pytest.mark.parametrize(
    ("prefix", "key", "place"),
    [
        (b"service/", b"service/web/a", Place("web", "a")),
        (b"service/", b"service/web/127.0.0.1:80", Place("web", "127.0.0.1:80")),
        (b"service/", b"service/web/a%2Fb", Place("web", "a/b")),
        (b"service/", b"service/team/web/a", None),
        (b"service/", b"service/web", None),
        (b"service/", b"service/web/", None),
        (b"service/", b"service//a", None),
        (b"service/", b"services/web/a", None),
        (b"service/", b"service/\xff/a", None),
        (b"service/", b"service/we b/a", None),
        (b"user.", b"user.rpc/7587", Place("user.rpc", "7587")),
        (b"user.", b"order.rpc/7587", None),
        (b"", b"user.rpc/7587", Place("user.rpc", "7587")),
        (b"/microservices/", b"/microservices/web/id", Place("web", "id")),
    ],
)
def test_what_a_key_says(prefix: bytes, key: bytes, place: Place | None) -> None:
    assert place_of(prefix, key) == place
    if place is not None:
        assert key_of(prefix, place) == key


@given(service=words, id_=st.text("ab/%25F:.-", min_size=1, max_size=12))
def test_keys_there_and_back(service: str, id_: str) -> None:
    place = Place(service, id_)
    assert place_of(b"x/y/", key_of(b"x/y/", place)) == place


def test_where_a_prefix_ends() -> None:
    assert prefix_end(b"service/") == b"service0"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") == prefix_end(b"") == TO_THE_END
