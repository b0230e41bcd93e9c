"""Documents of interfaces: canonical bytes, revisions, what is offered, and content that is not to be trusted."""

from __future__ import annotations

import contextlib
import json
from hashlib import sha256

import msgspec
import pytest
from descriptor_sets import descriptor_set
from hypothesis import given
from hypothesis import strategies as st

from townhall.client.interfaces import REVISION_KEY, Interfaces, difference, is_revision, revision_of
from townhall.model import limits
from townhall.model.errors import InvalidField, PeerMisbehaved, TooLarge

OPENAPI = {
    "openapi": "3.1.0",
    "paths": {
        "/users/{id}": {"get": {"responses": {"200": {}}}, "parameters": [], "summary": "x"},
        "/users": {"post": {}, "x-own": {}},
    },
}


def test_methods_come_from_all_that_is_given() -> None:
    found = Interfaces(methods=["cache.evict"], openapi=OPENAPI, descriptor_set=descriptor_set())
    assert found.methods == (
        "GET /users/{id}", "POST /users", "cache.evict", "user.v1.Admin/Ban", "user.v1.Users/Get", "user.v1.Users/Put",
    )  # fmt: skip
    assert found.openapi == OPENAPI
    assert found.descriptor_set == descriptor_set()
    assert found.schemas == {}
    assert Interfaces(schemas={"User": {"type": "object"}}).schemas == {"User": {"type": "object"}}


def test_a_service_is_offered_when_one_of_its_methods_is() -> None:
    found = Interfaces(openapi=OPENAPI, descriptor_set=descriptor_set())
    assert found.offers("user.v1.Users/Get")
    assert found.offers("user.v1.Users")
    assert found.offers("GET /users/{id}")
    assert not found.offers("user.v1")
    assert not found.offers("GET /users")
    assert not found.offers("GET ")
    assert not found.offers("")


def test_the_bytes_are_canonical_and_the_revision_is_their_hash() -> None:
    one = Interfaces(methods=["b", "a"], schemas={"x": {"q": 1, "p": 2}})
    other = Interfaces(methods=["a", "b", "a"], schemas={"x": {"p": 2, "q": 1}})
    assert one.data == other.data == b'{"format":1,"methods":["a","b"],"schemas":{"x":{"p":2,"q":1}}}'
    assert one.revision == sha256(one.data).hexdigest()[:32]
    assert one == other
    assert hash(one) == hash(other)
    assert one != Interfaces(methods=["a"])
    assert Interfaces(openapi=json.dumps(OPENAPI)) == Interfaces(openapi=OPENAPI)
    assert is_revision(one.revision)
    assert one.revision in repr(one)


def test_what_is_read_is_what_was_written() -> None:
    one = Interfaces(methods=["m"], openapi=OPENAPI, descriptor_set=descriptor_set(), schemas={"s": {}})
    read = Interfaces.read(one.data, one.revision)
    assert read == one
    assert (read.methods, read.openapi, read.descriptor_set, read.schemas) == (
        one.methods,
        one.openapi,
        one.descriptor_set,
        one.schemas,
    )


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({}, "say what is offered"),
        ({"openapi": {}}, "say what is offered"),
        ({"openapi": "[]"}, "openapi"),
        ({"openapi": b"{"}, "openapi"),
        ({"openapi": {"responses": {200: {}}}}, "keys must be text"),
        ({"methods": [""]}, "empty"),
        ({"methods": ["a\nb"]}, "printable"),
        ({"methods": ["x" * (limits.CLIENT_METHOD_SIZE_MAX + 1)]}, "too long"),
        ({"methods": [str(n) for n in range(limits.CLIENT_METHODS_COUNT_MAX + 1)]}, "at most"),
        ({"descriptor_set": b"\x0a\x05abc"}, "descriptor_set"),
        ({"schemas": {"x": object()}}, "JSON"),
    ],
)
def test_mistakes_are_named(given_: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidField, match=words):
        Interfaces(**given_)  # type: ignore[arg-type]


def test_a_huge_document_is_refused_where_it_is_made() -> None:
    with pytest.raises(TooLarge, match="leave out examples"):
        Interfaces(schemas={"x": "y" * limits.CLIENT_INTERFACES_SIZE_MAX})


def signed(data: bytes) -> tuple[bytes, str]:
    return data, sha256(data).hexdigest()[:32]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"methods":["a"]}',
        b'{"format":2,"methods":["a"]}',
        b'{"format":1,"methods":"a"}',
        b'{"format":1,"methods":[1]}',
        b'{"format":1,"methods":["a\\u0000"]}',
        b'{"format":1,"methods":["\xff"]}',
        b'{"format":1,"openapi":' + b"[" * 200_000,
        b'{"format":1,"openapi":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"format":1,"descriptor_set":"%"}',
        b'{"format":1,"openapi":nul}',
        json.dumps({"format": 1, "methods": ["m"] * (limits.CLIENT_METHODS_COUNT_MAX + 1)}).encode(),
        b'{"format":1,"schemas":"' + b"x" * limits.CLIENT_INTERFACES_SIZE_MAX + b'"}',
    ],
)
def test_content_that_is_no_document_is_the_peers_fault(content: bytes) -> None:
    with pytest.raises(PeerMisbehaved):
        Interfaces.read(*signed(content))


def test_a_wrong_hash_is_the_peers_fault() -> None:
    one, other = Interfaces(methods=["a"]), Interfaces(methods=["b"])
    with pytest.raises(PeerMisbehaved, match="hashes to"):
        Interfaces.read(one.data, other.revision)
    for at in range(len(one.data)):
        with pytest.raises(PeerMisbehaved):
            Interfaces.read(one.data[:at], one.revision)
    with pytest.raises(PeerMisbehaved):
        Interfaces.read(one.data + b" ", one.revision)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(PeerMisbehaved):
        Interfaces.read(*signed(data))


@given(
    st.dictionaries(
        st.text(), st.recursive(st.none() | st.integers(0, 9) | st.text(), st.lists, max_leaves=9), max_size=4
    )
)
def test_schemas_of_any_form_come_back(schemas: dict[str, object]) -> None:
    one = Interfaces(methods=["m"], schemas=schemas)
    assert Interfaces.read(one.data, one.revision).schemas == msgspec.json.decode(msgspec.json.encode(schemas))


def test_later_versions_may_add_fields() -> None:
    read = Interfaces.read(*signed(b'{"format":1,"methods":["a"],"later":{"x":1}}'))
    assert read.methods == ("a",)


def test_difference_names_methods_and_documents() -> None:
    old = Interfaces(methods=["a", "b"], schemas={"x": 1})
    new = Interfaces(methods=["b", "c"], schemas={"x": 2})
    assert difference(old, new) == (("c",), ("a",), ("schemas",))
    assert difference(old, old) == ((), (), ())


@pytest.mark.parametrize("text", ["", "..", "../../etc/passwd", "A" * 32, "g" * 32, "0" * 31, "0" * 33, "0" * 31 + "/"])
def test_what_is_no_revision_is_none(text: str) -> None:
    assert not is_revision(text)
    assert revision_of({REVISION_KEY: text}) == ""


def test_revisions_are_read_from_metadata() -> None:
    assert revision_of({REVISION_KEY: "0" * 32}) == "0" * 32
    assert revision_of({}) == ""
