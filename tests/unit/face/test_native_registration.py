from __future__ import annotations

import pytest
from native_world import World

from townhall.core.commands import Register
from townhall.face import Submit
from townhall.face.native.registration import command_of
from townhall.face.native.shapes import RegisterBody
from townhall.model import limits
from townhall.model.errors import InvalidField

FULL = {
    "service": "web", "address": "127.0.0.1", "port": 8080, "id": "w1", "namespace": "prod", "group": "g",
    "ports": {"admin": 9}, "tags": ["a", "b", "a"], "metadata": {"k": "v"}, "weight": 3, "region": "r", "zone": "z",
    "cluster": "c", "enabled": True, "ready": False, "ttl_ms": 5_000, "claim": "me",
}  # fmt: skip


@pytest.fixture
def world() -> World:
    return World()


def test_register_answers_with_what_stands(world: World) -> None:
    answer = world.send("POST", "/instances", FULL)
    assert answer.status == 201
    shown = answer.json
    assert shown["ttl_ms"] == 5_000
    assert shown["incarnation"] == shown["revision"] == shown["instance"]["revision"] == 1
    assert shown["lease"] == shown["instance"]["lease"]
    instance = shown["instance"]
    assert instance["id"] == "w1"
    assert instance["tags"] == ["a", "b"]
    assert instance["ports"] == {"admin": 9}
    assert instance["verdict"] == "starting"
    assert instance["origin"] == "127.0.0.1:9"
    assert (instance["namespace"], instance["group"], instance["zone"]) == ("prod", "g", "z")
    assert answer.headers["x-townhall-revision"] == "1"


def test_register_is_idempotent_and_updates(world: World) -> None:
    world.register(claim="me")
    again = world.send("POST", "/instances", {"service": "web", "address": "127.0.0.1", "port": 8080, "claim": "me"})
    assert again.status == 200
    assert again.json["revision"] == 1
    update = {"service": "web", "address": "127.0.0.1", "port": 8080, "claim": "me", "weight": 2}
    changed = world.send("POST", "/instances", update)
    assert changed.status == 200
    assert (changed.json["incarnation"], changed.json["revision"]) == (1, 2)
    newer = world.send("POST", "/instances", update | {"claim": "other"})
    assert newer.status == 201
    assert newer.json["incarnation"] == 3


def test_persistent_instances_have_no_lease(world: World) -> None:
    shown = world.register(persistent=True)
    assert shown["lease"] is None
    assert shown["ttl_ms"] is None
    assert shown["instance"]["ephemeral"] is False


def test_several_instances_on_one_lease(world: World) -> None:
    lease = world.send("POST", "/leases", {"ttl_ms": 5_000}).json["lease"]
    assert world.register(port=1, lease=lease)["lease"] == lease
    assert world.register(port=2, lease=int(lease))["ttl_ms"] == 5_000
    assert world.send("POST", "/instances", FULL | {"lease": "77"}).json["code"] == "lease_not_found"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"service": None}, "service"),
        ({"service": ""}, "service"),
        ({"service": "a b"}, "service"),
        ({"service": "x" * (limits.SERVICE_SIZE_MAX + 1)}, "service"),
        ({"address": "0.0.0.0"}, "address"),
        ({"address": "not an address"}, "address"),
        ({"address": "300.1.1.1"}, "address"),
        ({"port": 65_536}, "port"),
        ({"port": -1}, "port"),
        ({"port": "80"}, "port"),
        ({"port": 80.5}, "port"),
        ({"port": True}, "port"),
        ({"ports": {"admin": 0}}, "ports.admin"),
        ({"ports": {"": 1}}, "ports."),
        ({"tags": "v2"}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"tags": [1]}, "tags[0]"),
        ({"metadata": {"": "x"}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata[...]"),
        ({"weight": -1}, "weight"),
        ({"weight": "1"}, "weight"),
        ({"weight": 1e9}, "weight"),
        ({"zone": "x" * (limits.LABEL_SIZE_MAX + 1)}, "zone"),
        ({"region": "a\x00b"}, "region"),
        ({"id": "a b"}, "id"),
        ({"id": "x" * (limits.INSTANCE_ID_SIZE_MAX + 1)}, "id"),
        ({"namespace": ".."}, "namespace"),
        ({"group": ""}, "group"),
        ({"ttl_ms": 1}, "ttl"),
        ({"ttl_ms": -1}, "ttl_ms"),
        ({"ttl_ms": limits.LEASE_TTL_MAX_MS + 1}, "ttl_ms"),
        ({"lease": "x"}, "lease"),
        ({"lease": 0}, "lease"),
        ({"lease": "9" * 30}, "lease"),
        ({"persistent": True, "lease": "7"}, "lease"),
        ({"enabled": 1}, "enabled"),
        ({"zork": 1}, "zork"),
        ({"Service": "web"}, "Service"),
    ],
)
def test_bad_registrations_name_their_field_and_change_nothing(
    world: World, change: dict[str, object], field: str
) -> None:
    answer = world.send("POST", "/instances", FULL | change)
    assert answer.status == 400
    assert answer.json["field"] == field
    assert world.state.position == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"service":"a","address":"127.0.0.1","weight":NaN}',
        b'{"service":"a","address":"127.0.0.1","weight":1e999}',
        b'{"service":"\xff","address":"127.0.0.1"}',
        b'{"service":"\\ud800","address":"127.0.0.1"}',
        b'{"service":"a","service":"b","address":"127.0.0.1"}',
        b'{"service":"a","address":"127.0.0.1","metadata":{"x":"1","x":"2"}}',
        b'{"service":"a","address":"127.0.0.1"} x',
        b'{"service":"a","address":"127.0.0.1","tags":' + b"[" * 100_000,
    ],
)
def test_unreadable_registrations_change_nothing(world: World, body: bytes) -> None:
    answer = world.send("POST", "/instances", body)
    assert answer.status == 400
    assert answer.json["detail"]
    assert world.state.position == 0


def test_batch_keeps_order_and_goes_on_after_a_bad_item(world: World) -> None:
    items = [
        {"service": "web", "address": "127.0.0.1", "port": 1},
        {"service": "web", "address": "nowhere at all", "port": 2},
        {"service": "web", "address": "127.0.0.1", "port": 3, "zork": 1},
        {"service": "web", "address": "127.0.0.1", "port": 4, "lease": "99"},
        7,
        {"service": "web", "address": "127.0.0.1", "port": 5},
    ]
    answer = world.send("POST", "/instances/batch", {"instances": items})
    assert answer.status == 200
    results = answer.json["results"]
    assert results[0]["instance"]["port"] == 1
    assert results[1]["error"]["code"] == "invalid_field"
    assert results[2]["error"]["field"] == "zork"
    assert results[3]["error"]["status"] == 404
    assert results[4]["error"]["status"] == 400
    assert results[5]["instance"]["port"] == 5
    assert answer.json["revision"] == 2
    assert len(world.instances()) == 2


def test_batch_limits(world: World) -> None:
    assert world.send("POST", "/instances/batch", {"instances": []}).json == {"results": [], "revision": 0}
    too_many = b'{"instances":[' + b",".join([b"{}"] * (limits.BATCH_COUNT_MAX + 1)) + b"]}"
    assert world.send("POST", "/instances/batch", too_many).status == 413
    assert world.send("POST", "/instances/batch", {"instances": [{}], "zork": 1}).json["field"] == "zork"


def test_deregister_many(world: World) -> None:
    first = world.register(port=1, claim="me")
    world.register(port=2)
    items = [
        {"service": "web", "id": "web-127.0.0.1-1", "incarnation": first["incarnation"] + 5},
        {"service": "web", "id": "web-127.0.0.1-1", "claim": "me"},
        {"service": "web", "id": "nobody"},
        {"service": "web"},
        {"service": "web", "id": "web-127.0.0.1-2"},
    ]
    results = world.send("POST", "/deregister", {"instances": items}).json["results"]
    assert results[0]["error"]["code"] == "fenced"
    assert results[1] == {"removed": True}
    assert results[2]["error"]["code"] == "not_found"
    assert results[3]["error"]["field"] == "id"
    assert results[4] == {"removed": True}
    assert world.instances() == []


def test_reports(world: World) -> None:
    world.register(id="w1")
    failures = [
        {"service": "web", "id": "w1", "kind": "timeout", "count": 3},
        {"service": "web", "id": "w2"},
    ]
    answer = world.send("POST", "/reports", {"reporter": "app@host", "failures": failures})
    assert answer.json == {
        "accepted": 1,
        "unknown": [{"namespace": "default", "group": "default", "service": "web", "id": "w2"}],
    }
    assert world.reported[0] == ("app@host", ("default", "default", "web", "w1"), "timeout", 3)


@pytest.mark.parametrize(
    "failure",
    [{"service": "web"}, {"service": "web", "id": "a", "kind": "mood"}, {"service": "web", "id": "a", "count": 0}],
)
def test_bad_reports_count_nothing(world: World, failure: dict[str, object]) -> None:
    world.register(id="w1")
    failures = [{"service": "web", "id": "w1"}, failure]
    assert world.send("POST", "/reports", {"reporter": "x", "failures": failures}).status == 400
    assert world.reported == []


def test_an_instance_removed_in_the_same_group_is_still_answered(world: World) -> None:
    verb = world.verb("POST", "/api/v1/instances", {"service": "web", "address": "127.0.0.1", "port": 1})
    assert isinstance(verb, Submit)
    outcome = world.run(verb.commands[0])
    world.send("DELETE", "/services/web/instances/web-127.0.0.1-1")
    reply = verb.render(world.reader(), [outcome])
    assert reply.status == 201  # type: ignore[union-attr]


def test_command_of_takes_the_default_id() -> None:
    command = command_of(RegisterBody(service="web", address="::1", port=5), "peer")
    assert isinstance(command, Register)
    assert (command.id, command.origin) == ("web-::1-5", "peer")
    with pytest.raises(InvalidField):
        command_of(RegisterBody(service="web", address="127.0.0.1", weight=float("nan")), "")
