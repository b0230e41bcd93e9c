from __future__ import annotations

import pytest
from consul_world import FaceWorld, named

from townhall.face.consul.picture import service_key


@pytest.fixture
def world() -> FaceWorld:
    world = FaceWorld()
    world.service("web", "web-1", Tags=["v1"], Check={"CheckID": "c1", "TTL": "30s", "Status": "passing"})
    world.service("web", "web-2", Tags=["v2"], Check={"CheckID": "c2", "TTL": "30s", "Status": "warning"})
    return world


def test_rows_have_node_service_and_checks(world):
    row = world.get("/v1/health/service/web")[0]
    assert row["Node"]["Node"] == "n1"
    assert row["Service"]["ID"] == "web-1"
    assert named(row["Checks"], "CheckID") == ["serfHealth", "c1"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["web-1", "web-2"]),
        ("?passing", ["web-1"]),
        ("?passing=1", ["web-1"]),
        ("?passing=false", ["web-1", "web-2"]),
        ("?tag=v2", ["web-2"]),
        ("?tag=v1&tag=v2", []),
        ("?node-meta=a:b", []),
        ("?near=_agent", ["web-1", "web-2"]),
        ("?filter=Checks.Status%20==%20warning", ["web-2"]),
        ("?peer=other", []),
        ("?stale", ["web-1", "web-2"]),
    ],
)
def test_selections(world, query, ids):
    assert world.healthy("web", query) == ids


def test_refusals(world):
    assert world.refused("GET", "/v1/health/service/web?passing=maybe") == (400, "Invalid value for ?passing")
    assert world.refused("GET", "/v1/health/service/") == (400, "Missing service name")
    assert world.refused("GET", "/v1/health/state/") == (400, "Missing check state")


def test_a_critical_check_of_the_node_takes_out_its_services(world):
    world.put("/v1/agent/check/register", {"Name": "disk", "TTL": "30s"})
    assert world.healthy() == []
    assert world.reader().instance(service_key("web"), "web-1").verdict == "down"


def test_checks_by_service_node_and_state(world):
    assert named(world.get("/v1/health/checks/web"), "CheckID") == ["c1", "c2"]
    assert named(world.get("/v1/health/node/n1"), "CheckID") == ["serfHealth", "c1", "c2"]
    assert named(world.get("/v1/health/state/warning"), "CheckID") == ["c2"]
    assert len(world.get("/v1/health/state/any")) == 3
    assert world.get("/v1/health/state/purple") == world.get("/v1/health/node/ghost") == []
    assert world.get("/v1/health/ingress/web") == []
    assert named(world.get("/v1/health/state/any?filter=CheckID%20==%20c1"), "CheckID") == ["c1"]
    assert world.get("/v1/health/state/any?node-meta=a:b&near=n1") == []


def test_the_index_moves_with_checks_and_nodes_of_the_service_only(world):
    before = world.index("/v1/health/service/web")
    world.service("api")
    assert world.index("/v1/health/service/web") == before
    world.put("/v1/agent/check/fail/c1")
    assert world.index("/v1/health/service/web") > before


def test_a_watcher_of_an_unknown_service_is_woken_by_its_first_instance(world):
    index = world.index("/v1/health/service/late")
    assert index == 1
    park = world.park(f"/v1/health/service/late?index={index}&wait=5m")
    assert world.attempt(park) is None
    assert park.wait_ms >= 300_000
    world.service("late")
    reply = world.attempt(park)
    assert reply is not None
    assert b'"late"' in reply.body


def test_the_first_commit_of_a_registry_wakes_its_watchers():
    world = FaceWorld()
    park = world.park("/v1/health/service/web?index=1")
    world.service()
    assert world.state.position == 1
    assert world.attempt(park) is not None


def test_the_server_is_in_the_catalogue_as_consul(world):
    assert named([row["Service"] for row in world.get("/v1/health/service/consul")], "Port") == [8300]
