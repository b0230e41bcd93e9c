"""What a token may not see is as if it were not there, and the answer says that something was left out."""

from __future__ import annotations

import pytest
from consul_world import FaceWorld

from townhall.core.commands import BootstrapAccess, PutPolicy, PutToken
from townhall.face import Park, Reply
from townhall.face.consul import unseen
from townhall.face.consul.acl_rules import core_rules

FILTERED = "X-Consul-Results-Filtered-By-ACLs"


@pytest.fixture
def world() -> FaceWorld:
    world = FaceWorld()
    world.service("web")
    world.service("db")
    world.run(
        PutPolicy(name="p", rules=core_rules('service "web" { policy = "read" } node_prefix "" { policy = "read" }'))
    )
    world.run(PutToken(policies=("p",), secret="limited-limited-limited"))
    world.run(BootstrapAccess())
    return world


LIMITED = {"x_consul_token": "limited-limited-limited"}


@pytest.mark.parametrize("path", ["health/service/{}", "catalog/service/{}", "health/checks/{}"])
def test_one_service(world: FaceWorld, path: str) -> None:
    seen = world.call("GET", "/v1/" + path.format("web"), **LIMITED)
    assert (seen.status, FILTERED in seen.headers) == (200, False)
    hidden = world.call("GET", "/v1/" + path.format("db"), **LIMITED)
    assert (hidden.status, hidden.json, hidden.headers[FILTERED]) == (200, [], "true")
    anonymous = world.call("GET", "/v1/" + path.format("db"))
    assert (anonymous.status, anonymous.json, FILTERED in anonymous.headers) == (200, [], False)
    assert world.call("GET", "/v1/" + path.format("db"), x_consul_token="unknown").status == 403


def test_lists_say_that_they_left_something_out(world: FaceWorld) -> None:
    services = world.call("GET", "/v1/catalog/services", **LIMITED)
    assert "db" not in services.json
    assert services.headers[FILTERED] == "true"
    assert world.call("GET", "/v1/agent/services", **LIMITED).headers[FILTERED] == "true"
    assert FILTERED not in world.call("GET", "/v1/catalog/nodes", **LIMITED).headers


def test_who_waits_for_what_may_not_be_seen_waits(world: FaceWorld) -> None:
    verb = world.verb(
        "GET", "/v1/health/service/db?index=7&wait=1s", headers={"x-consul-token": LIMITED["x_consul_token"]}
    )
    assert isinstance(verb, Park)
    actor = world.request("GET", "/v1/health/service/db", headers={"x-consul-token": LIMITED["x_consul_token"]}).actor
    assert verb.attempt(world.reader(actor), False) is None
    answer = verb.attempt(world.reader(actor), True)
    assert isinstance(answer, Reply)
    assert (answer.body, dict(answer.headers)[b"X-Consul-Index"]) == (b"[]", b"7")


def test_a_right_that_ends_while_one_waits(world: FaceWorld) -> None:
    headers = {"x-consul-token": LIMITED["x_consul_token"]}
    verb = world.verb("GET", f"/v1/health/service/web?index={world.state.position + 1}", headers=headers)
    assert isinstance(verb, Park)
    actor = world.request("GET", "/v1/health/service/web", headers=headers).actor
    assert verb.attempt(world.reader(actor), False) is None
    world.run(PutPolicy(name="p", rules=()))
    actor = world.request("GET", "/v1/health/service/web", headers=headers).actor
    assert verb.attempt(world.reader(actor), False) is None
    answer = verb.attempt(world.reader(actor), True)
    assert isinstance(answer, Reply)
    assert answer.body == b"[]"


def test_names() -> None:
    assert unseen.__all__ == ["empty_when_unseen"]
