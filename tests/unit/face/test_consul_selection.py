"""What catalogue and health select alike: tags, metadata of nodes, and what is connected to for a service."""

from __future__ import annotations

import pytest
from consul_world import SITE, FaceWorld, named

from townhall.face.consul.picture import Picture
from townhall.face.consul.selection import connecting


@pytest.fixture
def world() -> FaceWorld:
    world = FaceWorld()
    world.service("web", "web-1", Tags=["a"])
    world.service("web", "web-2", Tags=["a", "b"])
    world.service("own", "own-1", Connect={"native": True})
    proxy(world, 90, Check={"TTL": "30s"})
    return world


def proxy(world: FaceWorld, port: int, **fields: object) -> None:
    world.service(
        "web-proxy", "proxy-1", Kind="connect-proxy", Port=port, Proxy={"destination_service_name": "web"}, **fields
    )


@pytest.mark.parametrize(
    ("query", "ids"),
    [("", ["web-1", "web-2"]), ("?tag=a&tag=b", ["web-2"]), ("?tag=c", []), ("?node-meta=k:v", [])],
)
def test_both_families_select_alike(world, query, ids):
    assert world.healthy("web", query) == ids
    assert named(world.get("/v1/catalog/service/web" + query), "ServiceID") == ids


@pytest.mark.parametrize(
    ("service", "ids"), [("web", ["proxy-1"]), ("WEB", ["proxy-1"]), ("own", ["own-1"]), ("x", [])]
)
def test_what_is_connected_to(world, service, ids):
    assert named(world.get(f"/v1/catalog/connect/{service}"), "ServiceID") == ids
    assert [row["Service"]["ID"] for row in world.get(f"/v1/health/connect/{service}")] == ids
    assert [one.id for one in connecting(Picture(SITE), world.reader(), service)] == ids


def test_who_waits_for_what_is_connected_to_is_woken(world):
    path = "/v1/health/connect/web"
    assert world.get(path + "?passing") == []
    for change in (
        lambda: world.put("/v1/agent/check/pass/service:proxy-1"),
        lambda: proxy(world, 91),
        lambda: world.service("second", Kind="connect-proxy", Proxy={"DestinationServiceName": "web"}),
        lambda: world.put("/v1/agent/service/deregister/proxy-1"),
    ):
        park = world.park(f"{path}?index={world.index(path)}")
        assert world.attempt(park) is None
        change()
        assert world.attempt(park) is not None


def test_refusals(world):
    for family in ("catalog", "health"):
        assert world.refused("GET", f"/v1/{family}/connect/") == (400, "Missing service name")
        assert world.refused("GET", f"/v1/{family}/connect/web?filter=x")[0] == 400
