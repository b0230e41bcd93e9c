from __future__ import annotations

import json

import pytest
from native_world import World

from townhall.face.native.rendering import Rendering, join_instances, reply, view_of
from townhall.face.native.shapes import InstanceView
from townhall.model import limits
from townhall.model.errors import Denied
from townhall.model.instance import Instance, ServiceKey

WEB = ServiceKey("default", "default", "web")


def instance(number: int = 1) -> Instance:
    return Instance(key=WEB, id=f"w{number}", address="127.0.0.1", port=number, lease=number, claim="hidden")


def test_a_fragment_is_made_once_per_instance() -> None:
    rendering = Rendering()
    one, twin = instance(), instance()
    assert rendering.fragment(one) is rendering.fragment(one)
    assert rendering.fragment(one) == rendering.fragment(twin)
    assert rendering.fragment(one) is not rendering.fragment(twin)
    shown = json.loads(rendering.fragment(one))
    assert list(shown) == list(InstanceView.__struct_fields__)
    assert shown["lease"] == "1"
    assert b"hidden" not in rendering.fragment(one)
    assert view_of(Instance(key=WEB, id="p", address="127.0.0.1")).lease is None


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FRAGMENTS_CACHED_MAX", 3)
    monkeypatch.setattr(limits, "ANSWERS_CACHED_MAX", 2)
    world = World()
    rendering = Rendering()
    for number in range(1, 8):
        rendering.fragment(instance(number))
        world.register(f"s{number}", number)
        key = ServiceKey("default", "default", f"s{number}")
        rendering.instances(world.reader(), key, healthy=False)
        rendering.snapshot_event(world.reader(), key, healthy=False, identified=True)
    assert len(rendering._fragments) == 3
    assert len(rendering._answers) == 2
    assert len(rendering._events) == 2


def test_large_answers_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_CACHED_SIZE_MAX", 10)
    world = World()
    world.register()
    rendering = Rendering()
    first = rendering.instances(world.reader(), WEB, healthy=False)
    assert rendering.instances(world.reader(), WEB, healthy=False) == first
    rendering.snapshot_event(world.reader(), WEB, healthy=False, identified=False)
    assert not rendering._answers
    assert not rendering._events


def test_rights_are_asked_before_the_cache() -> None:
    from townhall.model.access import Actor

    world = World()
    world.register()
    rendering = Rendering()
    rendering.instances(world.reader(), WEB, healthy=False)
    stranger = world.reader(Actor(token_id="t", restricted=True))
    with pytest.raises(Denied):
        rendering.instances(stranger, WEB, healthy=False)
    with pytest.raises(Denied):
        rendering.change_event(stranger, WEB, 0, healthy=False, identified=True)


def test_join_and_reply() -> None:
    body = join_instances(ServiceKey("n", "g", 'a"b'), 7, [b"1", b"2"])
    assert json.loads(body) == {"service": 'a"b', "namespace": "n", "group": "g", "revision": 7, "instances": [1, 2]}
    answer = reply(World().reader(), {"a": 1}, 201, ((b"x", b"y"),))
    assert (answer.status, answer.headers) == (201, ((b"x-townhall-revision", b"0"), (b"x", b"y")))


def test_events_name_the_resume_point_last() -> None:
    world = World()
    world.register()
    rendering = Rendering()
    plain = rendering.snapshot_event(world.reader(), WEB, healthy=False, identified=False)
    assert rendering.snapshot_event(world.reader(), WEB, healthy=False, identified=True) == b"id: 1\n" + plain
    future = rendering.change_event(world.reader(), WEB, 99, healthy=False, identified=True)
    compacted, snapshot = future.split(b"id: 1\n")
    assert compacted.startswith(b"event: compacted\n")
    assert snapshot == plain
