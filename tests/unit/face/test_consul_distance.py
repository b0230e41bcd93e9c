"""``near``: nodes by the round trips that their coordinates say."""

from __future__ import annotations

import math

import pytest
from consul_world import FaceWorld, named

from townhall.face.consul.distance import Place, nearness, revision, round_trip, watched


def report(world: FaceWorld, node: str, *vec: float, height: float = 0.001, adjustment: float = 0) -> None:
    coord = {"Vec": list(vec), "Error": 1, "Height": height, "Adjustment": adjustment}
    world.put("/v1/coordinate/update", {"Node": node, "Coord": coord})


@pytest.fixture
def world() -> FaceWorld:
    """Nodes at 1, 3 and 2 from the origin, one without a coordinate, and the server's own at the origin."""
    world = FaceWorld()
    for node in ("b-one", "c-three", "a-none", "d-two"):
        world.external(node, Service={"Service": "web", "Port": 1}, Check={"Name": "alive", "Status": "passing"})
    report(world, "b-one", 1, 0)
    report(world, "c-three", 3, 0)
    report(world, "d-two", 0, 2)
    report(world, "n1", 0, 0)
    return world


ORDER = ["b-one", "d-two", "c-three", "a-none"]


def test_every_list_that_may_be_near(world: FaceWorld) -> None:
    assert named(world.get("/v1/catalog/nodes?near=_agent"), "Node") == ["n1", *ORDER]
    assert named(world.get("/v1/catalog/service/web?near=_agent"), "Node") == ORDER
    rows = world.get("/v1/health/service/web?near=n1")
    assert [row["Node"]["Node"] for row in rows] == ORDER
    checks = [row["Node"] for row in world.get("/v1/health/state/passing?near=n1") if row["CheckID"] == "alive"]
    assert checks == ORDER
    assert named(world.get("/v1/catalog/service/web?near=c-three"), "Node")[:2] == ["c-three", "b-one"]


def test_a_report_changes_the_order_of_an_answer_that_was_given(world: FaceWorld) -> None:
    index = world.index("/v1/health/service/web?near=n1")
    before = revision(world.reader(), "n1")
    report(world, "c-three", 0.1, 0)
    assert next(row["Node"]["Node"] for row in world.get("/v1/health/service/web?near=n1")) == "c-three"
    assert world.index("/v1/health/service/web?near=n1") == index, "it is no change of the service"
    assert revision(world.reader(), "n1") > before
    assert revision(world.reader(), "") == 0
    assert watched("") == ()


def test_round_trips() -> None:
    one, other = Place(vec=(0, 0), height=0.5), Place(vec=(3, 4), height=0.5)
    assert round_trip(one, other) == 6
    assert round_trip(one, Place(vec=(3, 4), height=0.5, adjustment=-1)) == 5
    assert round_trip(one, Place(vec=(3, 4), height=0.5, adjustment=-9)) == 6, "never below zero"
    assert math.isinf(round_trip(one, Place(vec=(1, 2, 3))))
    assert math.isinf(round_trip(Place(), Place()))


def test_without_coordinates_the_named_node_comes_first() -> None:
    rank = nearness(FaceWorld().reader(), "m", "n1")
    assert sorted(["a", "m", "", "x" * 5_000], key=rank) == ["m", "a", "", "x" * 5_000]
