"""What the face keeps beside keys: events, configuration entries, coordinates, the autopilot's settings; and status."""

from __future__ import annotations

from typing import Any

import pytest
from consul_kv_world import ConsulWorld

from townhall.core.commands import Transact
from townhall.face import Park
from townhall.face.consul import config_entries, coordinate, events, operator, status
from townhall.face.consul.autopilot import SPACE as AUTOPILOT_SPACE
from townhall.face.consul.ids import Identifiers, uuid_of
from townhall.model.keys import Put, Transaction


@pytest.fixture
def world() -> ConsulWorld:
    return ConsulWorld(
        events.routes, config_entries.routes, coordinate.routes, operator.routes, status.routes
    )  # fmt: skip


def ok(world: ConsulWorld, method: str, path: str, body: Any = b"") -> Any:
    answer = world.call(method, f"/v1/{path}", body)
    assert answer.status == 200, answer.body
    return answer.json


def test_ids_are_uuids_and_differ(world: ConsulWorld) -> None:
    ids = Identifiers("n1")
    request = world.request("GET", "/v1/status/leader")
    made = {ids.new(request, world.reader()) for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 36 and one[14] == "8" for one in made)
    assert uuid_of("a", "b") == uuid_of("a", "b") != uuid_of("a", "c")


# --- events


def test_events_are_listed_in_their_order(world: ConsulWorld) -> None:
    first = ok(world, "PUT", "event/fire/deploy", b"payload")
    assert (first["Name"], first["Payload"], first["LTime"]) == ("deploy", "cGF5bG9hZA==", 0)
    second = ok(world, "PUT", "event/fire/deploy?service=web&tag=v1&node=.*")
    ok(world, "PUT", "event/fire/other")
    listed = ok(world, "GET", "event/list?name=deploy")
    assert [event["ID"] for event in listed] == [first["ID"], second["ID"]]
    assert (listed[1]["ServiceFilter"], listed[1]["TagFilter"], listed[1]["NodeFilter"]) == ("web", "v1", ".*")
    assert listed[0]["LTime"] < listed[1]["LTime"]
    assert len(ok(world, "GET", "event/list")) == 3
    assert world.call("GET", "/v1/event/list?name=nope").headers["X-Consul-Index"] == "1"


def test_only_the_latest_events_are_kept(world: ConsulWorld) -> None:
    for number in range(260):
        ok(world, "PUT", f"event/fire/e{number}")
    names = [event["Name"] for event in ok(world, "GET", "event/list")]
    assert names == [f"e{number}" for number in range(4, 260)]


def test_events_that_are_refused(world: ConsulWorld) -> None:
    assert world.call("PUT", "/v1/event/fire/").body == b"Missing name"
    assert b"512 bytes" in world.call("PUT", "/v1/event/fire/big", b"q" * 513).body
    assert world.call("PUT", "/v1/event/fire/a?service=%5B").body.startswith(b"Invalid service filter")
    assert world.call("PUT", "/v1/event/fire/a?tag=x").status == 400


def test_a_watcher_of_events_wakes(world: ConsulWorld) -> None:
    ok(world, "PUT", "event/fire/deploy")
    index = world.call("GET", "/v1/event/list?name=deploy").headers["X-Consul-Index"]
    parked = world.verb("GET", f"/v1/event/list?name=deploy&index={index}")
    assert isinstance(parked, Park)
    ok(world, "PUT", "event/fire/other")
    assert parked.attempt(world.reader(), False) is None
    ok(world, "PUT", "event/fire/deploy")
    assert parked.attempt(world.reader(), False) is not None


def test_what_others_write_into_the_spaces_is_passed_over(world: ConsulWorld) -> None:
    for space, key in (("consul.events", b"junk"), ("consul.coordinates", b"junk")):
        world.run(Transact(space=space, transaction=Transaction(success=(Put(key, b"\xff"),))))
    assert ok(world, "GET", "event/list") == []
    assert ok(world, "GET", "coordinate/nodes") == []


# --- configuration entries


def test_an_entry_is_kept_listed_and_forgotten(world: ConsulWorld) -> None:
    assert ok(world, "PUT", "config", {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}) is True
    entry = ok(world, "GET", "config/service-defaults/web")
    assert (entry["Kind"], entry["Name"], entry["Protocol"], entry["Expose"]) == ("service-defaults", "web", "http", {})
    assert ok(world, "GET", "config/service-defaults") == [entry]
    index = entry["ModifyIndex"]
    changed = {"Kind": "service-defaults", "Name": "web"}
    assert ok(world, "PUT", f"config?cas={index + 9}", changed) is False
    assert ok(world, "PUT", f"config?cas={index}", changed) is True
    assert ok(world, "DELETE", "config/service-defaults/web?cas=1") is False
    assert ok(world, "DELETE", "config/service-defaults/web") == {}
    answer = world.call("GET", "/v1/config/service-defaults/web")
    assert (answer.status, answer.body) == (404, b'Config entry not found for "service-defaults" / "web"')
    assert "X-Consul-Index" in answer.headers


def test_entries_that_are_refused(world: ConsulWorld) -> None:
    answer = world.call("PUT", "/v1/config", {"Kind": "zzz", "Name": "a"})
    assert answer.body == b"Request decoding failed: invalid config entry kind: zzz"
    assert world.call("GET", "/v1/config/zzz/none").body == b"invalid config entry kind: zzz"
    assert world.call("PUT", "/v1/config", {"Kind": "service-defaults"}).status == 400
    assert ok(world, "PUT", "config", {"kind": "proxy-defaults"}) is True
    assert ok(world, "GET", "config/proxy-defaults/global")["Name"] == "global"


# --- coordinates


def test_a_coordinate_is_given_back(world: ConsulWorld) -> None:
    (place,) = ok(world, "GET", "coordinate/datacenters")
    assert set(place) == {"Datacenter", "Coordinates", "AreaID"}
    node = place["Coordinates"][0]["Node"]
    assert ok(world, "GET", "coordinate/nodes") == []
    assert world.call("GET", f"/v1/coordinate/node/{node}").status == 404
    coordinates = {"Adjustment": 0, "Error": 1.5, "Height": 0, "Vec": [0] * 8}
    ok(world, "PUT", "coordinate/update", {"Node": node, "Coord": coordinates})
    ok(world, "PUT", "coordinate/update", {"Node": "ghost", "Coord": coordinates})
    assert ok(world, "GET", f"coordinate/node/{node}") == [{"Node": node, "Segment": "", "Coord": coordinates}]
    assert len(ok(world, "GET", "coordinate/nodes")) == 1


# --- operators' tools and status


def test_one_server_that_leads_itself(world: ConsulWorld) -> None:
    assert ok(world, "GET", "status/leader") == "127.0.0.1:8300"
    assert ok(world, "GET", "status/peers") == ["127.0.0.1:8300"]
    (server,) = ok(world, "GET", "operator/raft/configuration")["Servers"]
    assert server["Leader"] is server["Voter"] is True
    assert ok(world, "GET", "operator/autopilot/health")["Healthy"] is True
    assert ok(world, "GET", "operator/autopilot/state")["Leader"] == server["ID"]
    usage = ok(world, "GET", "operator/usage")["Usage"]["dc1"]
    assert (usage["Nodes"], usage["Services"], usage["ServiceInstances"]) == (1, 1, 1)


def test_what_a_lone_server_cannot_do(world: ConsulWorld) -> None:
    assert world.call("GET", "/v1/operator/keyring").status == 500
    assert world.call("DELETE", "/v1/operator/raft/peer").status == 400
    assert world.call("DELETE", "/v1/operator/raft/peer?address=127.0.0.9:8300").status == 400
    assert world.call("POST", "/v1/operator/raft/transfer-leader").status == 500


def test_the_autopilots_settings(world: ConsulWorld) -> None:
    path = "operator/autopilot/configuration"
    before = ok(world, "GET", path)
    assert before["CleanupDeadServers"] is True
    assert ok(world, "PUT", f"{path}?cas={before['ModifyIndex'] + 1000}", {"CleanupDeadServers": False}) is False
    assert ok(world, "PUT", path, {"CleanupDeadServers": False}) is True
    assert world.reader().range(AUTOPILOT_SPACE, b"\0", b"\0").count == 1
    after = ok(world, "GET", path)
    assert after["CleanupDeadServers"] is False
    assert ok(world, "PUT", f"{path}?cas={after['ModifyIndex']}", {}) is True
    assert ok(world, "GET", path)["CleanupDeadServers"] is True
