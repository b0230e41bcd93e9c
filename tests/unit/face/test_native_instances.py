from __future__ import annotations

import pytest
from native_world import World

from townhall.core.live import Subscriber
from townhall.face import Park
from townhall.face.native.instances import drain_view
from townhall.model.instance import ServiceKey

WEB = ServiceKey("default", "default", "web")
W1 = "/services/web/instances/w1"


@pytest.fixture
def world() -> World:
    world = World()
    world.register(id="w1", metadata={"a": "1", "b": "2"}, tags=["x"])
    return world


def test_get(world: World) -> None:
    answer = world.send("GET", W1)
    assert answer.json["id"] == "w1"
    assert answer.reply.view is not None
    assert world.send("GET", "/services/web/instances/nobody").json["code"] == "not_found"
    assert world.send("GET", W1 + "?namespace=other").status == 404


def test_patch_changes_what_is_given(world: World) -> None:
    shown = world.send("PATCH", W1, {"metadata": {"a": None, "c": "3"}, "weight": 0, "zone": "z"}).json
    assert shown["metadata"] == {"b": "2", "c": "3"}
    assert (shown["weight"], shown["zone"], shown["tags"]) == (0, "z", ["x"])
    assert world.send("PATCH", W1, {"tags": []}).json["tags"] == []
    assert world.send("PATCH", W1, {"enabled": False}).json["verdict"] == "maintenance"
    assert world.send("PATCH", W1, {"enabled": True, "ready": False}).json["verdict"] == "starting"
    assert world.send("PATCH", W1, {"ready": True, "incarnation": 1}).json["verdict"] == "up"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"weight": "1"}, 400),
        ({"weight": None}, 400),
        ({"tags": None}, 400),
        ({"metadata": {"a": 1}}, 400),
        ({"metadata": {"": None}}, 400),
        ({"address": "127.0.0.2"}, 400),
        ({"incarnation": 7}, 409),
        ({"incarnation": -1}, 400),
        (b"", 400),
    ],
)
def test_bad_patches_change_nothing(world: World, body: object, status: int) -> None:
    assert world.send("PATCH", W1, body).status == status
    assert world.state.position == 1


def test_delete_is_fenced_by_incarnation_and_claim(world: World) -> None:
    world.register(id="w2", claim="me")
    assert world.send("DELETE", W1 + "?incarnation=9").json["code"] == "fenced"
    assert world.send("DELETE", "/services/web/instances/w2?claim=other").json["code"] == "fenced"
    assert world.send("DELETE", W1 + "?incarnation=x").status == 400
    assert world.send("DELETE", W1 + "?incarnation=1").status == 204
    assert world.send("DELETE", "/services/web/instances/w2?claim=me").status == 204
    assert world.send("DELETE", W1).status == 404


def test_maintenance(world: World) -> None:
    shown = world.send("PUT", W1 + "/maintenance", {"reason": "disk"}).json
    assert (shown["verdict"], shown["reason"], shown["callable"]) == ("maintenance", "disk", False)
    assert world.send("DELETE", W1 + "/maintenance").json["verdict"] == "up"
    assert world.send("PUT", W1 + "/maintenance").json["verdict"] == "maintenance"
    assert world.send("PUT", W1 + "/maintenance", {"why": 1}).status == 400


def test_health_is_what_its_provider_says(world: World) -> None:
    shown = world.send("PUT", W1 + "/health", {"status": "critical", "output": "HTTP 500", "incarnation": 1}).json
    assert (shown["verdict"], shown["reason"], shown["callable"]) == ("down", "HTTP 500", False)
    assert world.send("PUT", W1 + "/health", {"status": "warning", "output": "slow"}).json["callable"]
    assert world.send("PUT", W1 + "/health", {"status": "critical", "incarnation": 7}).json["code"] == "fenced"
    assert world.send("PUT", W1 + "/health", {"status": "bad"}).status == 400
    assert world.send("PUT", W1 + "/health", {"output": "x"}).status == 400
    world.send("PUT", W1 + "/health", {"status": "critical"})
    assert world.send("DELETE", W1 + "/health").json["verdict"] == "up"
    assert world.send("DELETE", W1 + "/health").status == 404
    assert world.send("PUT", "/services/web/instances/nobody/health", {"status": "passing"}).status == 404


def test_a_registration_may_say_how_it_is(world: World) -> None:
    body = {
        "service": "web",
        "id": "w2",
        "address": "127.0.0.1",
        "health": {"status": "critical", "output": "no answer"},
    }
    assert world.send("POST", "/instances", body).json["instance"]["reason"] == "no answer"
    assert (
        world.send("POST", "/instances", body | {"health": {"status": "passing"}}).json["instance"]["verdict"] == "up"
    )


def test_override(world: World) -> None:
    assert world.send("PUT", W1 + "/override", {"verdict": "down", "reason": "bad"}).json["verdict"] == "down"
    assert world.send("DELETE", W1 + "/override").json["verdict"] == "up"
    assert world.send("PUT", W1 + "/override", {"verdict": "sideways"}).status == 400
    assert world.send("PUT", W1 + "/override", {}).json["field"] == "verdict"


def test_a_body_where_none_is_expected(world: World) -> None:
    assert world.send("DELETE", W1 + "/override", {}).status == 200
    assert world.send("DELETE", W1 + "/override", {"verdict": "up"}).json["field"] == "verdict"
    assert world.send("DELETE", W1 + "/override", b"junk").status == 400


def test_drain_waits_for_acknowledgements(world: World) -> None:
    row = Subscriber("s1", "app", "127.0.0.1:5", "native", 0, sent=1, acked=1, explicit=True)
    world.rows[WEB] = [row]
    assert world.send("GET", W1 + "/drain").json["state"] == "none"
    begun = world.send("POST", W1 + "/drain", {"deadline_ms": 5_000})
    assert begun.status == 202
    shown = begun.json
    assert (shown["state"], shown["subscribers"], shown["acknowledged"]) == ("draining", 1, 0)
    assert shown["waiting_for"] == ["app"]
    assert shown["deadline"] == world.now + 5_000
    verb = world.verb("GET", f"/api/v1{W1}/drain?wait=60s")
    assert isinstance(verb, Park)
    assert verb.wait_ms == 5_000
    assert verb.interests == [WEB, ("drain", WEB)]
    assert verb.attempt(world.reader(), False) is None
    row.acked = shown["revision"]
    done = verb.attempt(world.reader(), False)
    assert done is not None
    assert b'"complete"' in done.body  # type: ignore[union-attr]
    assert world.send("DELETE", W1 + "/drain").json["state"] == "none"
    assert world.send("GET", W1).json["verdict"] == "up"


def test_drain_is_complete_at_its_deadline_and_without_subscribers(world: World) -> None:
    assert world.send("POST", W1 + "/drain").json["state"] == "complete"
    world.rows[WEB] = [Subscriber("s1", "", "", "native", 0)]
    shown = world.send("GET", W1 + "/drain").json
    assert (shown["state"], shown["waiting_for"]) == ("draining", ["s1"])
    world.now += 30_000
    assert world.send("GET", W1 + "/drain?wait=5s").json["state"] == "complete"


def test_drain_ends_with_the_instance(world: World) -> None:
    world.rows[WEB] = [Subscriber("s1", "", "", "native", 0)]
    world.send("POST", W1 + "/drain")
    verb = world.verb("GET", f"/api/v1{W1}/drain?wait=60s")
    assert isinstance(verb, Park)
    world.send("DELETE", W1)
    gone = verb.attempt(world.reader(), False)
    assert gone is not None
    assert b'"none"' in gone.body  # type: ignore[union-attr]
    assert world.send("GET", W1 + "/drain").status == 404
    assert world.send("POST", W1 + "/drain").status == 404


def test_drain_refuses_a_stale_incarnation(world: World) -> None:
    assert world.send("POST", W1 + "/drain", {"incarnation": 9}).json["code"] == "fenced"
    assert world.send("POST", W1 + "/drain", {"deadline_ms": -1}).status == 400


def test_a_nameless_subscriber_is_shown_by_its_id(world: World) -> None:
    world.send("POST", W1 + "/drain")
    world.rows[WEB] = [Subscriber("s1", "", "", "native", 0), Subscriber("s2", "two", "", "native", 0)]
    assert drain_view(world, WEB, world.reader().instance(WEB, "w1")).waiting_for == ("s1", "two")
