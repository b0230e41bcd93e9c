"""Definitions of prepared queries as other readers than the HTTP handlers use them."""

from __future__ import annotations

import pytest
from consul_kv_world import SITE, ConsulWorld

from townhall.core.commands import Transact
from townhall.face.consul import queries
from townhall.face.consul.bodies import Body
from townhall.face.consul.picture import Picture
from townhall.face.consul.query_definitions import SPACE, by_id, definition_of, dns_ttl_s, every, find, run
from townhall.model.keys import Put, Transaction


@pytest.mark.parametrize(("ttl", "seconds"), [("", None), ("10s", 10), ("1m", 60), ("500ms", 0)])
def test_the_time_to_live_of_answers(ttl: str, seconds: int | None) -> None:
    definition = definition_of(Body({"Name": "q", "Service": {"Service": "s"}, "DNS": {"TTL": ttl}}, None))
    assert dns_ttl_s(definition) == seconds


def test_finding_by_id_and_name() -> None:
    world = ConsulWorld(queries.routes)
    made = world.call("POST", "/v1/query", {"Name": "q", "Service": {"Service": "consul"}}).json["ID"]
    found = find(world.reader(), "q")
    assert found is not None
    assert found == by_id(world.reader(), made) == find(world.reader(), made)
    assert find(world.reader(), "") is None
    assert find(world.reader(), "other") is None
    assert [one.id for one in run(world.reader(), Picture(SITE), found.definition)] == ["consul"]


def test_what_others_wrote_into_the_space_is_no_query() -> None:
    world = ConsulWorld(queries.routes)
    for value in (b"\xff", b"{}", b'{"Session": "x"}', b'{"Session": ""}'):
        world.run(Transact(space=SPACE, transaction=Transaction(success=(Put(b"id/x", value),))))
        assert list(every(world.reader())) == []
        assert find(world.reader(), "x") is None
