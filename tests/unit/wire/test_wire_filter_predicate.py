from __future__ import annotations

from typing import Any

import pytest

from townhall.model.errors import InvalidField, TooLarge
from townhall.wire.filter_expression import Selector, parse
from townhall.wire.filter_predicate import Field, Kind, predicate

ITEM: dict[str, Any] = {
    "zone": "b", "blank": "", "version": "10", "tags": ("v2", "blue"), "none": (), "port": 80, "on": True,
    "meta": {"k": "v", "a b": "c"},
}  # fmt: skip
KINDS = {
    "zone": Kind.TEXT, "blank": Kind.TEXT, "version": Kind.TEXT, "tags": Kind.LIST, "none": Kind.LIST,
    "port": Kind.NUMBER, "on": Kind.FLAG, "meta": Kind.MAP,
}  # fmt: skip


def resolve(selector: Selector) -> Field | None:
    name, *rest = selector.path
    if rest:
        return Field(Kind.TEXT, lambda item: item["meta"].get(".".join(rest))) if name == "meta" else None
    return Field(KINDS[name], lambda item: item[name]) if name in KINDS else None


def passes(text: str, **more: bool) -> bool:
    return predicate(parse(text), resolve, **more)(ITEM)


@pytest.mark.parametrize(
    "text",
    [
        "zone == b", 'zone != "c"', '"b" in zone', "zone contains b", 'zone matches "^[a-c]$"',
        "zone is not empty", "blank is empty", "version > 9", "version <= 10.0", "port == 80", "port == 8e1", "port != 81",
        "port < 81", "port >= 80", "on == true", "on != false", '"v2" in tags', "tags contains blue", "red not in tags",
        "tags not contains red", 'tags matches "^v[0-9]"', "tags is not empty", "none is empty", "k in meta",
        "meta contains `a b`", "x not in meta", "meta is not empty", "meta.k == v", 'meta["a b"] == c', "meta.gone != v",
        "meta.gone is empty", "meta.gone not contains v", 'meta.gone not matches "v"', "not meta.gone == v",
        "zone == b and port == 80 or zone == x", "(zone == x or port == 80) and on == true", 'not (zone == b and port == 81)',
    ],
)  # fmt: skip
def test_what_holds(text: str) -> None:
    assert passes(text) is True


@pytest.mark.parametrize(
    "text",
    [
        "zone == B", "zone > 1", "version > 10", "meta.gone == v", "meta.gone is not empty", "meta.gone contains v",
        'meta.gone matches "v"', "meta.gone < 1", "meta.gone > 1", "not zone == b", "zone == b and port == 81",
        "on == false", "none is not empty", "a in tags", "v in tags",
    ],
)  # fmt: skip
def test_what_does_not_hold(text: str) -> None:
    assert passes(text) is False


def test_bexpr_has_a_quirk_for_missing_entries() -> None:
    assert passes('meta.gone matches "v"', missing_matches=True) is True
    assert passes('meta.gone not matches "v"', missing_matches=True) is True


@pytest.mark.parametrize(
    "text",
    [
        "zork == 1", "zone.x == 1", "port == abc", 'port == ""', "port contains 8", 'port matches "8"', "port is empty",
        "tags == v2", "tags > 1", "meta == 1", 'meta matches "k"', "on == yes", "on > true", "on is empty",
        "zone < abc", 'zone matches "("', "zone == b and (zone == b or zork == 1)", "not zork == 1",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_looked_at(text: str) -> None:
    with pytest.raises(InvalidField) as refused:
        predicate(parse(text), resolve, field="here")
    assert refused.value.fields["field"] == "here"


def test_a_pattern_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from townhall.model import limits

    check = predicate(parse('zone matches "(a|b)*a(a|b){9}c"'), resolve)
    monkeypatch.setattr(limits, "FILTER_WORK_MAX", 50)
    with pytest.raises(TooLarge):
        check({"zone": "ab" * 500})
