from __future__ import annotations

import json
from typing import Any

import pytest

from townhall.face.native import NativeFace
from townhall.face.native.openapi import document, operation_id
from townhall.face.native.page import page
from townhall.face.native.shapes import BATCH_ITEMS

FACE = NativeFace("1.2.3")
DOCUMENT: dict[str, Any] = document(FACE.operations, "1.2.3")


def references(value: object) -> list[str]:
    if isinstance(value, dict):
        here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return here + [found for content in value.values() for found in references(content)]
    if isinstance(value, list):
        return [found for content in value for found in references(content)]
    return []


def test_every_operation_is_described_once() -> None:
    described = {
        (method.upper(), path.replace("{key}", "{key...}").replace("{name}", "{name...}"))
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    }
    routes = {
        (route.method, route.pattern.replace("{key}", "{key...}").replace("{name}", "{name...}"))
        for route in FACE.routes
        if route.pattern != "/"
    }
    assert described == routes
    names = [one["operationId"] for methods in DOCUMENT["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
    assert operation_id(FACE.operations[0]) == "get_services"


def test_references_lead_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in schemas
    json.dumps(DOCUMENT)


def test_parameters_are_those_of_the_table() -> None:
    for operation in FACE.operations:
        if operation.path == "/":
            continue
        shown = DOCUMENT["paths"][operation.pattern.replace("...}", "}")][operation.method.lower()]
        queries = {one["name"] for one in shown.get("parameters", ()) if one["in"] == "query"}
        assert queries == {parameter.name for parameter in operation.parameters}
        assert ("requestBody" in shown) == (operation.body is not None or bool(operation.raw_body))
        assert set(map(str, operation.answers)) <= set(shown["responses"])
        assert "400" in shown["responses"]


def test_bodies_forbid_unknown_fields() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for operation in FACE.operations:
        if operation.body is not None:
            assert schemas[operation.body.__name__]["additionalProperties"] is False
    for body, item in BATCH_ITEMS.items():
        items = schemas[body.__name__]["properties"]["instances"]["items"]
        assert items == {"$ref": f"#/components/schemas/{item.__name__}"}


@pytest.mark.parametrize("path", sorted(DOCUMENT["paths"]))
def test_the_page_shows_every_path(path: str) -> None:
    assert path in page(DOCUMENT)
