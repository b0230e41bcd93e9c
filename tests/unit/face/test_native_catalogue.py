from __future__ import annotations

import pytest
from native_world import World

from townhall.face import Park, Reply
from townhall.face.native.catalogue import not_modified
from townhall.model.instance import ServiceKey


@pytest.fixture
def world() -> World:
    return World()


def test_discovery_shows_instances_with_revision_and_etag(world: World) -> None:
    world.register(tags=["v2"], metadata={"zone": "b"}, weight=2.5)
    answer = world.send("GET", "/services/web/instances")
    assert answer.status == 200
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["x-townhall-revision"] == "1"
    shown = answer.json
    assert (shown["service"], shown["namespace"], shown["group"], shown["revision"]) == ("web", "default", "default", 1)
    (instance,) = shown["instances"]
    assert instance["id"] == "web-127.0.0.1-8080"
    assert instance["tags"] == ["v2"]
    assert instance["weight"] == 2.5
    assert instance["verdict"] == "up"
    assert instance["callable"] is True
    assert instance["ephemeral"] is True
    assert instance["lease"].isdigit()
    assert "claim" not in instance
    assert "stamp" not in instance


def test_unknown_service_is_an_empty_list_at_revision_0(world: World) -> None:
    answer = world.send("GET", "/services/nowhere/instances")
    assert answer.status == 200
    assert answer.json["instances"] == []
    assert answer.json["revision"] == 0


def test_the_same_bytes_are_shared_until_the_service_changes(world: World) -> None:
    world.register()
    first = world.send("GET", "/services/web/instances").body
    world.register("other")
    assert world.send("GET", "/services/web/instances").body is first
    world.register(port=8081)
    assert world.send("GET", "/services/web/instances").body != first


def test_plain_reads_carry_a_view_of_the_service_and_of_access(world: World) -> None:
    world.register()
    for target in ("/services/web/instances", "/services/web/instances?healthy=1"):
        view = world.send("GET", target).reply.view
        assert view is not None
        assert view.interests == (ServiceKey("default", "default", "web"), ("access", ""))  # type: ignore[attr-defined]
    assert world.send("GET", "/services/web/instances?after=0").reply.view is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["a", "b", "c"]),
        ("tag=v2", ["a", "b"]),
        ("tag=v2&tag=blue", ["b"]),
        ("meta=zone:x", ["a"]),
        ("meta=zone:x&meta=rack:1", ["a"]),
        ("meta=zone:x&meta=rack:2", []),
        ("zone=z1", ["c"]),
        ("zone=", ["a", "b"]),
        ("healthy=1", ["a", "b"]),
        ("healthy", ["a", "b"]),
        ("healthy=0", ["a", "b", "c"]),
        ("filter=port+%3E+80+and+not+%22blue%22+in+tags", ["c"]),
        ("filter=metadata.rack+%3D%3D+1", ["a"]),
        ("filter=ports.admin+%3D%3D+9", ["b"]),
        ("healthy=1&tag=v2&meta=rack:1&filter=weight+%3C%3D+1", ["a"]),
    ],
)
def test_selection(world: World, query: str, found: list[str]) -> None:
    world.register(id="a", port=80, tags=["v2"], metadata={"zone": "x", "rack": "1"})
    world.register(id="b", port=81, tags=["v2", "blue"], ports={"admin": 9})
    world.register(id="c", port=82, zone="z1", enabled=False)
    assert world.instances(f"web?{query}" if query else "web") == found


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("zork=1", "zork"),
        ("healthy=maybe", "healthy"),
        ("healthy=1&healthy=1", "healthy"),
        ("meta=nocolon", "meta"),
        ("tag=", "tag"),
        ("filter=zone+%3D", "filter"),
        ("filter=zork+%3D%3D+1", "filter"),
        ("after=x", "after"),
        ("after=-1", "after"),
        ("after=1&wait=soon", "wait"),
        ("namespace=a/b", "namespace"),
        ("group=%20", "group"),
        ("zone=" + "x" * 129, "zone"),
    ],
)
def test_bad_queries_are_refused_by_name(world: World, query: str, field: str) -> None:
    answer = world.send("GET", f"/services/web/instances?{query}")
    assert answer.status == 400
    assert answer.json["field"] == field
    assert answer.json["detail"]


def test_conditional_get(world: World) -> None:
    world.register()
    assert world.send("GET", "/services/web/instances", if_none_match='"1"').status == 304
    assert world.send("GET", "/services/web/instances", if_none_match='W/"1", "7"').status == 304
    assert world.send("GET", "/services/web/instances", if_none_match="*").status == 304
    again = world.send("GET", "/services/web/instances", if_none_match='"0"')
    assert again.status == 200
    assert world.send("GET", "/services/web/instances?tag=x", if_none_match='"1"').status == 304


def test_long_poll_waits_for_the_service_only(world: World) -> None:
    world.register()
    verb = world.verb("GET", "/api/v1/services/web/instances?after=1&wait=30s")
    assert isinstance(verb, Park)
    assert verb.wait_ms == 30_000
    assert verb.interests == [ServiceKey("default", "default", "web")]
    assert verb.attempt(world.reader(), False) is None
    world.register("other")
    assert verb.attempt(world.reader(), False) is None
    world.register(port=8081)
    reply = verb.attempt(world.reader(), False)
    assert isinstance(reply, Reply)
    assert b'"revision":3' in reply.body


def test_long_poll_answers_the_same_revision_at_its_deadline(world: World) -> None:
    world.register()
    answer = world.send("GET", "/services/web/instances?after=1&wait=1s")
    assert answer.status == 200
    assert answer.json["revision"] == 1


def test_long_poll_of_a_revision_from_another_life_is_answered_at_once(world: World) -> None:
    world.register()
    verb = world.verb("GET", "/api/v1/services/web/instances?after=99&wait=30s")
    assert isinstance(verb, Park)
    assert verb.attempt(world.reader(), False) is not None


def test_list_of_services(world: World) -> None:
    world.register(tags=["v2"])
    world.register("web-admin", enabled=False)
    world.register("db", namespace="prod")
    everything = world.send("GET", "/services").json
    assert [row["name"] for row in everything["services"]] == ["web", "web-admin", "db"]
    assert everything["revision"] == 3
    web = everything["services"][0]
    assert (web["instances"], web["callable"], web["tags"], web["group"]) == (1, 1, ["v2"], "default")
    assert [row["name"] for row in world.send("GET", "/services?prefix=web").json["services"]] == ["web", "web-admin"]
    assert [row["name"] for row in world.send("GET", "/services?namespace=prod").json["services"]] == ["db"]


def test_list_of_services_long_poll(world: World) -> None:
    world.register()
    revision = world.send("GET", "/services").json["revision"]
    verb = world.verb("GET", f"/api/v1/services?after={revision}&wait=5s")
    assert isinstance(verb, Park)
    assert verb.attempt(world.reader(), False) is None
    world.register("db")
    assert verb.attempt(world.reader(), False) is not None


def test_service_record(world: World) -> None:
    assert world.send("GET", "/services/web").status == 404
    made = world.send(
        "PUT", "/services/web", {"metadata": {"owner": "team"}, "settings": {"floor": 0.8, "protect": 0.1}}
    )
    assert made.status == 200
    assert made.json["metadata"] == {"owner": "team"}
    assert made.json["settings"] == {"floor": 0.8, "protect": 0.1, "drain_deadline_ms": 30_000}
    kept = world.send("PUT", "/services/web", {"settings": {"floor": 0}})
    assert kept.json["metadata"] == {"owner": "team"}
    assert kept.json["floor"]["ratio"] == 0
    world.register()
    assert world.send("GET", "/services/web").json["instances"] == 1
    assert world.send("DELETE", "/services/web").json["code"] == "conflict"
    assert world.send("DELETE", "/services/web/instances/web-127.0.0.1-8080").status == 204
    assert world.send("DELETE", "/services/web").status == 204
    assert world.send("DELETE", "/services/web").status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"settings": {"floor": 2}},
        {"settings": {"zork": 1}},
        {"metadata": {"a": 1}},
        {"metadata": None},
        {"drain": 1},
        [],
        b"",
        b'{"metadata":{"a":"1","a":"2"}}',
    ],
)
def test_bad_service_records_change_nothing(world: World, body: object) -> None:
    assert world.send("PUT", "/services/web", body).status == 400
    assert world.state.position == 0


def test_subscribers(world: World) -> None:
    from townhall.core.live import Subscriber

    world.register()
    world.rows[ServiceKey("default", "default", "web")] = [
        Subscriber("s1", "app", "127.0.0.1:5", "native", 7, sent=1, acked=1),
        Subscriber("s2", "", "127.0.0.1:6", "native", 8),
    ]
    shown = world.send("GET", "/services/web/subscribers").json
    assert shown["revision"] == 1
    assert [(row["id"], row["behind"]) for row in shown["subscribers"]] == [("s1", False), ("s2", True)]


def test_entity_tags_are_compared_one_by_one(world: World) -> None:
    def given(tags: str) -> bool:
        return not_modified(world.request("GET", "/api/v1/services/web/instances", b"", {"if-none-match": tags}), 7)

    assert given('"7"')
    assert given('"1", W/"7"')
    assert not given('"77", "", 7')
    assert not not_modified(world.request("GET", "/api/v1/services/web/instances"), 7)
