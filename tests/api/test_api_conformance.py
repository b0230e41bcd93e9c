"""The OpenAPI document against a running server: what it promises is what is done, for good and for bad input."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from townhall.face.native import NativeFace
from townhall.face.native.openapi import document
from townhall_process import running

ENDLESS = ("/api/v1/watch", "/api/v1/session")
"""Streams have no end to wait for; they are tested in tests/unit/face and tests/integration."""

DOCUMENT: dict[str, Any] = json.loads(json.dumps(document(NativeFace().operations, "")))
SCHEMA = schemathesis.openapi.from_dict({
    **DOCUMENT, "paths": {path: methods for path, methods in DOCUMENT["paths"].items() if path not in ENDLESS},
})  # fmt: skip
# A query beyond the limit of the request target is refused as that, not as a value.
SCHEMA.config.checks.negative_data_rejection.expected_statuses += ["414"]
# The last one switches access control on, after which everything else would be refused.
OPERATIONS = sorted((result.ok() for result in SCHEMA.get_all_operations()), key=lambda one: "bootstrap" in one.path)
UNFIT = [
    # Names, addresses and expressions obey rules that JSON Schema cannot say, such as a length in bytes; whoever breaks
    # one is told so with 400, which this check takes for a refusal without a reason.
    schemathesis.checks.positive_data_acceptance,
]
APART = ("/api/v1/instances/batch", "/api/v1/deregister")
"""Items of a batch are refused one by one, within an answer of 200."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running("--dev") as process:
        yield process.url


def test_the_served_document_is_that_of_the_table(server: str) -> None:
    with urllib.request.urlopen(f"{server}/openapi.json", timeout=10) as answer:
        served = json.load(answer)
    served["info"]["version"] = ""
    assert set(DOCUMENT["paths"]) <= set(served["paths"])
    for path, methods in DOCUMENT["paths"].items():
        assert served["paths"][path] == methods
    assert served["components"]["schemas"] == DOCUMENT["components"]["schemas"]


def exchanges() -> Iterator[Any]:
    for operation in OPERATIONS:
        yield pytest.param(operation, GenerationMode.POSITIVE, id=f"{operation.label} right")
        if operation.body or operation.query:
            yield pytest.param(operation, GenerationMode.NEGATIVE, id=f"{operation.label} wrong")


SEEDS: list[tuple[str, str, bytes]] = [
    ("POST", "/instances", b'{"service":"web","id":"w1","address":"127.0.0.1","port":80,"persistent":true,"tags":["v2"]}'),
    ("PUT", "/services/web/instances/w1/health", b'{"status":"passing","output":"fine"}'),
    ("PUT", "/services/empty", b"{}"),
    ("POST", "/leases", b'{"id":"1001","ttl_ms":600000,"kind":"keys"}'),
    ("PUT", "/kv/k", b"value"),
    ("POST", "/locks/p", b'{"lease":"1001"}'),
    ("POST", "/elections/p", b'{"lease":"1001","value":"v"}'),
    ("PUT", "/access/policies/p", b'{"rules":[{"resource":"key","level":"read","name":"native/"}]}'),
]  # fmt: skip
EXISTING = {"service": "web", "key": "k", "name": "p"}


PLAUSIBLE: dict[str, dict[str, Any]] = {
    "/api/v1/instances": {"service": "web", "address": "127.0.0.1", "port": 81, "ttl_ms": 60_000},
    "/api/v1/reports": {"reporter": "app", "failures": [{"service": "web", "id": "w1"}]},
    "/api/v1/locks/{name}": {"lease": "1001"},
    "/api/v1/elections/{name}": {"lease": "1001", "value": "leader"},
}
"""Bodies that random input does not hit upon."""
UNLUCKY = ("{subscriber}", "/access/tokens/{id}")
"""Paths with names that only the registry gives; the unit tests take these."""


def seed(server: str) -> None:
    """Make what the paths name exist, whatever an earlier operation has removed."""
    for method, path, body in SEEDS:
        request = urllib.request.Request(f"{server}/api/v1{path}", data=body, method=method)
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10):
            pass


@pytest.mark.parametrize(("operation", "mode"), list(exchanges()))
def test_operations_do_what_is_described(operation: Any, mode: GenerationMode, server: str) -> None:
    excluded = [*UNFIT, schemathesis.checks.negative_data_rejection] if operation.path in APART else UNFIT
    existing = EXISTING | {"id": "w1" if "{service}" in operation.path else "1001"}
    if (operation.method, operation.path) == ("delete", "/api/v1/services/{service}"):
        existing["service"] = "empty"  # One with instances is not forgotten.

    @settings(max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def run(case: schemathesis.Case, known: bool) -> None:
        # A stream or a long poll would only be waited for; what else the request holds is sent as it is.
        for waiting in ("watch", "wait"):
            (case.query or {}).pop(waiting, None)
        if isinstance(case.body, dict):
            case.body.pop("wait_ms", None)
        if known and mode is GenerationMode.POSITIVE:
            seed(server)
            case.path_parameters = {
                name: existing.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
            case.query = {
                name: value
                for name, value in (case.query or {}).items()
                if name not in ("namespace", "group", "incarnation", "claim")
            }
            if "lease" in case.query and operation.method == "delete":
                case.query["lease"] = "1001"
            if operation.path in PLAUSIBLE and isinstance(case.body, dict):
                case.body = dict(PLAUSIBLE[operation.path])
        answer = case.call_and_validate(base_url=server, timeout=120, excluded_checks=excluded)
        statuses.add(answer.status_code)

    statuses: set[int] = set()
    run()
    if mode is GenerationMode.POSITIVE and not operation.path.endswith(UNLUCKY) and UNLUCKY[0] not in operation.path:
        assert min(statuses) < 300, "no request was good enough to be carried out"
