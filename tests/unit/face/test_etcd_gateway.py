"""The JSON gateway: the recorded answers, streams as lines, and JSON that equals the messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from etcd_calls import IDENTITY, Calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.core import KeyRange
from townhall.core.commands import GrantLease, Transact
from townhall.core.queries import Reader
from townhall.face import Duplex, EndOfStream, Follow, Park, Pulled, Reply, Request, Stream, Submit, Unfollow, Verb
from townhall.face.etcd.answers import answer
from townhall.face.etcd.gateway import Gateway
from townhall.face.etcd.gateway_json import STATUSES, Memo, Rendering, error_body, message_of
from townhall.face.etcd.gateway_quick import Headers, header_json, quick
from townhall.face.etcd.gateway_streams import Objects, lines
from townhall.face.etcd.gateway_table import PREFIXES, ROWS
from townhall.face.etcd.member import SPACE
from townhall.face.etcd.pages import Pages, metrics
from townhall.face.grpc import Call, Code, Kind, Method, framed
from townhall.face.routing import Router
from townhall.model import limits
from townhall.model.errors import Malformed, TownhallError, Unavailable
from townhall.model.guard import Alarm
from townhall.model.keys import Put, Transaction
from townhall.model.lease import LeaseKind
from townhall.wire import protobuf_json
from townhall.wire.etcd import kv, watch
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode


class Grpc:
    """The services, and two methods that stand for those of others."""

    name = "etcd"

    def __init__(self, world: Calls) -> None:
        self.world = world
        self.methods = [
            *world.methods.values(),
            Method("/etcdserverpb.KV/Range", self.range),
            Method("/etcdserverpb.Watch/Watch", self.watch, Kind.DUPLEX),
        ]
        self.closed: list[bool] = []
        self.woken: list[object] = []

    def credentials(self, metadata: Mapping[str, str]) -> str:
        return metadata.get("token", "")

    def error(self, error: TownhallError, call: Call | None) -> Reply:
        return self.world.error(error)

    def range(self, call: Call, reader: Reader) -> Verb:
        request = decode(kv.RangeRequest, call.message)
        found = reader.range(SPACE, request.key, request.range_end, limit=request.limit)
        shown = [
            kv.KeyValue(one.key, one.create_revision, one.mod_revision, one.version, one.value, one.lease)
            for one in found.kvs
        ]
        return answer(IDENTITY, reader, kv.RangeResponse(kvs=shown, more=found.more, count=found.count))

    def watch(self, call: Call, reader: Reader) -> Verb:
        def receive(reader: Reader, message: bytes) -> Sequence[Any]:
            request = decode(watch.WatchRequest, message)
            if request.create_request is not None:
                key = request.create_request.key
                created = framed(encode(watch.WatchResponse(created=True)))
                return [created, Follow(KeyRange(SPACE, key), lambda: self.woken.append(key), key)]
            if request.cancel_request is not None:
                return [Unfollow(b"k")]
            code = Code.UNKNOWN if call.metadata.get("authorization") == "bad" else Code.OK
            return [Submit((), lambda reader, _: Reply(code, b"why" if code else framed(b"")))]

        def pull(reader: Reader) -> Pulled | None:
            return Pulled(framed(encode(watch.WatchResponse(watch_id=5)))) if self.woken else None

        stream = Stream([], pull, leaving=framed(b""))
        return Duplex(stream, receive, lambda clean: (), outlives_input=True)


class World(Calls):
    def __init__(self) -> None:
        super().__init__()
        self.shown |= {"engine_error": "", "pending": 0, "refusals": 0, "leases": 0}
        self.grpc = Grpc(self)
        self.gateway = Gateway(self.grpc, Pages())
        self.table = Router(self.gateway.routes)

    def http(
        self, path: str, body: Any = b"", method: str = "POST", headers: Mapping[str, str] = MappingProxyType({})
    ) -> Verb:
        match = self.table.match(method, tuple(path[1:].split("/")))
        if match.route is None:
            return self.gateway.no_route(method, path, match.allowed)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        secret = self.gateway.credentials(headers, {})
        request = Request(method, path, {}, {}, headers, data, "127.0.0.1:9", self.actor(secret), self)
        try:
            return match.route.handler(request, self.reader(request.actor))
        except TownhallError as error:
            return self.gateway.error(error, request)

    def post(self, path: str, body: Any = b"", **headers: str) -> tuple[int, Any]:
        actor = self.actor(self.gateway.credentials(headers, {}))
        verb = self.http(path, body, headers=headers)
        while not isinstance(verb, Reply):
            try:
                if isinstance(verb, Submit):
                    verb = verb.render(self.reader(actor), [self.run(command, actor) for command in verb.commands])
                else:
                    assert isinstance(verb, Park)
                    further = verb.attempt(self.reader(actor), False)
                    assert further is not None
                    verb = further
            except TownhallError as error:
                verb = self.gateway.error(error, None)
        assert verb.content_type == b"application/json"
        return verb.status, json.loads(verb.body)

    def put(self, *keys: bytes) -> None:
        self.run(Transact(space=SPACE, transaction=Transaction(success=tuple(Put(key, b"v") for key in keys))))


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


HEADER = {"cluster_id": str(IDENTITY.cluster_id), "member_id": str(IDENTITY.member_id), "raft_term": "2"}


# --- unary


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_range_in_json(prefix):
    world = World()
    world.put(b"j/a", b"j/b")
    header = HEADER | {"revision": "2"}
    pair = {"key": b64(b"j/a"), "create_revision": "2", "mod_revision": "2", "version": "1", "value": b64(b"v")}
    for body in ({"key": b64(b"j/a")}, {"key": "ai9h", "limit": "1"}, {"key": "ai9h", "limit": 1, "nonsense": 1}):
        assert world.post(prefix + "/kv/range", body) == (200, {"header": header, "kvs": [pair], "count": "1"})
    assert world.post(prefix + "/kv/range", {"key": b64(b"none")}) == (200, {"header": header})
    for name in ("range_end", "rangeEnd"):
        status, found = world.post(prefix + "/kv/range", {"key": b64(b"j/"), name: b64(b"j0"), "limit": 1})
        assert (status, found["more"], found["count"], len(found["kvs"])) == (200, True, "2", 1)


@pytest.mark.parametrize("body", [b"{nonsense", b"[1]", b'{"key":"***"}', b'{"limit":"x"}', b"\xff"])
def test_what_cannot_be_read(body):
    status, told = World().post("/v3/kv/range", body)
    assert (status, told["code"]) == (400, 3)
    assert told["error"] == told["message"]


def test_paths_and_methods_that_are_not_there():
    world = World()
    for path, method, expected in (
        ("/v3/nonsense", "POST", (404, 5)),
        ("/v3/kv/range", "GET", (501, 12)),
        ("/v3beta/kv/range", "PUT", (501, 12)),
    ):
        reply = world.http(path, method=method)
        assert isinstance(reply, Reply)
        assert (reply.status, json.loads(reply.body)["code"]) == expected
    for path in ("/", "/nonsense", "/v2/keys"):
        reply = world.http(path, method="GET")
        assert isinstance(reply, Reply)
        assert (reply.status, reply.body) == (404, b"404 page not found\n")


def test_refusals_have_all_names_that_clients_look_for():
    world = World()
    assert world.post("/v3/auth/authenticate", {"name": "a", "password": "b"}) == (
        400,
        {"error": "etcdserver: authentication is not enabled", "code": 9}
        | {"message": "etcdserver: authentication is not enabled"},
    )
    for path, body, status, code in (
        ("/v3/auth/role/get", {"role": "zzz"}, 400, 9),
        ("/v3/election/leader", {"name": b64(b"none")}, 500, 2),
        ("/v3/lock/lock", {"name": b64(b"jl"), "lease": "1"}, 500, 2),
        ("/v3/cluster/member/remove", {"ID": "1"}, 404, 5),
        ("/v3/maintenance/hashkv", {"revision": "99"}, 400, 11),
    ):
        found = world.post(path, body)
        assert (found[0], found[1]["code"]) == (status, code), path
    assert set(STATUSES) == set(Code)
    assert json.loads(error_body(2, 'a "b"'))["message"] == 'a "b"'
    reply = world.gateway.error(Unavailable("busy"), None)
    assert (reply.status, json.loads(reply.body)["code"]) == (503, 14)


def test_every_service_answers():
    world = World()
    world.run(GrantLease(id=7, ttl_ms=60_000, kind=LeaseKind.KEYS))
    status, told = world.post("/v3/maintenance/status", {})
    assert (status, told["version"], told["downgradeInfo"]) == (200, "3.6.14", {})
    assert told["leader"] == HEADER["member_id"]
    assert world.post("/v3/cluster/member/list", {})[1]["members"][0]["ID"] == HEADER["member_id"]
    assert world.post("/v3/maintenance/defragment", {}) == (200, {})
    assert "hash" in world.post("/v3/maintenance/hash", b"")[1]
    assert world.post("/v3/auth/status", {})[1]["authRevision"] == "1"
    assert world.post("/v3/auth/user/add", {"name": "gw", "password": "x"})[0] == 200
    assert world.post("/v3/auth/user/list", {})[1]["users"] == ["gw"]
    assert world.post("/v3/lock/lock", {"name": b64(b"l"), "lease": 7})[1]["key"] == b64(b"l/7")
    elected = world.post("/v3/election/campaign", {"name": b64(b"e"), "lease": "7", "value": b64(b"x")})[1]
    assert elected["leader"]["lease"] == "7"
    alarm = {"action": "ACTIVATE", "memberID": HEADER["member_id"], "alarm": "NOSPACE"}
    assert world.post("/v3/maintenance/alarm", alarm)[1]["alarms"] == [
        {"memberID": HEADER["member_id"], "alarm": "NOSPACE"}
    ]


def test_the_token_is_bare_in_authorization():
    world = World()
    for path, body in (
        ("/v3/auth/user/add", {"name": "root", "password": "rpw"}),
        ("/v3/auth/user/grant", {"user": "root", "role": "root"}),
        ("/v3/auth/enable", {}),
    ):
        assert world.post(path, body)[0] == 200
    token = world.post("/v3/auth/authenticate", {"name": "root", "password": "rpw"})[1]["token"]
    assert world.post("/v3/auth/user/list", {}, authorization=token)[1]["users"] == ["root"]
    assert world.post("/v3/auth/user/list", {})[1]["message"] == "etcdserver: user name is empty"
    assert world.post("/v3/auth/user/list", {}, authorization="bad.1")[0] == 401


def test_a_lock_that_waits_can_be_abandoned():
    world = World()
    for lease in (1, 2):
        world.run(GrantLease(id=lease, ttl_ms=60_000, kind=LeaseKind.KEYS))
    world.post("/v3/lock/lock", {"name": b64(b"l"), "lease": 1})
    verb = world.http("/v3/lock/lock", {"name": b64(b"l"), "lease": 2})
    assert isinstance(verb, Submit)
    parked = verb.render(world.reader(), [world.run(command) for command in verb.commands])
    assert isinstance(parked, Park)
    assert parked.attempt(world.reader(), False) is None
    assert parked.abandoned is not None
    assert len(parked.abandoned()) == 1


# --- streams


def test_a_stream_of_the_server_is_lines():
    world = World()
    world.put(b"a")
    verb = world.http("/v3/maintenance/snapshot", {})
    assert isinstance(verb, Stream)
    assert verb.content_type == b"application/json"
    first = verb.pull(world.reader())
    assert first is not None
    assert first.more
    (line,) = first.data.splitlines()
    assert base64.b64decode(json.loads(line)["result"]["blob"]).startswith(b"townhall backup")
    with pytest.raises(EndOfStream) as end:
        verb.pull(world.reader())
    assert "result" in json.loads(end.value.data)


def test_a_method_of_many_messages_takes_objects_as_they_come():
    world = World()
    verb = world.http("/v3/watch")
    assert isinstance(verb, Duplex)
    assert verb.outlives_input
    assert verb.stream.pull(world.reader()) is None
    body = json.dumps({"create_request": {"key": b64(b"k")}}).encode()
    assert verb.receive(world.reader(), body[:10]) == []
    (created,) = verb.receive(world.reader(), body[10:] + b"\n" + body[:-1])
    assert created == b'{"result":{"created":true}}\n'
    assert list(verb.stream.interests) == [KeyRange(SPACE, b"k")]
    pulled = verb.stream.pull(world.reader())
    assert world.grpc.woken == [b"k"]
    assert pulled is not None
    assert pulled.data == b'{"result":{"watch_id":"5"}}\n'
    verb.receive(world.reader(), b'} {"cancel_request":{"watch_id":"1"}}')
    world.grpc.woken.clear()
    assert verb.stream.pull(world.reader()) is None
    (asked,) = verb.receive(world.reader(), b'{"progress_request":{}}')
    assert isinstance(asked, Submit)
    answered = asked.render(world.reader(), [])
    assert isinstance(answered, Reply)
    assert answered.body == b'{"result":{}}\n'
    with pytest.raises(EndOfStream) as end:
        verb.receive(world.reader(), b'{"progress_request":5}')
    assert json.loads(end.value.data)["error"]["code"] == 3


def test_what_came_before_bad_json_is_answered():
    world = World()
    verb = world.http("/v3/watch")
    assert isinstance(verb, Duplex)
    body = json.dumps({"create_request": {"key": b64(b"k")}}).encode()
    with pytest.raises(EndOfStream) as end:
        verb.receive(world.reader(), body + b" trailing")
    created, error = map(json.loads, end.value.data.splitlines())
    assert created == {"result": {"created": True}}
    assert error["error"]["code"] == 3


def test_a_body_that_ends_within_an_object_is_told_so():
    world = World()
    verb = world.http("/v3/watch")
    assert isinstance(verb, Duplex)
    assert verb.ended is not None
    verb.ended()
    verb.receive(world.reader(), b'{"create_request":{}} {"create_requ')
    with pytest.raises(EndOfStream) as end:
        verb.ended()
    assert json.loads(end.value.data)["error"]["message"] == "unexpected EOF"


def test_an_error_within_a_stream_is_a_line():
    world = World()
    verb = world.http("/v3/watch", headers={"authorization": "bad"})
    assert isinstance(verb, Duplex)
    (asked,) = verb.receive(world.reader(), b'{"progress_request":{}}')
    assert isinstance(asked, Submit)
    answered = asked.render(world.reader(), [])
    assert isinstance(answered, Reply)
    assert json.loads(answered.body)["error"]["message"] == "why"
    assert lines(b"", bytes) == b""


objects = st.recursive(
    st.one_of(st.integers(), st.text(), st.booleans()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.dictionaries(st.text(), objects), max_size=4), st.integers(1, 7), st.sampled_from(["", " ", "\n", ","])
)
def test_objects_are_found_however_the_bytes_are_cut(bodies, step, gap):
    texts = [json.dumps(body).encode() for body in bodies]
    data = gap.encode().join(texts)
    finder = Objects()
    found = [body for at in range(0, len(data), step) for body in finder.feed(data[at : at + step])]
    assert [json.loads(body) for body in found] == bodies


@pytest.mark.parametrize("data", [b"5", b'"text"', b"}", b"null", b"{}x"])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(Malformed):
        list(Objects().feed(data))


def test_a_body_without_end_is_refused():
    with pytest.raises(Malformed):
        list(Objects().feed(b"{" + b" " * limits.GATEWAY_OBJECT_SIZE_MAX))


# --- JSON


def render(rendering: Rendering, message: kv.RangeResponse) -> Any:
    return json.loads(rendering.answer(kv.RangeResponse, encode(message)))


pairs = st.builds(
    kv.KeyValue,
    st.binary(max_size=200),
    st.integers(0, 1 << 62),
    st.integers(0, 1 << 62),
    st.integers(0, 300),
    st.binary(max_size=1_500),
    st.integers(-5, 1 << 62),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.builds(
        kv.RangeResponse,
        st.one_of(
            st.none(), st.builds(kv.ResponseHeader, st.integers(0, 1 << 63), st.integers(0, 5), st.integers(0, 5))
        ),
        st.lists(pairs, max_size=4),
        st.booleans(),
        st.integers(0, 1 << 40),
    )
)
def test_a_range_joined_of_pieces_is_the_same_as_one_rendered_whole(message):
    rendering = Rendering()
    plain = json.loads(protobuf_json.encode(message))
    for _ in range(2):
        assert render(rendering, message) == plain


def test_what_comes_again_is_remembered_and_what_is_large_is_not():
    rendering = Rendering()
    small = json.dumps({"key": b64(b"k"), "revision": "5"}).encode()
    assert rendering.request(kv.RangeRequest, small) is rendering.request(kv.RangeRequest, small)
    large = json.dumps({"key": b64(b"k" * limits.GATEWAY_MEMO_SIZE_MAX)}).encode()
    assert rendering.request(kv.RangeRequest, large) == message_of(kv.RangeRequest, large)
    assert rendering.request(kv.RangeRequest, large) is not rendering.request(kv.RangeRequest, large)


sloppy = st.one_of(
    st.text(max_size=5),
    st.binary(max_size=40).map(b64),
    st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers().map(str),
    st.booleans(),
    st.none(),
)
names = ["key", "value", "lease", "prev_kv", "prevKv", "range_end", "limit", "serializable", "keys_only", "nonsense"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([kv.PutRequest, kv.RangeRequest]), st.dictionaries(st.sampled_from(names), sloppy, max_size=4))
def test_the_quick_way_is_the_same_as_the_long_one(type_, body):
    data = json.dumps(body).encode()
    made = quick(type_, data)
    if made is not None:
        assert made == message_of(type_, data)


def test_the_usual_form_takes_the_quick_way():
    for type_, body in (
        (kv.PutRequest, {"key": "a2V5", "value": b64(b"v" * 300), "lease": "7", "prev_kv": True}),
        (kv.RangeRequest, {"key": "a2V5", "range_end": "AA==", "limit": 5, "serializable": True, "keys_only": True}),
    ):
        data = json.dumps(body).encode()
        assert quick(type_, data) == message_of(type_, data)
    assert quick(kv.TxnRequest, b"{}") is None
    assert quick(kv.PutRequest, b'{"key":"__4="}') is None
    assert quick(kv.PutRequest, b'{"lease":"-1"}') is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.builds(kv.ResponseHeader, *[st.integers(0, (1 << 63) - 1)] * 4))
def test_headers_by_hand(header):
    assert json.loads(header_json(encode(header)) or b"") == json.loads(protobuf_json.encode(header))
    assert header_json(encode(header) + b"\x28\x01") is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.builds(
            kv.ResponseHeader,
            *[st.sampled_from([0, 1, 2**64 - 1])] * 2,
            st.integers(-5, 2**63 - 1),
            st.sampled_from([0, 2]),
        ),
        max_size=12,
    )
)
def test_headers_that_are_kept_say_the_same(found):
    headers = Headers()
    for header in found:
        data = encode(header)
        assert headers.json(data) == header_json(data)
        assert headers.json(data) == header_json(data)
        assert json.loads(header_json(data) or b"") == json.loads(protobuf_json.encode(header))
        assert headers.json(data + b"\x28\x01") is None


def test_numbers_below_zero_keep_their_sign():
    found = kv.RangeResponse(kv.ResponseHeader(1, 2, -3), (), False, -4)
    assert render(Rendering(), found) == json.loads(protobuf_json.encode(found))


def test_the_answer_to_a_write_is_not_remembered():
    rendering = Rendering()
    for revision in range(3):
        found = kv.PutResponse(kv.ResponseHeader(1, 2, revision))
        assert render(rendering, found) == json.loads(protobuf_json.encode(found))
    assert not rendering._answers._young


def test_a_large_range_is_remembered_without_its_header(monkeypatch):
    monkeypatch.setattr("townhall.face.etcd.gateway_json.GATEWAY_LARGE_COUNT_MAX", 1)
    rendering = Rendering()

    def message(revision: int, key: bytes, size: int = limits.GATEWAY_MEMO_SIZE_MAX) -> kv.RangeResponse:
        return kv.RangeResponse(kv.ResponseHeader(1, 2, revision), [kv.KeyValue(key, 1, 1, 1, b"v" * size)], False, 1)

    for revision in range(2):
        for key in (b"a", b"a", b"b"):
            found = message(revision, key)
            assert render(rendering, found) == json.loads(protobuf_json.encode(found))
            assert len(rendering._large) == 1
    found = message(1, b"a", limits.GATEWAY_LARGE_SIZE_MAX)
    assert render(rendering, found) == json.loads(protobuf_json.encode(found))
    assert limits.GATEWAY_LARGE_COUNT_MAX > 1
    bare = kv.RangeResponse(None, [kv.KeyValue(b"k" * limits.GATEWAY_MEMO_SIZE_MAX)])
    assert render(rendering, bare) == json.loads(protobuf_json.encode(bare))


def test_two_generations(monkeypatch):
    monkeypatch.setattr("townhall.face.etcd.gateway_json.GATEWAY_MEMO_COUNT_MAX", 2)
    memo: Memo[int] = Memo()
    for number in range(4):
        memo.put(number, b"%d" % number)
        assert memo.get(0) == b"0", "what is asked for stays"
    assert memo.get(1) is None
    assert limits.GATEWAY_MEMO_COUNT_MAX > 2


def test_the_table():
    assert len({row.path for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert issubclass(row.request, msgspec.Struct)
        assert issubclass(row.response, msgspec.Struct)
    served = {route.pattern for route in World().gateway.routes}
    assert "/v3/kv/range" in served
    assert "/v3/kv/put" not in served, "only methods that are there"
    assert all(route.body_size_max == limits.GATEWAY_BODY_SIZE_MAX for route in World().gateway.routes[:5])


# --- pages


def page(world: World, path: str) -> tuple[int, str]:
    reply = world.http(path, method="GET")
    assert isinstance(reply, Reply)
    return reply.status, reply.body.decode()


def test_pages():
    world = World()
    assert json.loads(page(world, "/version")[1]) == {
        "etcdserver": "3.6.14", "etcdcluster": "3.6.0", "storage": "3.6.0",
    }  # fmt: skip
    assert page(world, "/health") == (200, '{"health":"true","reason":""}')
    assert page(world, "/livez") == page(world, "/readyz") == (200, "ok\n")
    world.shown |= {"ready": False, "engine_error": "the disk is gone"}
    assert page(world, "/health") == (503, '{"health":"false","reason":"RANGE ERROR: the disk is gone"}')
    assert page(world, "/readyz")[0] == 503
    assert page(world, "/livez")[0] == 200
    world.post("/v3/maintenance/alarm", {"action": 1, "memberID": HEADER["member_id"], "alarm": int(Alarm.NO_SPACE)})
    assert page(world, "/health") == (503, '{"health":"false","reason":"ALARM NOSPACE"}')


def test_metrics_are_well_formed():
    world = World()
    world.put(b"a")
    status, text = page(world, "/metrics")
    assert status == 200
    values: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name.partition("{")[0]] = value
            float(value)
    assert values["etcd_server_has_leader"] == "1"
    assert values["etcd_debugging_mvcc_current_revision"] == "2"
    assert int(values["etcd_mvcc_db_total_size_in_bytes"]) > 0
    assert callable(metrics)
