from __future__ import annotations

import pytest
from native_world import World

from townhall.face.native import NativeFace
from townhall.face.native.registry import Registry
from townhall.face.routing import Router


@pytest.fixture
def world() -> World:
    return World()


def test_status_tells_version_counts_and_floor(world: World) -> None:
    for port in (1, 2, 3):
        world.register(port=port)
    shown = world.send("GET", "/status").json
    assert shown["version"] == "1.2.3"
    assert shown["engine"] == "ok"
    assert shown["floor"]["callable"] == 3


def test_liveness_and_readiness(world: World) -> None:
    for target in ("//livez", "/livez", "//readyz", "/readyz"):
        answer = world.send("GET", target)
        assert (answer.status, answer.body) == (200, b"ok\n")
    world.shown["engine"] = "full"
    full = world.send("GET", "//readyz")
    assert full.status == 503
    assert b"disk is full" in full.body
    world.shown |= {"engine": "failed", "engine_error": "no such device"}
    assert b"no such device" in world.send("GET", "//readyz").body
    world.shown |= {"engine": "ok", "ready": False}
    assert world.send("GET", "//readyz").status == 503
    assert world.send("GET", "//livez").status == 200


def test_version(world: World) -> None:
    assert world.send("GET", "/version").json == {"name": "townhall", "version": "1.2.3", "protocol": "native/1"}


def test_metrics_are_at_both_places(world: World) -> None:
    for target in ("//metrics", "/metrics"):
        answer = world.send("GET", target)
        assert answer.reply.content_type.startswith(b"text/plain; version=0.0.4")
        assert b"townhall_instances 0\n" in answer.body
        assert b"townhall_floor_engaged 0\n" in answer.body


def test_the_document_and_its_page(world: World) -> None:
    document = world.send("GET", "//openapi.json")
    assert document.json["openapi"] == "3.1.0"
    assert document.body is world.send("GET", "/openapi.json").body
    page = world.send("GET", "//docs")
    assert page.reply.content_type.startswith(b"text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_welcome_shows_how_to_try_it(world: World) -> None:
    text = world.send("GET", "//", host="127.0.0.1:7501").body.decode()
    assert "curl http://127.0.0.1:7501/api/v1/services/web/instances" in text
    assert "<" not in world.send("GET", "//", host='a"><script>').body.decode()
    assert world.send("GET", "//?x=1").status == 400
    world.face = NativeFace("1.2.3", secure=True)
    world.router = Router(world.face.routes)
    text = world.send("GET", "//", host="127.0.0.1:7501").body.decode()
    assert "curl https://127.0.0.1:7501/api/v1/services/web/instances" in text
    assert "http://" not in text


def test_document_and_page_are_made_when_asked_for() -> None:
    def never() -> bytes:
        raise AssertionError("nobody asked for it")

    assert {one.tag for one in Registry("1", never, never).operations()} == {"registry"}
