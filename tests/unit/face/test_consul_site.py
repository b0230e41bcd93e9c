from __future__ import annotations

import re

from townhall.face.consul.site import CONSUL_VERSION, SERVER_PORT, Site


def test_the_node_has_a_stable_uuid():
    site = Site(node="a", datacenter="dc1")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", site.node_id)
    assert site.node_id == Site(node="a", datacenter="dc1").node_id != Site(node="b").node_id


def test_its_own_node_and_service():
    site = Site(node="a", address="127.0.0.5")
    assert site.own_node().address == "127.0.0.5"
    assert site.own_node().meta["consul-version"] == CONSUL_VERSION
    assert site.own_service().port == SERVER_PORT
    assert site.own_service().key.name == "consul"
