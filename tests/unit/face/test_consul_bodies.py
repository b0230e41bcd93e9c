from __future__ import annotations

import pytest

from townhall.face.consul.bodies import Body, names
from townhall.model.errors import Misuse


def body(value):
    known = names("Name", "Port", "Tags", "Meta", "EnableTagOverride", "Check", "Checks", "TTL")
    return Body(value, known)


def test_names_in_any_case_with_or_without_underscores():
    assert body({"enable_tag_override": True}).flag("EnableTagOverride")
    assert body({"NAME": "web", "port": 80}).text("Name") == "web"
    assert not body({"Name": None}).has("Name")


def test_null_is_nothing():
    nothing = body(None)
    assert (nothing.text("Name"), nothing.integer("Port"), nothing.texts("Tags"), nothing.mapping("Meta")) == (
        "",
        0,
        [],
        {},
    )
    assert nothing.child("Check", None) is None
    assert list(nothing.children("Checks", None)) == []


@pytest.mark.parametrize(
    ("value", "read", "message"),
    [
        ([], lambda b: b, "cannot unmarshal array into an object"),
        ({"Nope": 1}, lambda b: b, 'unknown field "Nope"'),
        ({"Port": "80"}, lambda b: b.integer("Port"), "cannot unmarshal string into field Port of type int"),
        ({"Port": True}, lambda b: b.integer("Port"), "cannot unmarshal bool into field Port of type int"),
        ({"Name": 1}, lambda b: b.text("Name"), "cannot unmarshal number into field Name of type string"),
        ({"Tags": [1]}, lambda b: b.texts("Tags"), "cannot unmarshal number into field Tags of type string"),
        ({"Meta": {"k": 1}}, lambda b: b.mapping("Meta"), "cannot unmarshal number into field Meta of type string"),
        ({"TTL": "soon"}, lambda b: b.duration_ms("TTL"), 'time: invalid duration "soon"'),
        ({"TTL": [1]}, lambda b: b.duration_ms("TTL"), "of type duration"),
    ],
)
def test_wrong_types_are_named(value, read, message):
    with pytest.raises(Misuse) as refused:
        read(body(value))
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("value", "duration_ms"), [("10s", 10_000), ("", 0), (30_000_000_000, 30_000), (1, 1), (None, 0)]
)
def test_durations_as_text_or_nanoseconds(value, duration_ms):
    assert body({"TTL": value}).duration_ms("TTL") == duration_ms
