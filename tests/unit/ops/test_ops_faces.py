from __future__ import annotations

from townhall.ops.faces import FACES, built_faces
from townhall.ops.settings import Listen

USUAL = {
    "native": 7500,
    "consul": 8500,
    "dns": 8600,
    "etcd": 2379,
    "zookeeper": 2181,
    "eureka": 8761,
    "nacos": 8848,
    "xds": 18000,
}


def test_ports_are_those_of_the_contract():
    assert {row.name: row.port for row in FACES} == USUAL


def test_every_face_has_an_option():
    assert [*(row.name for row in FACES), "all"] == list(Listen.__struct_fields__)


def test_native_is_built():
    assert "native" in built_faces()
