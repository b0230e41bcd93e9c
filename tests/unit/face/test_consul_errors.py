from __future__ import annotations

import pytest

from townhall.face.consul import errors
from townhall.model.errors import (
    Conflict,
    Denied,
    EngineFull,
    InvalidField,
    NotFound,
    OverLimit,
    TooLarge,
    TownhallError,
    Unauthenticated,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("x"), 404), (Conflict("x"), 409), (OverLimit("x"), 429), (TooLarge("x"), 413),
        (InvalidField("f", "x"), 400), (EngineFull("x"), 503), (TownhallError("x"), 500), (errors.bad("x", 418), 418),
    ],
)  # fmt: skip
def test_statuses(error, status):
    reply = errors.reply(error)
    assert reply.status == status
    assert reply.content_type == errors.PLAIN_TEXT


def test_access_errors_are_403_with_the_words_clients_know():
    assert (errors.reply(Unauthenticated("x")).status, errors.reply(Unauthenticated("x")).body) == (
        403,
        b"ACL not found",
    )
    assert errors.reply(Denied("no", right="read")).body == b"Permission denied: no"


def test_allow_names_options_first():
    reply = errors.method_not_allowed("PATCH", ("DELETE", "GET", "HEAD", "OPTIONS", "PUT"))
    assert (b"Allow", b"OPTIONS,GET,PUT,DELETE") in reply.headers
    assert reply.body == b"method PATCH not allowed"
    assert errors.method_not_allowed("OPTIONS", ("GET",)).status == 200


def test_unknown_paths():
    assert errors.no_such_path("/v1/nope").body == b"Invalid URL path: not a recognized HTTP API endpoint\n"
    assert b"starts with '/v1/'" in errors.no_such_path("/nope").body
    assert (b"Location", b"/v1/catalog/services") in errors.no_such_path("/v1//catalog/services").headers
    assert errors.no_such_path("/v1//\r\nx").status == 404
