from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from townhall.face.native import problems
from townhall.face.native.problems import TABLE, Problem, problem, reply, status_of
from townhall.model import errors
from townhall.model.errors import Conflict, Denied, InvalidField, TownhallError, Unauthenticated, UnknownField


def tree(kind: type[TownhallError]) -> Iterator[type[TownhallError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


OURS = [kind for kind in tree(TownhallError) if kind.__module__ == errors.__name__]


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(OURS)
    assert {getattr(errors, name) for name in errors.__all__} == set(OURS)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_becomes_a_problem(kind: type[TownhallError]) -> None:
    error = kind.__new__(kind)
    TownhallError.__init__(error, "what was wrong", advice="what to do", limit=5)
    answer = reply(error)
    shown = json.loads(answer.body)
    assert answer.content_type == b"application/problem+json"
    assert shown["status"] == answer.status == status_of(error) == TABLE[kind][0]
    assert shown["code"] == kind.code
    assert shown["type"] == f"urn:townhall:error:{kind.code}"
    assert (shown["detail"], shown["advice"], shown["limit"]) == ("what was wrong", "what to do", 5)
    assert {field for field in Problem.__struct_fields__ if field not in ("advice", "field")} <= set(shown)


def test_statuses_of_the_families() -> None:
    # Only our own: other rooms derive kinds of theirs, and whichever test runs here may have imported them.
    for kind in OURS:
        if issubclass(kind, errors.Misuse):
            assert TABLE[kind][0] in (400, 413)
        elif issubclass(kind, errors.Unavailable):
            assert TABLE[kind][0] in (503, 507)


def test_an_unlisted_kind_takes_its_parents_row() -> None:
    class Special(Conflict):
        code = "special"

    assert status_of(Special("x")) == 409
    assert problem(Special("x"))["code"] == "special"


def test_fields_and_advice() -> None:
    assert problem(InvalidField("port", "is odd"))["field"] == "port"
    assert problem(UnknownField("zork"))["field"] == "zork"
    assert "register again" in str(problem(errors.LeaseNotFound("gone"))["advice"])
    shown = problem(Conflict("x", holder={"lease": 7, "names": (b"\xff", None)}, status=1))
    assert shown["holder"] == {"lease": 7, "names": ["\\xff", None]}
    assert shown["status"] == 409


def test_statuses_that_only_http_has() -> None:
    answer = reply(errors.TooLarge("x", http_status=414))
    assert answer.status == 414
    shown = json.loads(answer.body)
    assert shown["status"] == 414
    assert "http_status" not in shown


def test_headers_that_a_status_calls_for() -> None:
    assert dict(reply(Unauthenticated("x")).headers)[b"www-authenticate"].startswith(b"Bearer")
    assert dict(reply(errors.Stopping("x")).headers)[b"retry-after"] == b"1"
    assert reply(Denied("x")).headers == ()
    assert reply(Denied("x"), ((b"a", b"b"),)).headers == ((b"a", b"b"),)


def test_text_that_cannot_be_encoded_is_escaped() -> None:
    assert json.loads(reply(InvalidField("\ud800", "\ud801")).body)["field"] == "\\ud800"


def test_method_not_allowed() -> None:
    answer = problems.method_not_allowed(TownhallError("no"), "GET, PUT")
    assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"GET, PUT")
    assert json.loads(answer.body)["code"] == "method_not_allowed"
