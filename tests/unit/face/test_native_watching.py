from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_world import World, events

from townhall.core.live import Subscriber
from townhall.face import Reply, Stream
from townhall.face.native.watching import LEAVING, service_of
from townhall.model import limits
from townhall.model.errors import InvalidField
from townhall.model.instance import ServiceKey

WEB = ServiceKey("default", "default", "web")
DB = ServiceKey("default", "default", "db")


@pytest.fixture
def world() -> World:
    return World()


def pull(world: World, stream: Stream) -> list[tuple[str, Any, str | None]]:
    pulled = stream.pull(world.reader())
    return [] if pulled is None else events(pulled.data)


def test_snapshots_then_ready_then_deltas(world: World) -> None:
    world.register(id="w1")
    world.register("db", id="d1")
    stream = world.stream("/watch?service=web&service=db&service=later&subscriber=me")
    assert stream.interests == [WEB, DB, ServiceKey("default", "default", "later")]
    assert stream.subscriber is not None
    assert (stream.subscriber.name, stream.subscriber.explicit) == ("me", False)
    first = stream.pull(world.reader())
    assert first is not None
    found = events(first.data)
    assert [(name, data.get("service"), event_id) for name, data, event_id in found] == [
        ("snapshot", "later", "0"),
        ("snapshot", "web", "1"),
        ("snapshot", "db", "2"),
        ("ready", None, "2"),
    ]
    assert found[-1][1] == {"revision": 2, "subscriber": stream.subscriber.id, "history": world.reader().history}
    assert first.revisions == {WEB: 1, DB: 2, ("default", "default", "later"): 0}
    assert pull(world, stream) == []
    world.register(id="w2", port=81)
    world.send("DELETE", "/services/web/instances/w1")
    pulled = stream.pull(world.reader())
    assert pulled is not None
    ((name, data, event_id),) = events(pulled.data)
    assert (name, event_id, data["revision"]) == ("delta", "4", 4)
    assert [one["id"] for one in data["changed"]] == ["w2"]
    assert data["removed"] == ["w1"]
    assert "ack" not in data
    assert pulled.revisions == {WEB: 4}


def test_all_receivers_share_the_bytes_of_a_change(world: World) -> None:
    world.register(id="w1")
    streams = [world.stream("/watch?service=web") for _ in range(3)]
    for stream in streams:
        stream.pull(world.reader())
    world.register(id="w2", port=81)
    pulled = [stream.pull(world.reader()) for stream in streams]
    assert pulled[0] is not None
    assert all(one is not None and one.data is pulled[0].data for one in pulled)


def test_a_commit_that_changes_two_services_has_one_resume_point(world: World) -> None:
    lease = world.send("POST", "/leases", {}).json["lease"]
    world.register(id="w1", lease=lease)
    world.register("db", id="d1", lease=lease)
    stream = world.stream("/watch?service=web&service=db")
    stream.pull(world.reader())
    world.send("DELETE", f"/leases/{lease}")
    found = pull(world, stream)
    assert [event_id for _, _, event_id in found] == [None, "4"]
    assert {data["service"] for _, data, _ in found} == {"web", "db"}


def test_resume_skips_what_has_not_changed(world: World) -> None:
    world.register(id="w1")
    world.register("db", id="d1")
    world.register(id="w2", port=81)
    stream = world.stream("/watch?service=web&service=db", last_event_id="2")
    pulled = stream.pull(world.reader())
    assert pulled is not None
    found = events(pulled.data)
    assert [(name, data.get("service")) for name, data, _ in found] == [("delta", "web"), ("ready", None)]
    assert [one["id"] for one in found[0][1]["changed"]] == ["w2"]
    assert pulled.revisions == {WEB: 3, DB: 2}
    by_query = world.stream("/watch?service=web&service=db&last_event_id=3")
    assert [name for name, _, _ in pull(world, by_query)] == ["ready"]


def test_resume_from_a_forgotten_or_future_position_is_told(world: World) -> None:
    world.register(id="w1")
    for weight in range(2 * limits.SERVICE_LOG_COUNT_MAX + 2):
        world.register(id="w1", weight=weight + 2)
    for last in ("1", "99999"):
        found = pull(world, world.stream("/watch?service=web", last_event_id=last))
        assert [name for name, _, _ in found] == ["compacted", "snapshot", "ready"]
        assert found[0][2] is None
        assert found[1][1]["instances"][0]["id"] == "w1"


def test_a_slow_watcher_that_fell_behind_is_told_compacted(world: World) -> None:
    world.register(id="w1")
    stream = world.stream("/watch?service=web")
    stream.pull(world.reader())
    for weight in range(2 * limits.SERVICE_LOG_COUNT_MAX + 2):
        world.register(id="w1", weight=weight + 2)
    found = pull(world, stream)
    assert [(name, event_id) for name, _, event_id in found] == [
        ("compacted", None),
        ("snapshot", str(world.state.position)),
    ]


def test_drains_ask_for_acknowledgements(world: World) -> None:
    world.register(id="w1")
    stream = world.stream("/watch?service=web&ack=explicit")
    assert stream.subscriber is not None
    assert stream.subscriber.explicit
    stream.pull(world.reader())
    world.send("POST", "/services/web/instances/w1/drain")
    ((_, data, _),) = pull(world, stream)
    assert data["ack"] is True
    assert data["changed"][0]["verdict"] == "draining"
    ((_, shown, _), _) = pull(world, world.stream("/watch?service=web"))
    assert shown["ack"] is True


def test_healthy_watchers_see_what_may_be_called(world: World) -> None:
    world.register(id="w1")
    world.register(id="w2", port=81, enabled=False)
    stream = world.stream("/watch?service=web&healthy=1")
    ((_, shown, _), _) = pull(world, stream)
    assert [one["id"] for one in shown["instances"]] == ["w1"]
    world.send("PATCH", "/services/web/instances/w1", {"enabled": False})
    world.send("PATCH", "/services/web/instances/w2", {"enabled": True})
    ((_, delta, _),) = pull(world, stream)
    assert [one["id"] for one in delta["changed"]] == ["w2"]
    assert delta["removed"] == ["w1"]


def test_a_protect_threshold_turns_deltas_into_snapshots(world: World) -> None:
    world.register(id="w1")
    world.register(id="w2", port=81)
    world.send("PUT", "/services/web", {"settings": {"protect": 0.9}})
    stream = world.stream("/watch?service=web&healthy=1")
    stream.pull(world.reader())
    world.send("PUT", "/services/web/instances/w1/override", {"verdict": "suspect"})
    assert [name for name, _, _ in pull(world, stream)] == ["snapshot"]


@pytest.mark.parametrize(
    "target",
    [
        "/watch",
        "/watch?service=",
        "/watch?service=a/b",
        "/watch?service=a%20b",
        "/watch?service=web&last_event_id=x",
        "/watch?service=web&ack=maybe",
        "/watch?service=web&healthy=2",
        "/watch?service=web&zork=1",
        "/watch?service=web&namespace=.",
        "/watch?service=web&subscriber=" + "x" * 200,
    ],
)
def test_bad_watches(world: World, target: str) -> None:
    verb = world.verb("GET", "/api/v1" + target)
    assert isinstance(verb, Reply)
    assert verb.status == 400


def test_bad_last_event_id(world: World) -> None:
    verb = world.verb("GET", "/api/v1/watch?service=web", b"", {"last-event-id": "one"})
    assert isinstance(verb, Reply)
    assert verb.status == 400


def test_too_many_services(world: World) -> None:
    names = "&".join(f"service=s{number}" for number in range(limits.WATCH_SERVICES_MAX + 1))
    verb = world.verb("GET", "/api/v1/watch?" + names)
    assert isinstance(verb, Reply)
    assert verb.status == 400


def test_acknowledging(world: World) -> None:
    world.rows[WEB] = [Subscriber("s1", "", "", "native", 0, explicit=True)]
    assert world.send("POST", "/watch/s1/ack", {"services": {"web": 7}}).status == 204
    assert world.rows[WEB][0].acked == 7
    assert world.send("POST", "/watch/s1/ack", {"services": {"default/default/web": 8}}).status == 204
    assert world.rows[WEB][0].acked == 8
    assert world.send("POST", "/watch/s9/ack", {"services": {}}).status == 404
    assert world.send("POST", "/watch/s1/ack", {"services": {"a/b": 1}}).status == 400
    assert world.send("POST", "/watch/s1/ack", {"services": {"web": -1}}).status == 400
    assert world.send("POST", "/watch/s1/ack", {"revisions": {}}).status == 400


def test_service_of() -> None:
    assert service_of("web", "n", "g") == ("n", "g", "web")
    assert service_of("a/b/c", "n", "g") == ("a", "b", "c")
    with pytest.raises(InvalidField):
        service_of("a/b/c/d", "n", "g")


def test_stream_furniture(world: World) -> None:
    stream = world.stream("/watch?service=web")
    assert stream.heartbeat == b": hb\n\n"
    assert stream.leaving == LEAVING == b"event: leaving\ndata: {}\n\n"
    assert (b"cache-control", b"no-store") in stream.headers


class Mirror:
    """What a client of the stream would hold; drops its connection now and then."""

    def __init__(self) -> None:
        self.instances: dict[str, dict[str, Any]] = {}
        self.last: str | None = None

    def take(self, data: bytes, *, upto: int | None = None) -> None:
        for name, content, event_id in events(data)[:upto]:
            if name == "snapshot":
                self.instances[content["service"]] = {one["id"]: one for one in content["instances"]}
            elif name == "delta":
                held = self.instances.setdefault(content["service"], {})
                held.update({one["id"]: one for one in content["changed"]})
                for gone in content["removed"]:
                    held.pop(gone, None)
            self.last = event_id or self.last


STEPS = st.one_of(
    st.tuples(st.sampled_from(["register", "delete", "pull"]), st.sampled_from(["web", "db"]), st.integers(1, 3)),
    st.tuples(st.just("break"), st.just(""), st.integers(0, 2)),
    st.tuples(st.just("endlease"), st.just(""), st.just(0)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_a_mirror_equals_the_registry_wherever_its_stream_broke(steps: list[tuple[str, str, int]]) -> None:
    world = World()
    shared = world.send("POST", "/leases", {}).json["lease"]
    mirror = Mirror()

    def connect() -> Stream:
        headers = {"last_event_id": mirror.last} if mirror.last is not None else {}
        return world.stream("/watch?service=web&service=db", **headers)

    stream = connect()
    for index, (what, service, number) in enumerate(steps):
        if what == "register":
            world.register(service, number, weight=index + 1, lease=shared)
        elif what == "delete":
            world.send("DELETE", f"/services/{service}/instances/{service}-127.0.0.1-{number}")
        elif what == "endlease":
            world.send("DELETE", f"/leases/{shared}")
            shared = world.send("POST", "/leases", {}).json["lease"]
        else:
            pulled = stream.pull(world.reader())
            if pulled is not None:
                mirror.take(pulled.data, upto=number if what == "break" else None)
            if what == "break":
                stream = connect()
    pulled = stream.pull(world.reader())
    if pulled is not None:
        mirror.take(pulled.data)
    for service in ("web", "db"):
        shown = json.loads(world.send("GET", f"/services/{service}/instances").body)["instances"]
        assert mirror.instances.get(service, {}) == {one["id"]: one for one in shown}
