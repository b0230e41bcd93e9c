from __future__ import annotations

from consul_world import FaceWorld

from townhall.core.commands import Register
from townhall.face.consul.picture import Picture, instance_name, service_key
from townhall.face.consul.site import Site
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.instance import ServiceKey

SITE = Site(node="n1")


def test_ids_of_other_nodes_carry_their_name():
    assert instance_name(SITE, "n1", "web") == "web"
    assert instance_name(SITE, "ext", "web") == "ext/web"


def test_the_servers_own_node_is_always_there():
    world, picture = FaceWorld(), Picture(SITE)
    assert picture.node(world.reader(), "") is picture.own_node
    assert picture.node(world.reader(), "ghost") is None
    assert [node.name for node in picture.nodes(world.reader())] == ["n1"]


def test_a_service_is_found_by_its_id_on_a_node():
    world, picture = FaceWorld(), Picture(SITE)
    world.service("web", "x")
    world.external("ext", Service={"Service": "web", "ID": "x"})
    assert picture.find(world.reader(), "n1", "x").id == "x"
    assert picture.find(world.reader(), "ext", "x").id == "ext/x"
    assert picture.find(world.reader(), "ext", "y") is None
    world.run(Register(key=service_key("nat"), id="n-1", address="127.0.0.2", port=1))
    assert picture.find(world.reader(), "n1", "n-1") is None
    assert picture.find_shown(world.reader(), "n-1").id == "n-1"


def test_groups_that_consul_has_no_word_for_are_not_shown():
    world, picture = FaceWorld(), Picture(SITE)
    world.run(Register(key=ServiceKey("default", "blue", "web"), id="b", address="127.0.0.2", port=1, node="n1"))
    assert picture.names(world.reader()) == []
    assert picture.on_node(world.reader(), "n1") == []


def test_capitals_do_not_matter_in_lookups():
    world, picture = FaceWorld(), Picture(SITE)
    world.service("web")
    assert picture.spelled(world.reader(), "WEB") == "web"
    assert picture.spelled(world.reader(), "Api") == "Api"


def test_who_may_not_see_a_node_is_not_told_of_what_is_on_it():
    world, picture = FaceWorld(), Picture(SITE)
    world.external("ext", Service={"Service": "web"})
    actor = Actor(rules=(Rule(Resource.SERVICE, Level.READ),), restricted=True)
    assert picture.node(world.reader(actor), "ext") is None
