from __future__ import annotations

import time

import pytest
from native_world import World

from townhall.face.native.leases import lease_view, renewal
from townhall.model import limits


@pytest.fixture
def world() -> World:
    return World()


def test_grant_look_renew_end(world: World) -> None:
    granted = world.send("POST", "/leases", {"ttl_ms": 5_000})
    assert granted.status == 201
    lease = granted.json["lease"]
    assert isinstance(lease, str)
    world.renew([int(lease)])
    world.now += 2_000
    world.register(id="w1", lease=lease)
    shown = world.send("GET", f"/leases/{lease}").json
    assert shown["remaining_ms"] == 3_000
    assert shown["instances"] == [["default", "default", "web", "w1"]]
    assert (shown["kind"], shown["lapsed"], shown["connected"], shown["keys"]) == ("instance", False, True, 0)
    assert world.send("PUT", f"/leases/{lease}").json == {"lease": lease, "ttl_ms": 5_000}
    assert world.send("GET", f"/leases/{lease}").json["remaining_ms"] == 5_000
    assert [one["lease"] for one in world.send("GET", "/leases").json["leases"]] == [lease]
    assert world.send("DELETE", f"/leases/{lease}").status == 204
    assert world.instances() == []
    assert world.send("PUT", f"/leases/{lease}").json["code"] == "lease_not_found"
    assert world.send("DELETE", f"/leases/{lease}").status == 404


def test_chosen_ids_and_kinds(world: World) -> None:
    assert world.send("POST", "/leases", {"id": "77", "kind": "keys"}).json["lease"] == "77"
    assert world.send("GET", "/leases/77").json["kind"] == "keys"
    assert world.send("POST", "/leases", {"id": 77}).json["code"] == "already_exists"
    assert world.send("POST", "/leases").status == 201


@pytest.mark.parametrize(
    "body", [{"ttl_ms": 1}, {"ttl_ms": "5s"}, {"id": "x"}, {"id": -1}, {"id": 2**63}, {"kind": "x"}, {"ttl": 1}]
)
def test_bad_grants(world: World, body: object) -> None:
    assert world.send("POST", "/leases", body).status == 400
    assert world.state.position == 0


@pytest.mark.parametrize("lease", ["0", "x", "-1", "9" * 25, "1.5", "%20"])
def test_bad_lease_ids(world: World, lease: str) -> None:
    assert world.send("PUT", f"/leases/{lease}").status == 400


def test_renewal_makes_no_commit(world: World) -> None:
    leases = [world.send("POST", "/leases", {}).json["lease"] for _ in range(3)]
    position = world.state.position
    answer = world.send("POST", "/renew", {"leases": [leases[0], int(leases[1]), "4611686018427387904"]})
    assert answer.json == {"renewed": 2, "unknown": ["4611686018427387904"]}
    assert world.state.position == position
    assert set(world.deadlines) == {int(leases[0]), int(leases[1])}
    assert world.send("POST", "/renew", {"leases": []}).json == {"renewed": 0, "unknown": []}


@pytest.mark.parametrize(
    "body",
    [{}, {"leases": "1"}, {"leases": ["x"]}, {"leases": [0]}, {"leases": [None]}, {"leases": [2**63]}, {"lease": [1]}],
)
def test_bad_renewals(world: World, body: object) -> None:
    assert world.send("POST", "/renew", body).status == 400


def test_too_many_renewals(world: World) -> None:
    assert world.send("POST", "/renew", {"leases": [1] * (limits.BATCH_COUNT_MAX + 1)}).status == 413


def test_500_renewals_are_cheap(world: World) -> None:
    """Not a measurement: a bound so wide that only something quadratic or per-item misses it."""
    leases = [str(2**62 + index) for index in range(500)]
    body = ('{"leases":["' + '","'.join(leases) + '"]}').encode()
    started = time.process_time()
    for _ in range(20):
        world.send("POST", "/renew", body)
    assert time.process_time() - started < 2


def test_views(world: World) -> None:
    lease = int(world.send("POST", "/leases", {}).json["lease"])
    world.now += 10**9
    world.deadlines[lease] = 5
    assert lease_view(world.reader().lease(lease), world).remaining_ms == 0
    assert renewal(3, [7, 8]) == b'{"renewed":1,"unknown":["7","8"]}'
