from __future__ import annotations

import pytest
from consul_world import FaceWorld, named

from townhall.core.commands import Register
from townhall.face.consul.picture import service_key


@pytest.fixture
def world() -> FaceWorld:
    world = FaceWorld()
    world.service("web", "web-1", Tags=["v1", "http"])
    world.external(
        "ext", NodeMeta={"rack": "r1"}, Service={"Service": "db", "ID": "db-1", "Port": 5432, "Tags": ["primary"]}
    )
    return world


def test_services_with_their_tags(world):
    assert world.get("/v1/catalog/services") == {"consul": [], "db": ["primary"], "web": ["http", "v1"]}
    assert world.get("/v1/catalog/services?node-meta=rack:r1") == {"db": ["primary"]}
    assert world.get("/v1/catalog/services?filter=ServiceName%20==%20db") == {"db": ["primary"]}


def test_rows_of_a_service(world):
    (row,) = world.get("/v1/catalog/service/db")
    assert (row["Node"], row["Address"], row["ServiceID"], row["ServicePort"]) == ("ext", "127.1.0.1", "db-1", 5432)
    assert row["NodeMeta"] == {"rack": "r1"}
    assert row["ServiceAddress"] == ""
    assert world.get("/v1/catalog/service/db?tag=primary&tag=other") == []
    assert named(world.get("/v1/catalog/service/DB"), "ServiceID") == ["db-1"]
    assert world.get("/v1/catalog/service/db?filter=ServicePort%20==%201") == []
    assert world.refused("GET", "/v1/catalog/service/") == (400, "Missing service name")


def test_nodes_with_the_servers_own(world):
    assert named(world.get("/v1/catalog/nodes"), "Node") == ["ext", "n1"]
    assert named(world.get("/v1/catalog/nodes?near=n1"), "Node") == ["n1", "ext"]
    assert named(world.get("/v1/catalog/nodes?filter=Meta.rack%20==%20r1"), "Node") == ["ext"]
    assert named(world.get("/v1/catalog/nodes?node-meta=rack:r2"), "Node") == []


def test_a_node_with_its_services(world):
    assert list(world.get("/v1/catalog/node/ext")["Services"]) == ["db-1"]
    assert sorted(world.get("/v1/catalog/node/n1")["Services"]) == ["consul", "web-1"]
    assert named(world.get("/v1/catalog/node-services/ext")["Services"], "ID") == ["db-1"]
    assert world.get("/v1/catalog/node/ghost") is None
    assert world.get("/v1/catalog/node-services/ghost") == {"Node": None, "Services": None}
    assert world.get("/v1/catalog/node/ext?filter=Port%20==%201")["Services"] == {}


def test_the_same_id_on_two_nodes_is_two_instances(world):
    world.external("other", Service={"Service": "db", "ID": "db-1", "Port": 1})
    assert named(world.get("/v1/catalog/service/db"), "Node") == ["ext", "other"]
    assert [one.id for one in world.reader().instances(service_key("db"))] == ["ext/db-1", "other/db-1"]


def test_native_instances_are_on_the_servers_node(world):
    world.run(Register(key=service_key("native"), id="n-1", address="127.0.0.7", port=1, ttl_ms=30_000))
    (row,) = world.get("/v1/catalog/service/native")
    assert (row["Node"], row["ServiceAddress"], row["ServicePort"]) == ("n1", "127.0.0.7", 1)


def test_a_watch_of_one_service_is_not_woken_by_another(world):
    park = world.park(f"/v1/catalog/service/db?index={world.index('/v1/catalog/service/db')}")
    world.service("web", "web-2")
    assert world.attempt(park) is None
    assert park.interests == (service_key("db"),)
    world.external("ext", Service={"Service": "db", "ID": "db-2", "Port": 1})
    reply = world.attempt(park)
    assert reply is not None
    assert b"db-2" in reply.body


def test_datacenters_gateways_and_proxies(world):
    assert world.get("/v1/catalog/datacenters") == ["dc1"]
    assert world.get("/v1/catalog/gateway-services/gw") == world.get("/v1/catalog/connect/web") == []
    assert world.refused("GET", "/v1/catalog/services?dc=nowhere") == (400, "No path to datacenter")
