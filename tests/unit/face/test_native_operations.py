from __future__ import annotations

from typing import Any, cast

import pytest

from townhall.core.queries import Reader
from townhall.face import Reply, Request
from townhall.face.native.operations import BASE, Operation, capture_names, no_body
from townhall.face.native.requests import Flag
from townhall.face.native.shapes import DrainBody
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import Misuse, UnknownField

READER = cast("Reader", None)


def operation(**more: Any) -> Operation:
    given = {
        "method": "POST",
        "path": "/x/{id}",
        "handler": lambda *_: Reply(200),
        "summary": "s",
        "tag": "t",
        "answers": {},
    }
    return Operation(**{**given, **more})


def request(body: bytes = b"", **query: list[str]) -> Request:
    return Request("POST", "/", {}, query, {}, body, "", Actor(), cast("Any", None))


def test_route_of_an_operation() -> None:
    route = operation(body_size_max=7).route()
    assert (route.method, route.pattern, route.body_size_max, route.duplex) == ("POST", BASE + "/x/{id}", 7, False)
    assert operation(absolute=True).route().pattern == "/x/{id}"
    assert operation(body_size_max=10**9).route().body_size_max == limits.BODY_SIZE_MAX


def test_parameters_outside_the_table_are_refused() -> None:
    handler = operation(parameters=(Flag("f", ""),)).route().handler
    assert handler(request(f=["1"]), READER) == Reply(200)
    with pytest.raises(UnknownField):
        handler(request(g=["1"]), READER)


def test_bodies_where_none_belongs() -> None:
    bare = operation().route().handler
    assert bare(request(b"{}"), READER) == Reply(200)
    with pytest.raises(Misuse):
        bare(request(b'{"a":1}'), READER)
    assert operation(body=DrainBody).route().handler(request(b"junk"), READER) == Reply(200)
    assert operation(raw_body="x/y").route().handler(request(b"junk"), READER) == Reply(200)
    with pytest.raises(Misuse):
        no_body(request(b"[]"))


def test_captures() -> None:
    assert capture_names("/a/{b}/c/{d...}") == ["b", "d"]
    assert capture_names("/a") == []
