from __future__ import annotations

from consul_world import FaceWorld

from townhall.face import Park, Reply
from townhall.face.consul.blocking import Read, answer, pretty, wait_with_jitter
from townhall.face.consul.requests import ReadOptions


def test_reads_have_consuls_headers_and_a_view():
    world = FaceWorld()
    reply = world.verb("GET", "/v1/health/service/web")
    assert isinstance(reply, Reply)
    assert reply.view is not None
    assert reply.view.fresh
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    assert headers["X-Consul-Index"] == "1"
    assert headers["X-Consul-KnownLeader"] == "true"
    assert headers["X-Consul-LastContact"] == "0"
    assert headers["X-Consul-Effective-Consistency"] == "leader"
    assert headers["X-Consul-Default-ACL-Policy"] == "allow"


def test_cached_answers_depend_on_more_than_their_target():
    reply = FaceWorld().verb("GET", "/v1/health/service/web?cached")
    assert isinstance(reply, Reply)
    assert reply.view is None
    assert (b"X-Cache", b"HIT") in reply.headers


def test_pretty_ends_with_a_newline():
    assert pretty(b'{"a":[1]}', wanted=True) == b'{\n    "a": [\n        1\n    ]\n}\n'
    assert pretty(b"[]", wanted=False) == b"[]"
    assert FaceWorld().call("GET", "/v1/catalog/datacenters?pretty").body == b'[\n    "dc1"\n]\n'


def test_jitter_is_a_sixteenth_at_most():
    world = FaceWorld()
    request = world.request("GET", "/v1/catalog/services")
    waits = set()
    for moment in range(50):
        world.now = 1_000_000 + moment
        waits.add(wait_with_jitter(request, 16_000))
    assert min(waits) >= 16_000
    assert max(waits) < 17_000
    assert len(waits) > 5
    assert wait_with_jitter(request, 0) == 0


def test_a_parked_read_answers_at_its_deadline_with_what_there_is():
    world = FaceWorld()
    request = world.request("GET", "/v1/x")
    park = answer(
        request, world.reader(), ReadOptions(index=5, wait_ms=0), Read((), lambda reader: 5, lambda reader: b"[]")
    )
    assert isinstance(park, Park)
    assert park.wait_ms == 0
    assert park.attempt(world.reader(), False) is None
    reply = park.attempt(world.reader(), True)
    assert isinstance(reply, Reply)
    assert reply.body == b"[]"


def test_a_parked_read_is_remembered_when_its_index_has_moved_and_not_when_its_wait_is_over():
    world = FaceWorld()
    index = 5
    request = world.request("GET", "/v1/x")
    park = answer(
        request,
        world.reader(),
        ReadOptions(index=5, wait_ms=1_000),
        Read((), lambda reader: index, lambda reader: b"[]"),
    )
    assert isinstance(park, Park)
    late = park.attempt(world.reader(), True)
    assert isinstance(late, Reply)
    assert late.view is None
    index = 6
    for expired in (False, True):
        moved = park.attempt(world.reader(), expired)
        assert isinstance(moved, Reply)
        assert moved.view is not None


def test_views_end_with_a_change_of_rights():
    world = FaceWorld()
    reply = world.verb("GET", "/v1/health/service/web")
    assert isinstance(reply, Reply)
    assert reply.view is not None
    assert ("access", "") in reply.view.interests  # type: ignore[attr-defined]


def test_others_with_the_same_words_wait_alike_until_something_changes():
    world = FaceWorld()
    park = world.verb("GET", "/v1/catalog/services?index=99&wait=16s")
    assert isinstance(park, Park)
    assert park.alike is not None
    assert park.alike.view.fresh
    assert 16_000 <= park.alike.wait_ms(world.request("GET", "/v1/catalog/services")) < 17_000
    cached = world.verb("GET", "/v1/catalog/services?index=99&wait=16s&cached")
    assert isinstance(cached, Park)
    assert cached.alike is None
