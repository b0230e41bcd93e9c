from __future__ import annotations

import json

import pytest
from native_world import World

from townhall.core.commands import SetConnection
from townhall.face import EndOfStream, Reply, Submit
from townhall.face.native.session import Session
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import Denied


@pytest.fixture
def world() -> World:
    return World()


def hello(*leases: str) -> dict[str, object]:
    return {"hello": {"name": "app@host:1", "leases": list(leases)}}


def test_hello_connects_and_renews(world: World) -> None:
    first, second = world.register(port=1, ttl_ms=9_000)["lease"], world.register(port=2)["lease"]
    world.run(SetConnection(leases=(int(first),), up=False))
    assert world.send("GET", "/services/web/instances/web-127.0.0.1-1").json["verdict"] == "suspect"
    duplex = world.session()
    (welcome,) = world.say(duplex, hello(first, second, "99"))
    assert welcome == {"welcome": {"ttl_ms_min": 9_000, "unknown": ["99"]}}
    assert world.send("GET", "/services/web/instances/web-127.0.0.1-1").json["verdict"] == "up"
    assert set(world.deadlines) == {int(first), int(second)}
    assert set(duplex.stream.interests) == {("lease", int(first)), ("lease", int(second))}


def test_renew_some_or_all_and_attach(world: World) -> None:
    first, second = world.register(port=1)["lease"], world.register(port=2)["lease"]
    duplex = world.session()
    world.say(duplex, hello(first))
    assert world.say(duplex, {"renew": True}) == [{"renewed": 1, "unknown": []}]
    assert world.say(duplex, {"attach": [second, 99]}) == [{"renewed": 1, "unknown": ["99"]}]
    assert world.say(duplex, {"renew": True}, {"renew": [second, 5]}) == [
        {"renewed": 2, "unknown": []},
        {"renewed": 1, "unknown": ["5"]},
    ]


def test_a_break_makes_instances_suspect_at_once_and_a_goodbye_does_not(world: World) -> None:
    lease = world.register()["lease"]
    duplex = world.session()
    world.say(duplex, hello(lease))
    (command,) = duplex.closed(False)
    assert command == SetConnection(leases=(int(lease),), up=False)
    assert duplex.closed(False) == []
    polite = world.session()
    world.say(polite, hello(lease))
    with pytest.raises(EndOfStream):
        world.say(polite, {"bye": True})
    assert polite.closed(False) == []
    ended = world.session()
    world.say(ended, hello(lease))
    assert ended.closed(True) == []


def test_only_the_session_that_named_a_lease_last_speaks_for_it(world: World) -> None:
    first, second = world.register(port=1)["lease"], world.register(port=2)["lease"]
    old, new = world.session(), world.session()
    world.say(old, hello(first, second))
    world.say(new, hello(first))
    assert old.closed(False) == [SetConnection(leases=(int(second),), up=False)]
    assert new.closed(False) == [SetConnection(leases=(int(first),), up=False)]


def test_news_of_drains_and_forgotten_leases(world: World) -> None:
    lease = world.register(id="w1")["lease"]
    duplex = world.session()
    world.say(duplex, hello(lease))
    assert duplex.stream.pull(world.reader()) is None
    world.send("POST", "/services/web/instances/w1/drain", {"deadline_ms": 4_000})
    pulled = duplex.stream.pull(world.reader())
    assert pulled is not None
    deadline = world.now + 4_000
    assert pulled.data == (
        b'{"drain":{"service":"web","id":"w1","deadline":%d,"namespace":"default","group":"default"}}\n' % deadline
    )
    assert duplex.stream.pull(world.reader()) is None
    world.send("DELETE", "/services/web/instances/w1/drain")
    assert duplex.stream.pull(world.reader()) is None
    world.send("POST", "/services/web/instances/w1/drain", {"deadline_ms": 4_000})
    assert duplex.stream.pull(world.reader()) is not None
    world.send("DELETE", f"/leases/{lease}")
    pulled = duplex.stream.pull(world.reader())
    assert pulled is not None
    assert pulled.data == b'{"forgotten":["%b"]}\n' % lease.encode()
    assert duplex.stream.pull(world.reader()) is None
    assert duplex.closed(False) == []


def test_a_lease_ended_while_nobody_looked_is_welcomed_as_unknown(world: World) -> None:
    lease = world.register()["lease"]
    world.send("DELETE", f"/leases/{lease}")
    (welcome,) = world.say(world.session(), hello(lease))
    assert welcome["welcome"]["unknown"] == [lease]


@pytest.mark.parametrize(
    "lines",
    [
        [{"renew": True}],
        [{}],
        [hello(), hello()],
        [hello(), {"renew": True, "bye": True}],
        [hello(), {"zork": 1}],
        [hello(), {"attach": ["x"]}],
        [{"hello": {"leases": []}}],
        [{"hello": {"name": "", "leases": []}}],
        [7],
    ],
)
def test_a_bad_line_ends_the_session_with_its_problem(world: World, lines: list[object]) -> None:
    duplex = world.session()
    with pytest.raises(EndOfStream) as ended:
        world.say(duplex, *lines)
    assert b'{"error":{"type":"urn:townhall:error:' in ended.value.data.splitlines()[-1]


def test_lines_may_come_in_any_pieces(world: World) -> None:
    lease = world.register()["lease"]
    data = b'{"hello":{"name":"a","leases":["%b"]}}\r\n\n{"renew":true}\n' % lease.encode()
    for size in range(1, len(data)):
        duplex = world.session()
        said = b""
        for start in range(0, len(data), size):
            for step in duplex.receive(world.reader(), data[start : start + size]):
                said += step if isinstance(step, bytes) else world.finish(step).body
        assert said.count(b"\n") == 2
        duplex.closed(True)


def test_limits(world: World) -> None:
    with pytest.raises(EndOfStream) as ended:
        world.session().receive(world.reader(), b"x" * (limits.SESSION_LINE_SIZE_MAX + 1))
    assert b"longer than" in ended.value.data
    duplex = world.session()
    with pytest.raises(EndOfStream) as ended:
        world.say(duplex, hello(*map(str, range(1, limits.SESSION_LEASES_MAX + 2))))
    assert b"too_large" in ended.value.data


def test_a_session_whose_token_lost_its_rights_ends_without_harm(world: World) -> None:
    lease = world.register()["lease"]
    duplex = world.session()
    world.say(duplex, hello(lease))
    world.send("POST", "/access/bootstrap")
    from townhall.model.access import Actor

    with pytest.raises(EndOfStream) as ended:
        duplex.stream.pull(world.reader(Actor(restricted=True)))
    assert b"unauthenticated" in ended.value.data
    assert duplex.closed(False) == []


def test_a_lease_that_may_not_be_connected_cannot_be_broken_either(world: World) -> None:
    """Whoever knows a lease's number but has no right to it must not make its instances suspect by hanging up."""
    lease = world.register()["lease"]
    duplex = world.session()
    (submit,) = duplex.receive(world.reader(), json.dumps(hello(lease)).encode() + b"\n")
    assert isinstance(submit, Submit)
    answer = submit.render(world.reader(), [Denied("no right", right="write", resource="service")])
    assert isinstance(answer, Reply)
    assert b"denied" in answer.body
    assert duplex.closed(False) == []


def test_leaving_and_heartbeat(world: World) -> None:
    stream = world.session().stream
    assert stream.leaving == b'{"leaving":true}\n'
    assert stream.heartbeat == b"\n"
    assert stream.heartbeat_ms == limits.STREAM_HEARTBEAT_MS
    assert Session({}, world).closed(False) == []


def test_a_session_renews_only_what_its_token_may_write(world: World) -> None:
    lease = world.register()["lease"]
    world.send("POST", "/access/bootstrap")
    for line in ({"renew": [lease]}, {"attach": [lease]}):
        duplex = world.session()
        duplex.receive(world.reader(Actor(restricted=True)), json.dumps(hello()).encode() + b"\n")
        with pytest.raises(EndOfStream) as refused:
            duplex.receive(world.reader(Actor(restricted=True)), json.dumps(line).encode() + b"\n")
        assert json.loads(refused.value.data)["error"]["code"] == "unauthenticated"
        assert duplex.closed(False) == []
    assert world.deadlines == {}
