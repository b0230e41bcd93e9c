"""Prepared queries: keeping, names, templates, and what they find."""

from __future__ import annotations

from typing import Any

import pytest
from consul_kv_world import ConsulWorld

from townhall.core.commands import OpenSession, PutCheck, PutNode, Register
from townhall.face.consul import queries
from townhall.face.consul.query_templates import filled
from townhall.model.check import CheckStatus
from townhall.model.instance import ServiceKey


@pytest.fixture
def world() -> ConsulWorld:
    world = ConsulWorld(queries.routes)
    key = ServiceKey("default", "default", "db")
    world.run(PutNode(name="n1", address="127.0.0.1"))
    for name, tag, status in (
        ("db-1", "primary", CheckStatus.PASSING),
        ("db-2", "replica", CheckStatus.PASSING),
        ("db-3", "primary", CheckStatus.WARNING),
        ("db-4", "primary", CheckStatus.CRITICAL),
    ):
        check = PutCheck(node="n1", id=f"service:{name}", status=status)
        outcome = world.run(
            Register(
                key=key, id=name, address="127.0.0.1", port=5432, tags=(tag,), metadata={"k": name}, persistent=True,
                protocol="consul", node="n1", checks=(check,),
            )
        )  # fmt: skip
        assert not isinstance(outcome, Exception), outcome
    return world


def create(world: ConsulWorld, **fields: Any) -> str:
    answer = world.call("POST", "/v1/query", fields)
    assert answer.status == 200, answer.body
    return str(answer.json["ID"])


def found(world: ConsulWorld, name: str, query: str = "") -> list[str]:
    answer = world.call("GET", f"/v1/query/{name}/execute{query}")
    assert answer.status == 200, answer.body
    return sorted(node["Service"]["ID"] for node in answer.json["Nodes"])


def test_a_query_is_shown_as_consul_shows_it(world: ConsulWorld) -> None:
    query = create(world, Name="q", Service={"Service": "db", "Tags": ["!replica"]}, DNS={"TTL": "10s"})
    (shown,) = world.call("GET", f"/v1/query/{query}").json
    index = shown["CreateIndex"]
    assert shown == {
        "ID": query, "Name": "q", "Session": "", "Token": "",
        "Template": {"Type": "", "Regexp": "", "RemoveEmptyTags": False},
        "Service": {
            "Service": "db", "SamenessGroup": "", "Failover": {"NearestN": 0, "Datacenters": None, "Targets": None},
            "OnlyPassing": False, "IgnoreCheckIDs": None, "Near": "", "Tags": ["!replica"], "NodeMeta": None,
            "ServiceMeta": None, "Connect": False, "Peer": "",
        },
        "DNS": {"TTL": "10s"}, "CreateIndex": index, "ModifyIndex": index,
    }  # fmt: skip
    assert world.call("GET", "/v1/query").json == [shown]


def test_what_a_query_finds(world: ConsulWorld) -> None:
    create(world, Name="q", Service={"Service": "db"})
    assert found(world, "q") == ["db-1", "db-2", "db-3"]
    assert len(found(world, "q", "?limit=1")) == 1
    create(world, Name="passing", Service={"Service": "db", "OnlyPassing": True})
    assert found(world, "passing") == ["db-1", "db-2"]
    create(world, Name="tagged", Service={"Service": "db", "Tags": ["Primary"]})
    assert found(world, "tagged") == ["db-1", "db-3"]
    create(world, Name="not", Service={"Service": "db", "Tags": ["!replica"]})
    assert found(world, "not") == ["db-1", "db-3"]
    create(world, Name="ignoring", Service={"Service": "db", "IgnoreCheckIDs": ["service:db-4"]})
    assert len(found(world, "ignoring")) == 4
    create(world, Name="meta", Service={"Service": "db", "ServiceMeta": {"k": "db-2"}})
    assert found(world, "meta") == ["db-2"]
    create(world, Name="empty", Service={"Service": "nothing", "Failover": {"Datacenters": ["dc9"]}})
    assert found(world, "empty") == []


def test_the_shape_of_an_execution(world: ConsulWorld) -> None:
    create(world, Name="q", Service={"Service": "db"}, DNS={"TTL": "10s"})
    answer = world.call("GET", "/v1/query/q/execute?limit=1")
    shown = answer.json
    assert answer.reply.view is None, "each execution looks anew"
    assert set(shown["Nodes"][0]) == {"Node", "Service", "Checks"}
    del shown["Nodes"]
    assert shown == {
        "Service": "db", "DNS": {"TTL": "10s"}, "Datacenter": "dc1", "PeerName": "", "Failovers": 0, "Index": 1,
        "LastContact": 0, "KnownLeader": True, "ConsistencyLevel": "leader", "NotModified": False, "Backend": 0,
        "ResultsFilteredByACLs": False,
    }  # fmt: skip


def test_a_name_is_taken_once_until_it_is_given_up(world: ConsulWorld) -> None:
    query = create(world, Name="q", Service={"Service": "db"})
    answer = world.call("POST", "/v1/query", {"Name": "q", "Service": {"Service": "db"}})
    assert (answer.status, answer.body) == (400, b"raft apply failed: name 'q' aliases an existing query name")
    answer = world.call("PUT", f"/v1/query/{query}", {"Name": "other", "Service": {"Service": "db"}})
    assert (answer.status, answer.body) == (200, b"")
    assert world.call("GET", "/v1/query/q/execute").status == 404
    assert found(world, "other") == found(world, query)
    create(world, Name="q", Service={"Service": "db"})
    assert world.call("DELETE", f"/v1/query/{query}").status == 200
    again = world.call("DELETE", f"/v1/query/{query}")
    assert again.body.decode() == f"Cannot modify non-existent prepared query: '{query}'"
    create(world, Name="other", Service={"Service": "db"})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Name": "x"}, "Invalid prepared query: Must provide a Service name to query"),
        ({"Service": {"Service": "db"}}, "Invalid prepared query: Must be bound to a session"),
        ({"Name": "y", "Service": {"Service": "db"}, "DNS": {"TTL": "x"}},
         "Invalid prepared query: Bad DNS TTL 'x': time: invalid duration \"x\""),
        ({"Name": "y", "Service": {"Service": "db", "Failover": {"NearestN": -1}}},
         "Invalid prepared query: Bad NearestN '-1', must be >= 0"),
        ({"Name": "y", "Service": {"Service": "db"}, "Session": "ghost"},
         'raft apply failed: invalid session "ghost"'),
        ({"Name": "y", "Service": {"Service": "db"}, "Template": {"Type": "other"}},
         "Invalid prepared query: Bad Template: unknown Template.Type 'other'"),
        ({"Name": "y", "Service": {"Service": "db"}, "Template": {"Type": "name_prefix_match", "Regexp": "(a+)+b"}},
         "Invalid prepared query: Bad Regexp: too many repetitions for a match that is sure to be quick"),
    ],
)  # fmt: skip
def test_refusals(world: ConsulWorld, body: dict[str, Any], text: str) -> None:
    answer = world.call("POST", "/v1/query", body)
    assert (answer.status, answer.body.decode()) == (400, text)


def test_misses(world: ConsulWorld) -> None:
    missing = "00000000-0000-0000-0000-000000000009"
    assert world.call("GET", f"/v1/query/{missing}").body == b"Query not found"
    assert world.call("GET", "/v1/query/none/execute").status == 404
    assert world.call("GET", "/v1/query/none/explain").status == 404
    assert world.call("GET", "/v1/query/xyz").status == 400
    assert world.call("GET", "/v1/query/q/execute?limit=x").body.startswith(b"Bad limit")


def test_templates_serve_all_names_with_their_beginning(world: ConsulWorld) -> None:
    template = {"Type": "name_prefix_match"}
    create(world, Name="t-", Template=template, Service={"Service": "${name.suffix}"})
    create(world, Name="t-db-", Template=template, Service={"Service": "db", "Tags": ["${name.suffix}"]})
    assert found(world, "t-db") == ["db-1", "db-2", "db-3"]
    assert found(world, "t-db-replica") == ["db-2"], "the longest beginning counts"
    shown = world.call("GET", "/v1/query/t-db/explain").json["Query"]
    assert (shown["Name"], shown["Service"]["Service"]) == ("t-", "db")


def test_templates_with_groups() -> None:
    definition = {
        "Name": "geo-",
        "Template": {"Type": "name_prefix_match", "Regexp": "^geo-(.*?)-([^-]+?)$", "RemoveEmptyTags": True},
        "Service": {"Service": "mysql-${match(1)}", "Tags": ["${match(2)}", "${match(9)}"]},
    }
    service = filled(definition, "geo-customer-primary")["Service"]
    assert service == {"Service": "mysql-customer", "Tags": ["primary"]}


def test_a_query_of_a_session_goes_with_it(world: ConsulWorld) -> None:
    session = world.run(OpenSession(node="n1")).result  # type: ignore[union-attr]
    query = create(world, Session=session, Service={"Service": "db"})
    assert found(world, query) == ["db-1", "db-2", "db-3"]
    world.state.sessions.pop(session)
    assert world.call("GET", f"/v1/query/{query}/execute").status == 404
    assert world.call("GET", "/v1/query").json == []
