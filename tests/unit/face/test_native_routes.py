from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_world import World

from townhall.face import Duplex, EndOfStream, Park, Reply, Stream, Submit
from townhall.face.native.operations import Operation, capture_names
from townhall.face.native.routes import NativeFace
from townhall.face.routing import Router
from townhall.model.errors import Conflict, TownhallError

OPERATIONS = NativeFace("1.2.3").operations


def test_the_table_can_be_routed() -> None:
    face = NativeFace()
    assert face.name == "native"
    Router(face.routes)


def test_further_operations_may_be_added() -> None:
    backup = Operation(
        method="GET", path="/backup", handler=lambda *_: Reply(200), summary="b", tag="registry",
        answers={200: "application/octet-stream"},
    )  # fmt: skip
    face = NativeFace("1", extra=[backup])
    assert face.routes[-1].pattern == "/api/v1/backup"


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({}, ""),
        ({"x-townhall-token": "s"}, "s"),
        ({"authorization": "Bearer s"}, "s"),
        ({"authorization": "bearer  s "}, "s"),
        ({"authorization": "Basic s"}, ""),
        ({"authorization": "Bearer b", "x-townhall-token": "t"}, "t"),
    ],
)
def test_credentials(headers: dict[str, str], secret: str) -> None:
    assert NativeFace().credentials(headers, {"token": ["never"]}) == secret


def test_errors_and_unknown_paths() -> None:
    face = NativeFace()
    assert face.error(Conflict("x"), None).status == 409
    assert face.no_route("GET", "/nowhere\ud800", ()).status == 404
    refused = face.no_route("POST", "/x", ("GET", "HEAD"))
    assert refused.status == 405
    assert dict(refused.headers)[b"allow"] == b"GET, HEAD"
    world = World()
    assert world.send("PUT", "/services").status == 405
    assert world.send("GET", "/nowhere").json["code"] == "not_found"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
WORDS = ["web", "w1", "1001", "default", "a/b", "", "\x00", "%", "é", "x" * 300]


def fields_of(operation: Operation) -> list[str]:
    return list(operation.body.__struct_fields__) if operation.body is not None else []  # type: ignore[attr-defined]


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Operation, str, bytes, dict[str, str]]:
    """A request that is nearly right: a real path, its own fields and parameters, with arbitrary values."""
    operation = draw(st.sampled_from(OPERATIONS))
    path = operation.pattern
    for name in capture_names(operation.pattern):
        value = draw(st.sampled_from(WORDS[:4]) | st.sampled_from(WORDS) | st.text(max_size=5))
        value = quote(value.encode("utf-8", "surrogatepass"), safe="")
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}...}}", value)
    pairs = []
    for parameter in operation.parameters:
        if draw(st.booleans()):
            values = st.sampled_from(["", "1", "0", "web", "1001", "10s", "zone == b", "é"]) | st.text(max_size=4)
            text = draw(values)
            pairs.append(f"{parameter.name}={quote(text.encode('utf-8', 'surrogatepass'), safe='')}")
    plausible = st.sampled_from(["web", "w1", "127.0.0.1", "1001", 1, 8080, True, [], {}, ["1001"], {"a": "1"}, None])
    bodies = st.dictionaries(st.sampled_from([*fields_of(operation), "zork"]), plausible | JSON, max_size=5).map(
        json.dumps
    )
    body = draw(bodies.map(str.encode) | JSON.map(json.dumps).map(str.encode) | st.binary(max_size=12) | st.just(b""))
    headers = draw(st.sampled_from([{}, {"if-none-match": '"1"'}, {"last-event-id": "1"}, {"last-event-id": "x"}]))
    return operation, f"{path}?{'&'.join(pairs)}" if pairs else path, body, headers


@settings(max_examples=300, deadline=None)
@given(exchanges())
@example((OPERATIONS[0], "/api/v1/services?prefix=%ED%A0%80", b"", {}))
def test_no_handler_raises_anything_but_our_errors(exchange: tuple[Operation, str, bytes, dict[str, str]]) -> None:
    operation, target, body, headers = exchange
    world = World()
    world.register(id="w1", tags=["v2"])
    world.send("PUT", "/kv/w1", b"1")
    verb = world.verb(operation.method, target, body, headers)
    before = world.state.position
    if isinstance(verb, Stream | Duplex):
        stream = verb.stream if isinstance(verb, Duplex) else verb
        try:
            stream.pull(world.reader())
            if isinstance(verb, Duplex):
                verb.receive(world.reader(), body)
        except (TownhallError, EndOfStream):
            pass
    else:
        assert isinstance(verb, Reply | Submit | Park)
        reply = world.finish(verb)
        assert reply.status < 500
        if reply.status >= 400:
            assert reply.content_type == b"application/problem+json"
            assert json.loads(reply.body)["detail"]
        # A queue that was joined and left again is the only thing that a refused request may leave in the journal.
        assert reply.status < 400 or world.state.position == before or operation.tag == "locks"
