from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.face import Request
from townhall.face.native import requests
from townhall.face.native.requests import Choice, Duration, Flag, Text, Texts, Whole, check_known, duration_ms, lease_id
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import InvalidField, UnknownField


def request(query: dict[str, Sequence[str]], **segments: str) -> Request:
    return Request("GET", "/", segments, query, {}, b"", "", Actor(), cast("Any", None))


@pytest.mark.parametrize(
    ("text", "ms"),
    [("10s", 10_000), ("500ms", 500), ("5m", 300_000), ("1h", 3_600_000), ("250", 250), ("1.5s", 1_500), ("0", 0)],
)
def test_durations(text: str, ms: int) -> None:
    assert duration_ms(text, "wait") == ms


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1e3", "1d", ".5s", "١s", "1.2345s", "9" * 20])
def test_bad_durations(text: str) -> None:
    with pytest.raises(InvalidField):
        duration_ms(text, "wait")


def test_wait_is_capped() -> None:
    assert requests.WAIT.read(request({"wait": ["9h"]})) == limits.WAIT_MAX_MS
    assert requests.WAIT.read(request({})) == 0


def test_flags() -> None:
    flag = Flag("f", "")
    assert [flag.read(request({"f": [text]})) for text in ("", "1", "true", "yes")] == [True] * 4
    assert [flag.read(request({"f": [text]})) for text in ("0", "false", "no")] == [False] * 3
    assert flag.read(request({})) is False
    with pytest.raises(InvalidField):
        flag.read(request({"f": ["on"]}))


def test_numbers() -> None:
    number = Whole("n", "", default=5, least=1, most=9)
    assert number.read(request({})) == 5
    assert number.given(request({})) is None
    assert number.read(request({"n": ["9"]})) == 9
    for text in ("0", "10", "x", "", "+1", "1_0", "٣", "9" * 40):
        with pytest.raises(InvalidField):
            number.read(request({"n": [text]}))


def test_texts_and_choices() -> None:
    text = Text("t", "", default="d", size_max=3)
    assert text.read(request({})) == "d"
    assert text.read(request({"t": [""]})) == ""
    with pytest.raises(InvalidField):
        text.read(request({"t": ["long"]}))
    with pytest.raises(InvalidField):
        text.read(request({"t": ["a", "b"]}))
    with pytest.raises(InvalidField):
        Text("t", "", required=True).read(request({}))
    many = Texts("m", "", count_max=2)
    assert many.read(request({"m": ["a", "b"]})) == ["a", "b"]
    for values in (["a", "b", "c"], [""]):
        with pytest.raises(InvalidField):
            many.read(request({"m": values}))
    with pytest.raises(InvalidField):
        Texts("m", "", count_max=2, required=True).read(request({}))
    choice = Choice("c", "", ("", "explicit"))
    assert choice.read(request({})) == ""
    assert choice.read(request({"c": ["explicit"]})) == "explicit"
    with pytest.raises(InvalidField):
        choice.read(request({"c": ["other"]}))


def test_unknown_parameters_are_named() -> None:
    check_known({"a": [""]}, frozenset({"a"}))
    with pytest.raises(UnknownField) as refused:
        check_known({"a": [""], "zork": [""]}, frozenset({"a"}))
    assert refused.value.fields["field"] == "zork"
    assert "a" in refused.value.advice
    with pytest.raises(UnknownField):
        check_known({"a": [""]}, frozenset())


def test_lease_ids() -> None:
    assert lease_id("9223372036854775807") == lease_id(2**63 - 1) == 2**63 - 1
    for wrong in ("0", "", "x", "-1", " 1", "1.0", str(2**63), 0, -1, 2**63):
        with pytest.raises(InvalidField):
            lease_id(wrong)


def test_service_keys() -> None:
    assert requests.service_key(request({}, service="web")) == ("default", "default", "web")
    scoped = request({"namespace": ["n"], "group": ["g"]}, service="web")
    assert requests.service_key(scoped) == ("n", "g", "web")
    for query, name in (({"namespace": ["/"]}, "web"), ({"group": [""]}, "web"), ({}, "a b"), ({}, "")):
        with pytest.raises(InvalidField):
            requests.service_key(request(query, service=name))


READERS: list[Callable[[Request], object]] = [
    Flag("p", "").read, Whole("p", "").read, Duration("p", "", most_ms=9).read, Choice("p", "", ("a",)).read,
    Text("p", "").read, Texts("p", "", count_max=3).read,
]  # fmt: skip


@given(st.lists(st.text(), max_size=4), st.sampled_from(READERS))
def test_nothing_but_invalid_field_is_raised(values: list[str], read: Callable[[Request], object]) -> None:
    with contextlib.suppress(InvalidField):
        read(request({"p": values}))


@pytest.mark.parametrize(
    "parameter", [Flag("p", ""), Whole("p", ""), Duration("p", "", most_ms=9), Choice("p", "", ("a",)), Text("p", "")]
)
def test_schemas_have_a_type(parameter: Flag) -> None:
    assert parameter.schema()["type"] in ("string", "integer")
    assert parameter.explode is False
    assert Texts("p", "", count_max=3, required=True).schema()["minItems"] == 1
