from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from townhall.face import Request
from townhall.face.native.selection import FIELDS, read, resolve
from townhall.face.native.shapes import InstanceView
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import InvalidField
from townhall.model.instance import Instance, ServiceKey
from townhall.wire.filter_expression import Selector

ONE = Instance(
    key=ServiceKey("n", "g", "web"), id="w1", address="127.0.0.1", port=80, ports={"admin": 9}, tags=("v2",),
    metadata={"build.number": "7"}, zone="b", lease=5,
)  # fmt: skip


def request(query: dict[str, Sequence[str]]) -> Request:
    return Request("GET", "/", {}, query, {}, b"", "", Actor(), cast("Any", None))


def test_every_shown_field_may_be_named_but_the_lease() -> None:
    assert set(FIELDS) == set(InstanceView.__struct_fields__) - {"lease"}
    for field in FIELDS.values():
        assert field.get(ONE) is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("service",), "web"),
        (("ephemeral",), True),
        (("metadata", "build", "number"), "7"),
        (("metadata", "none"), None),
        (("ports", "admin"), 9),
    ],
)
def test_resolve(path: tuple[str, ...], value: object) -> None:
    field = resolve(Selector(path, 1))
    assert field is not None
    assert field.get(ONE) == value


@pytest.mark.parametrize("path", [("zork",), ("zone", "x"), ("Metadata", "x"), ("claim",)])
def test_unknown_selectors(path: tuple[str, ...]) -> None:
    assert resolve(Selector(path, 1)) is None


def test_nothing_asked_is_no_predicate() -> None:
    assert read(request({})) == (False, None)
    assert read(request({"healthy": ["1"]})) == (True, None)
    one = read(request({"zone": ["b"]}))
    assert one.accepts is not None
    assert one.accepts(ONE)
    both = read(request({"zone": ["b"], "tag": ["v1"]}))
    assert both.accepts is not None
    assert not both.accepts(ONE)


def test_limits() -> None:
    with pytest.raises(InvalidField):
        read(request({"tag": ["t"] * (limits.TAGS_COUNT_MAX + 1)}))
    with pytest.raises(InvalidField):
        read(request({"meta": ["k:v"] * (limits.METADATA_COUNT_MAX + 1)}))
    with pytest.raises(InvalidField):
        read(request({"filter": ["z" * (limits.FILTER_SIZE_MAX + 1)]}))
