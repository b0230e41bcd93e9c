from __future__ import annotations

import json

from consul_world import FaceWorld

from townhall.face.consul.picture import Picture, service_key
from townhall.face.consul.rendering import Rendering, array
from townhall.face.consul.site import Site
from townhall.model import limits
from townhall.model.access import Actor


def test_fragments_are_made_once():
    world, rendering = FaceWorld(), Rendering(Picture(Site(node="n1")))
    world.service()
    instance = world.reader().instance(service_key("web"), "web")
    assert rendering.service(instance) is rendering.service(instance)
    row = rendering.health_row(world.reader(), instance, passing=True)
    assert json.loads(row)["Checks"][0]["CheckID"] == "serfHealth"
    assert rendering.catalog_row(rendering.picture.own_node, instance).startswith(b"{")
    assert json.loads(array([b"1", b"2"])) == [1, 2]


def test_answers_are_kept_until_their_index_moves(monkeypatch):
    world, rendering = FaceWorld(), Rendering(Picture(Site(node="n1")))
    made = []

    def make() -> bytes:
        made.append(1)
        return b"[]"

    for index in (1, 1, 2):
        rendering.answer(world.reader(), "x", index, make)
    assert len(made) == 2
    monkeypatch.setattr(limits, "ANSWERS_CACHED_MAX", 1)
    rendering.answer(world.reader(), "y", 1, make)
    rendering.answer(world.reader(), "x", 2, make)
    assert len(made) == 4


def test_an_actor_with_rules_gets_answers_of_its_own():
    world, rendering = FaceWorld(), Rendering(Picture(Site(node="n1")))
    rendering.answer(world.reader(), "x", 1, lambda: b"all")
    assert rendering.answer(world.reader(Actor(restricted=True)), "x", 1, lambda: b"some") == b"some"
