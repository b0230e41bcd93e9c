"""Every code of the error tree comes back as its class; whatever else comes is still one of ours."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.client.problems import from_answer, from_problem
from townhall.model import errors
from townhall.model.errors import PeerMisbehaved, TownhallError

KINDS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_code_gives_its_class(kind: type[TownhallError]) -> None:
    problem = {"code": kind.code, "status": 409, "detail": "what", "advice": "do", "field": "port", "limit": 7}
    error = from_answer(409, json.dumps(problem).encode())
    assert type(error) is kind
    assert str(error) == "what (do)"
    assert error.fields == {"field": "port", "limit": 7, "status": 409}


def test_without_a_known_code_the_status_decides() -> None:
    assert type(from_answer(503, b"")) is errors.Unavailable
    assert type(from_answer(401, b'{"code":"new_one","detail":"d"}')) is errors.Unauthenticated
    assert type(from_answer(418, b"teapot")) is PeerMisbehaved
    assert type(from_problem("text", 400)) is PeerMisbehaved
    assert type(from_problem({"code": "new"}, 418)) is PeerMisbehaved


@pytest.mark.parametrize("status", [400, 404, 405, 418, 501])
def test_what_no_registry_says_is_told_as_such(status: int) -> None:
    error = from_answer(status, b"<html>\n<p>nothing</p>\n</html>", origin="http://127.0.0.1:8500")
    assert type(error) is PeerMisbehaved
    said = f"http://127.0.0.1:8500 answered with status {status}: <html> <p>nothing</p> </html>, which no registry says"
    assert said in str(error)
    assert "port 7500" in str(error)
    assert error.fields["status"] == status


@given(status=st.integers(400, 599), body=st.binary(max_size=80))
def test_any_answer_gives_an_error_of_ours(status: int, body: bytes) -> None:
    assert isinstance(from_answer(status, body), TownhallError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=6
)


@given(problem=JSON | st.fixed_dictionaries({"status": JSON, "code": JSON, "detail": JSON, "fields": JSON}))
def test_any_json_gives_an_error_of_ours(problem: object) -> None:
    assert isinstance(from_problem(problem), TownhallError)
