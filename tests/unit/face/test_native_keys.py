from __future__ import annotations

import base64

import pytest
from native_world import World, events

from townhall.core import KeyRange
from townhall.core.commands import Transact
from townhall.face import Park, Reply
from townhall.face.native.keys import KeyWatch
from townhall.model import limits
from townhall.model.keys import Put, Transaction


@pytest.fixture
def world() -> World:
    return World()


def test_put_get_delete(world: World) -> None:
    made = world.send("PUT", "/kv/a/b", b"hello")
    assert made.json == {"revision": 2, "created": True}
    assert made.headers["x-townhall-space-revision"] == "2"
    assert world.send("PUT", "/kv/a/b", b"again").json == {"revision": 3, "created": False}
    shown = world.send("GET", "/kv/a/b").json
    assert shown == {
        "key": "a/b", "value": "again", "value_base64": base64.b64encode(b"again").decode(),
        "create_revision": 2, "mod_revision": 3, "version": 2, "lease": None,
    }  # fmt: skip
    assert world.send("GET", "/kv/a/b?revision=2").json["value"] == "hello"
    raw = world.send("GET", "/kv/a/b?raw")
    assert (raw.body, raw.reply.content_type) == (b"again", b"application/octet-stream")
    assert world.send("DELETE", "/kv/a/b").json == {"deleted": 1, "revision": 4}
    assert world.send("DELETE", "/kv/a/b").json["deleted"] == 0
    missing = world.send("GET", "/kv/a/b")
    assert missing.status == 404
    assert missing.headers["x-townhall-space-revision"] == "4"


def test_values_and_keys_that_are_not_text(world: World) -> None:
    world.send("PUT", "/kv/k%FF", b"\xff\x00")
    shown = world.send("GET", "/kv/k%FF").json
    assert shown["value"] is None
    assert base64.b64decode(shown["value_base64"]) == b"\xff\x00"
    assert shown["key"] == "k\\xff"
    assert base64.b64decode(shown["key_base64"]) == b"k\xff"


def test_compare_and_set(world: World) -> None:
    assert world.send("PUT", "/kv/k?cas=0", b"1").json["created"] is True
    refused = world.send("PUT", "/kv/k?cas=0", b"2")
    assert refused.status == 409
    assert (refused.json["code"], refused.json["mod_revision"]) == ("conflict", 2)
    assert world.send("PUT", "/kv/k?cas=2", b"2").json == {"revision": 3, "created": False}
    assert world.send("PUT", "/kv/k?create", b"3").status == 409
    assert world.send("DELETE", "/kv/k?cas=2").status == 409
    assert world.send("DELETE", "/kv/k?cas=3").json["deleted"] == 1
    assert world.send("PUT", "/kv/k?cas=7", b"2").json["mod_revision"] == 0
    assert world.send("PUT", "/kv/k?create=1", b"3").status == 200


def test_keys_on_a_lease_go_with_it(world: World) -> None:
    lease = world.send("POST", "/leases", {"kind": "keys"}).json["lease"]
    world.send("PUT", f"/kv/k?lease={lease}", b"1")
    assert world.send("GET", "/kv/k").json["lease"] == lease
    assert world.send("GET", f"/leases/{lease}").json["keys"] == 1
    world.send("DELETE", f"/leases/{lease}")
    assert world.send("GET", "/kv/k").status == 404
    assert world.send("PUT", "/kv/k?lease=99", b"1").json["code"] == "lease_not_found"


def test_spaces_are_apart(world: World) -> None:
    world.send("PUT", "/kv/k?space=etcd", b"1")
    assert world.send("GET", "/kv/k").status == 404
    assert world.send("GET", "/kv/k?space=etcd").json["value"] == "1"


def test_listing_page_by_page(world: World) -> None:
    for name in ("a/1", "a/2", "a/3", "b"):
        world.send("PUT", f"/kv/{name}", b"x")
    shown = world.send("GET", "/kv?prefix=a/&limit=2").json
    assert [one["key"] for one in shown["keys"]] == ["a/1", "a/2"]
    assert (shown["count"], shown["more"], shown["revision"]) == (3, True, 5)
    rest = world.send("GET", "/kv?prefix=a/&limit=2&start=a/2").json
    assert [one["key"] for one in rest["keys"]] == ["a/3"]
    assert rest["more"] is False
    assert world.send("GET", "/kv?prefix=a/&start=zzz").json["keys"] == []
    everything = world.send("GET", "/kv?keys_only=1").json
    assert [(one["key"], one["value"]) for one in everything["keys"]] == [
        ("a/1", None),
        ("a/2", None),
        ("a/3", None),
        ("b", None),
    ]


def test_deleting_a_prefix(world: World) -> None:
    for name in ("a/1", "a/2", "b"):
        world.send("PUT", f"/kv/{name}", b"x")
    assert world.send("DELETE", "/kv").json["field"] == "prefix"
    assert world.send("DELETE", "/kv?prefix=").status == 400
    assert world.send("DELETE", "/kv?prefix=a/").json["deleted"] == 2
    assert [one["key"] for one in world.send("GET", "/kv").json["keys"]] == ["b"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/kv/"),
        ("PUT", "/kv/"),
        ("GET", "/kv/k?revision=x"),
        ("GET", "/kv/k?revision=99"),
        ("GET", "/kv/k?revision=2&after=1"),
        ("PUT", "/kv/k?cas=-1"),
        ("PUT", "/kv/k?lease=abc"),
        ("PUT", "/kv/k?zork=1"),
        ("GET", "/kv?limit=0"),
        ("GET", f"/kv?limit={limits.RANGE_COUNT_MAX + 1}"),
        ("GET", "/kv?after=1"),
        ("GET", "/kv?space="),
        ("DELETE", "/kv/k?create=1"),
    ],
)
def test_bad_requests(world: World, method: str, target: str) -> None:
    assert world.send(method, target).status == 400
    assert world.state.position == 0


def test_sizes(world: World) -> None:
    assert world.send("PUT", "/kv/" + "k" * (limits.KEY_SIZE_MAX + 1), b"x").status == 413
    assert world.send("PUT", "/kv/k", b"x" * (limits.VALUE_SIZE_MAX + 1)).status == 413
    assert world.send("PUT", "/kv/k", b"x" * limits.VALUE_SIZE_MAX).status == 200


def test_long_poll_of_a_key(world: World) -> None:
    world.send("PUT", "/kv/k", b"1")
    verb = world.verb("GET", "/api/v1/kv/k?after=2&wait=9s")
    assert isinstance(verb, Park)
    assert (verb.interests, verb.wait_ms) == ([KeyRange("native", b"k")], 9_000)
    assert verb.attempt(world.reader(), False) is None
    world.send("PUT", "/kv/other", b"1")
    assert verb.attempt(world.reader(), False) is None
    world.send("DELETE", "/kv/k")
    gone = verb.attempt(world.reader(), False)
    assert isinstance(gone, Reply)
    assert gone.status == 404
    assert world.send("GET", "/kv/k?after=99&wait=9s").status == 404


def test_watch_tells_of_puts_and_deletes_in_whole_revisions(world: World) -> None:
    world.send("PUT", "/kv/a/1", b"x")
    stream = world.stream("/kv?prefix=a/&watch=1")
    assert stream.interests == [KeyRange("native", b"a/", b"a0")]
    first = stream.pull(world.reader())
    assert first is not None
    assert events(first.data) == [("ready", {"revision": 2}, "2")]
    assert stream.pull(world.reader()) is None
    puts = (Put(b"a/1", b"y"), Put(b"a/2", b"z"), Put(b"b", b"-"))
    world.run(Transact(space="native", transaction=Transaction(success=puts)))
    world.send("DELETE", "/kv/a/1")
    pulled = stream.pull(world.reader())
    assert pulled is not None
    found = events(pulled.data)
    assert [(name, data["key"], data["previous_revision"], event_id) for name, data, event_id in found] == [
        ("put", "a/1", 2, None),
        ("put", "a/2", 0, "3"),
        ("delete", "a/1", 3, "4"),
    ]
    assert found[0][1]["value"] == "y"
    assert found[2][1]["value"] is None


def test_watch_resumes_and_tells_of_compaction(world: World) -> None:
    for number in range(5):
        world.send("PUT", "/kv/k", b"%d" % number)
    stream = world.stream("/kv?watch=1&after=4")
    pulled = stream.pull(world.reader())
    assert pulled is not None
    assert [(name, event_id) for name, _, event_id in events(pulled.data)] == [
        ("ready", None), ("put", "5"), ("put", "6"),
    ]  # fmt: skip
    again = world.stream("/kv?watch=1&after=2", last_event_id="5").pull(world.reader())
    assert again is not None
    assert [event_id for _, _, event_id in events(again.data)] == [None, "6"]
    assert world.send("POST", "/kv-compact", {"revision": 5}).json["compacted"] == 5
    for after in ("2", "99"):
        late = world.stream(f"/kv?watch=1&after={after}").pull(world.reader())
        assert late is not None
        assert [(name, event_id) for name, _, event_id in events(late.data)] == [("ready", None), ("compacted", "6")]
    assert world.send("GET", "/kv/k?revision=3").json["code"] == "compacted"
    assert world.send("POST", "/kv-compact", {"revision": 0}).status == 400
    assert world.send("POST", "/kv-compact", {"revision": 99}).status in (400, 410)


def test_watch_with_nothing_in_its_range(world: World) -> None:
    stream = world.stream("/kv?prefix=zzz&watch=1")
    stream.pull(world.reader())
    world.send("PUT", "/kv/a", b"1")
    assert stream.pull(world.reader()) is None


def test_transactions(world: World) -> None:
    world.send("PUT", "/kv/k", b"old")
    body = {
        "compares": [
            {"key": "k", "target": "value", "relation": "=", "value": "old"},
            {"key": "k", "target": "mod", "relation": "<", "value": 9},
            {"key": "no", "target": "version", "value": 0},
        ],
        "success": [
            {"put": {"key": "k", "value": "new"}},
            {"get": {"key": "k"}},
            {"delete": {"key": "z", "prefix": True}},
            {"txn": {"compares": [], "success": [{"put": {"key": "bin", "value_base64": "/wA="}}]}},
        ],
        "failure": [{"get": {"key": "k"}}],
    }
    answer = world.send("POST", "/txn", body).json
    assert answer["succeeded"] is True
    assert answer["revision"] == 3
    put, get, delete, nested = answer["responses"]
    assert put == {"put": {"created": False, "previous_revision": 2}}
    assert get["get"]["keys"][0]["value"] == "new"
    assert get["get"]["keys"][0]["mod_revision"] == 3
    assert delete == {"delete": {"deleted": 0, "keys": []}}
    assert nested["txn"]["responses"] == [{"put": {"created": True, "previous_revision": 0}}]
    assert world.send("GET", "/kv/bin?raw").body == b"\xff\x00"
    second = world.send("POST", "/txn", body).json
    assert (second["succeeded"], second["responses"][0]["get"]["count"]) == (False, 1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"zork": 1}, "zork"),
        ({"compares": [{"key": "k"}]}, "compares[0].target"),
        ({"compares": [{"key": "k", "target": "mood", "value": 1}]}, "compares[0].target"),
        ({"compares": [{"key": "k", "target": "mod", "relation": "~", "value": 1}]}, "compares[0].relation"),
        ({"compares": [{"key": "k", "target": "mod", "value": "1"}]}, "compares[0].value"),
        ({"compares": [{"key": "k", "target": "value", "value": 1}]}, "compares[0].value"),
        ({"compares": [{"key": "k", "target": "mod"}]}, "compares[0].value"),
        ({"compares": [{"key": "", "target": "mod", "value": 1}]}, "compares[0].key"),
        ({"success": [{}]}, "success[0]"),
        ({"success": [{"put": {"key": "k", "value": "1"}, "get": {"key": "k"}}]}, "success[0]"),
        ({"success": [{"put": {"key": "k"}}]}, "success[0].put.value"),
        ({"success": [{"put": {"key": "k", "value_base64": "*"}}]}, "success[0].put.value_base64"),
        ({"success": [{"put": {"key": "k", "value": "1", "lease": "x"}}]}, "success[0].put.lease"),
        ({"success": [{"get": {"key": "a", "end": "b", "prefix": True}}]}, "success[0].get.end"),
        ({"failure": [{"txn": {"success": [{}]}}]}, "failure[0].txn.success[0]"),
        ({"success": [{"put": {"key": "k", "value": "1"}}] * 2}, "operations"),
        ({"space": ""}, "space"),
    ],
)
def test_bad_transactions(world: World, body: object, field: str) -> None:
    answer = world.send("POST", "/txn", body)
    assert answer.status == 400
    assert answer.json["field"] == field
    assert world.state.position == 0


def test_deep_and_wide_transactions(world: World) -> None:
    body = b'{"success":[{"txn":' * 40 + b"{}" + b"}]}" * 40
    assert world.send("POST", "/txn", body).status == 400
    shallow = b'{"success":[{"txn":' * limits.TXN_DEPTH_MAX + b"{}" + b"}]}" * limits.TXN_DEPTH_MAX
    assert world.send("POST", "/txn", shallow).status == 413
    wide = {"success": [{"get": {"key": "k"}}] * (limits.TXN_OPERATIONS_MAX + 1)}
    assert world.send("POST", "/txn", wide).status == 413


def test_lease_compares(world: World) -> None:
    lease = world.send("POST", "/leases", {"kind": "keys"}).json["lease"]
    world.send("PUT", f"/kv/k?lease={lease}", b"1")
    for value, held in ((lease, True), (int(lease), True), ("0", False), (0, False)):
        body = {"compares": [{"key": "k", "target": "lease", "value": value}]}
        if value in ("0",):
            assert world.send("POST", "/txn", body).status == 400
        else:
            assert world.send("POST", "/txn", body).json["succeeded"] is held


def test_a_watch_catches_up_over_many_asks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from townhall.face.native import keys

    monkeypatch.setattr(keys, "_EVENTS_PER_ASK", 2)
    watch = KeyWatch(KeyRange("native", b"k", b""), 1)
    for number in range(7):
        world.send("PUT", "/kv/k", b"%d" % number)
    pulled = watch.pull(world.reader())
    assert pulled is not None
    assert [data["value"] for name, data, _ in events(pulled.data) if name == "put"] == [str(n) for n in range(7)]
    assert watch.pull(world.reader()) is None
