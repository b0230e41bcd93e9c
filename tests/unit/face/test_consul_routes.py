from __future__ import annotations

import pytest
from consul_world import FaceWorld

from townhall.face.consul import ConsulFace
from townhall.face.routing import Router


def test_the_table_has_no_two_rows_for_a_path():
    assert Router(ConsulFace().routes)


@pytest.mark.parametrize(
    ("headers", "query", "secret"),
    [
        ({}, {}, ""),
        ({"x-consul-token": "a"}, {}, "a"),
        ({"authorization": "Bearer b"}, {}, "b"),
        ({"x-consul-token": "a", "authorization": "Bearer b"}, {"token": ["c"]}, "c"),
        ({"authorization": "Basic b"}, {"token": [""]}, ""),
    ],
)
def test_credentials(headers, query, secret):
    assert ConsulFace().credentials(headers, query) == secret


def test_methods_that_a_path_does_not_take():
    world = FaceWorld()
    answer = world.call("POST", "/v1/catalog/register")
    assert (answer.status, answer.headers["Allow"], answer.body) == (405, "OPTIONS,PUT", b"method POST not allowed")
    assert world.call("HEAD", "/v1/catalog/services").status == 405
    options = world.call("OPTIONS", "/v1/catalog/services")
    assert (options.status, options.headers["Allow"]) == (200, "OPTIONS,GET")


def test_what_is_not_there():
    world = FaceWorld()
    assert world.refused("GET", "/v1/nope") == (404, "Invalid URL path: not a recognized HTTP API endpoint\n")
    assert b"UI disabled" in world.call("GET", "/").body


def test_control_characters_in_a_path_are_refused():
    world = FaceWorld()
    assert world.call("GET", "/v1/health/service/a%00b").status == 400
    assert world.call("GET", "/v1/health/service/a%FFb").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/v1/event/fire/%FF"), ("PUT", "/v1/agent/service/deregister/a%FFb"), ("DELETE", "/v1/query/%FF")],
)
def test_an_escape_that_is_not_text_makes_nothing_but_a_key(method, path):
    world = FaceWorld()
    assert world.call(method, path).status == 400
    assert world.put("/v1/kv/%FF", b"1").json is True
    assert world.call("GET", "/v1/kv/%FF?raw").body == b"1"
