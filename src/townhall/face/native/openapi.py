"""The OpenAPI 3.1 document, made from the table of operations and the Structs that bodies and answers are made with.

Nothing is described by hand but words, so the document cannot say anything else than the implementation does.
"""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from townhall.face.native.key_shapes import KeyEventView
from townhall.face.native.operations import Operation, capture_names
from townhall.face.native.problems import Problem
from townhall.face.native.requests import Parameter
from townhall.face.native.shapes import BATCH_ITEMS
from townhall.model import limits

__all__ = ["document", "operation_id"]

_REF = "#/components/schemas/{name}"
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ALWAYS = (400, 401, 403, 414, 431)
_WRITES_ALSO = (429, 503, 507)
_ABOUT = """Register services, keep them alive, find and watch them.

Times are Unix milliseconds, durations in bodies are milliseconds in fields ending `_ms`; in queries they are text such
as `10s`. Every answer tells in `X-Townhall-Revision` the position at which it is true. Errors are problem objects with
a stable `code`. With access control on, send a token as `X-Townhall-Token` or `Authorization: Bearer`."""


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The document of these operations."""
    shown = [one for one in operations if one.path != "/"]
    schemas, components = _schemas(shown)
    paths: dict[str, dict[str, Any]] = {}
    for one in shown:
        path = one.pattern.replace("...}", "}")
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Townhall", "version": version, "description": _ABOUT, "license": {"name": "Apache-2.0"}},
        "security": [{}, {"token": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Townhall-Token"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def operation_id(operation: Operation) -> str:
    """A name for an operation, from its method and path: ``get_services_instances_by_id``."""
    words = [operation.method.lower()]
    if operation.absolute:
        words.append("root")
    captured = ""
    for part in operation.path.strip("/").split("/"):
        if part.startswith("{"):
            captured = part.strip("{}.").removesuffix("...")
        else:
            words.append(part.replace("-", "_").replace(".", "_"))
            captured = ""
    return "_".join(words) + (f"_by_{captured}" if captured else "")


def _schemas(operations: Sequence[Operation]) -> tuple[dict[object, dict[str, Any]], dict[str, Any]]:
    types: dict[object, None] = {Problem: None, KeyEventView: None}
    for one in operations:
        if one.body is not None:
            types[one.body] = None
        for answer in one.answers.values():
            if isinstance(answer, type):
                types[answer] = None
    for item in BATCH_ITEMS.values():
        types[item] = None
    found, components = msgspec.json.schema_components(list(types), ref_template=_REF)
    for owner, item in BATCH_ITEMS.items():
        # What is decoded item by item is opaque to msgspec.
        components[owner.__name__]["properties"]["instances"]["items"] = {"$ref": _REF.format(name=item.__name__)}
        components[owner.__name__]["properties"]["instances"]["maxItems"] = limits.BATCH_COUNT_MAX
    return dict(zip(types, found, strict=True)), components


def _operation(one: Operation, schemas: Mapping[object, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation_id(one),
        "summary": one.summary,
        "tags": [one.tag],
        "responses": _responses(one, schemas),
    }
    if one.description:
        described["description"] = one.description
    parameters = [_capture(name) for name in capture_names(one.pattern)]
    parameters += [_query(parameter) for parameter in one.parameters]
    if parameters:
        described["parameters"] = parameters
    if one.body is not None:
        required = bool(msgspec.structs.fields(one.body)) and any(
            field.required for field in msgspec.structs.fields(one.body)
        )
        described["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": schemas[one.body]}},
        }
    elif one.raw_body:
        described["requestBody"] = {"required": False, "content": {one.raw_body: {"schema": {}}}}
    return described


def _capture(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema(),
    }
    if parameter.explode:
        described |= {"style": "form", "explode": True}
    return described


def _responses(one: Operation, schemas: Mapping[object, dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in one.answers.items():
        described: dict[str, Any] = {"description": http.HTTPStatus(status).phrase}
        if isinstance(answer, str):
            described["content"] = {answer: {"schema": {}}}
        elif answer is not None:
            described["content"] = {"application/json": {"schema": schemas[answer]}}
        for media in _alternatives(one):
            described.setdefault("content", {})[media] = {"schema": {}}
        responses[str(status)] = described
    writes = _WRITES_ALSO if one.method != "GET" else ()
    limited = (413,) if one.body is not None or one.raw_body else ()
    for status in sorted({*_ALWAYS, *limited, *writes, *one.refusals}):
        responses[str(status)] = {"description": http.HTTPStatus(status).phrase, "content": _problem_of(one, status)}
    return responses


def _problem_of(one: Operation, status: int) -> dict[str, Any]:
    # The probes of orchestrators want a word, not an object.
    return {"text/plain": {"schema": {}}} if one.path == "/readyz" and status == 503 else _PROBLEM


def _alternatives(one: Operation) -> Sequence[str]:
    """Content types that a parameter asks for instead of the usual one."""
    names = {parameter.name for parameter in one.parameters}
    found = []
    if "watch" in names:
        found.append("text/event-stream")
    if "raw" in names:
        found.append("application/octet-stream")
    return found
