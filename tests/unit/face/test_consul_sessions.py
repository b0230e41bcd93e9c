"""Consul's sessions: what a body may ask for, how they are shown, and how they end."""

from __future__ import annotations

from typing import Any

import pytest
from consul_kv_world import ConsulWorld

from townhall.core.commands import PutCheck, PutNode, SetCheck
from townhall.face import Park, Submit
from townhall.face.consul import kv, sessions
from townhall.model.check import CheckStatus
from townhall.model.errors import TownhallError


@pytest.fixture
def world() -> ConsulWorld:
    return ConsulWorld(kv.routes, sessions.routes)


def create(world: ConsulWorld, **fields: Any) -> str:
    answer = world.call("PUT", "/v1/session/create", fields)
    assert answer.status == 200, answer.body
    assert set(answer.json) == {"ID"}
    return str(answer.json["ID"])


def test_a_session_is_shown_as_consul_shows_it(world: ConsulWorld) -> None:
    name = create(world, Name="s1", TTL="30s", LockDelay="1s")
    (shown,) = world.call("GET", f"/v1/session/info/{name}").json
    index = shown["CreateIndex"]
    assert shown == {
        "ID": name, "Name": "s1", "Node": "n1", "LockDelay": 1_000_000_000, "Behavior": "release", "TTL": "30s",
        "NodeChecks": ["serfHealth"], "ServiceChecks": None, "CreateIndex": index, "ModifyIndex": index,
    }  # fmt: skip
    assert index >= 1


def test_defaults_and_what_an_empty_body_means(world: ConsulWorld) -> None:
    answer = world.call("PUT", "/v1/session/create")
    (shown,) = world.call("GET", f"/v1/session/info/{answer.json['ID']}").json
    assert (shown["TTL"], shown["LockDelay"], shown["Behavior"]) == ("", 15_000_000_000, "release")


@pytest.mark.parametrize(("given", "seconds"), [(5, 5), ("5s", 5), (7_000_000_000, 7), ("90s", 60), (0, 0), ("1m", 60)])
def test_the_lock_delay_in_all_its_forms(world: ConsulWorld, given: object, seconds: int) -> None:
    name = create(world, LockDelay=given)
    assert world.call("GET", f"/v1/session/info/{name}").json[0]["LockDelay"] == seconds * 1_000_000_000


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"TTL": "1s"}, "Invalid Session TTL '1000000000', must be between [10s=24h0m0s]"),
        ({"TTL": "48h"}, "Invalid Session TTL '172800000000000', must be between [10s=24h0m0s]"),
        ({"TTL": "x"}, "Session TTL 'x' invalid: time: invalid duration \"x\""),
        ({"Behavior": "explode"}, "Invalid Behavior setting 'explode'"),
        ({"Checks": ["ghost"]}, "apply failed: Missing check 'ghost' registration"),
        ({"Node": "ghost"}, "apply failed: Missing node registration"),
    ],
)
def test_refusals(world: ConsulWorld, fields: dict[str, Any], text: str) -> None:
    answer = world.call("PUT", "/v1/session/create", fields)
    assert (answer.status, answer.body.decode()) == (400, text)


def test_broken_json_and_missing_names(world: ConsulWorld) -> None:
    assert world.call("PUT", "/v1/session/create", b"{").body == b"Request decode failed: unexpected EOF"
    assert world.call("PUT", "/v1/session/destroy/").body == b"Missing session"
    assert world.call("GET", "/v1/session/renew/x").status == 405


def test_a_node_that_was_registered_may_have_sessions(world: ConsulWorld) -> None:
    world.run(PutNode(name="ext-1", address="127.0.0.9"))
    name = create(world, Node="ext-1", NodeChecks=[])
    assert [one["ID"] for one in world.call("GET", "/v1/session/node/ext-1").json] == [name]
    assert world.call("GET", "/v1/session/node/ghost").json == []
    assert len(world.call("GET", "/v1/session/list").json) == 1


def test_a_critical_check_keeps_a_session_from_being_opened(world: ConsulWorld) -> None:
    world.run(PutNode(name="n1", address="127.0.0.1"))
    world.run(PutCheck(node="n1", id="disk", status=CheckStatus.CRITICAL))
    answer = world.call("PUT", "/v1/session/create", {"Checks": ["disk"]})
    assert answer.body == b"apply failed: Check 'disk' is in critical state"
    world.run(PutCheck(node="n1", id="disk", status=CheckStatus.PASSING))
    create(world, Checks=["disk"])


def test_a_session_ends_with_a_check_that_it_names(world: ConsulWorld) -> None:
    world.run(PutNode(name="n1", address="127.0.0.1"))
    world.run(PutCheck(node="n1", id="disk", status=CheckStatus.PASSING))
    both = create(world, NodeChecks=["serfHealth", "disk", "disk"], ServiceChecks=[{"ID": "disk"}])
    other = create(world)
    assert world.call("PUT", f"/v1/kv/l?acquire={both}", b"v").json is True
    world.run(SetCheck(node="n1", id="disk", status=CheckStatus.CRITICAL))
    assert [one["ID"] for one in world.call("GET", "/v1/session/list").json] == [other]
    assert "Session" not in world.call("GET", "/v1/kv/l").json[0]
    assert world.call("PUT", f"/v1/kv/l?acquire={other}", b"v").json is False, "the lock delay holds"
    world.now += 15_000
    assert world.call("PUT", f"/v1/kv/l?acquire={other}", b"v").json is True


def test_a_check_that_fails_while_a_session_is_opened(world: ConsulWorld) -> None:
    world.run(PutCheck(node="n1", id="disk", status=CheckStatus.PASSING))
    verb = world.verb("PUT", "/v1/session/create", {"NodeChecks": ["disk"]})
    assert isinstance(verb, Submit)
    world.run(SetCheck(node="n1", id="disk", status=CheckStatus.CRITICAL))
    with pytest.raises(TownhallError, match="Check 'disk' is in critical state"):
        verb.render(world.reader(), [world.run(verb.commands[0])])


def test_an_unknown_session_is_an_empty_list_and_cannot_be_renewed(world: ConsulWorld) -> None:
    assert world.call("GET", "/v1/session/info/xyz").json == []
    answer = world.call("PUT", "/v1/session/renew/xyz")
    assert (answer.status, answer.body) == (404, b"Session id 'xyz' not found")
    assert world.call("PUT", "/v1/session/destroy/xyz").json is True


def test_a_renewal_moves_the_deadline_of_its_lease(world: ConsulWorld) -> None:
    name = create(world, TTL="10s")
    (lease,) = world.state.leases
    world.now += 5_000
    assert world.call("PUT", f"/v1/session/renew/{name}").json[0]["ID"] == name
    assert world.deadlines[lease] == world.now + 10_000


def test_ending_with_behaviour_delete_takes_the_keys_along(world: ConsulWorld) -> None:
    name = create(world, Behavior="delete", LockDelay=0)
    assert world.call("PUT", f"/v1/kv/l?acquire={name}", b"v").json is True
    assert world.call("PUT", f"/v1/session/destroy/{name}").json is True
    assert world.call("GET", "/v1/kv/l").status == 404


def test_a_blocking_read_of_sessions_wakes_for_them_only(world: ConsulWorld) -> None:
    create(world)
    index = world.call("GET", "/v1/session/list").headers["X-Consul-Index"]
    verb = world.verb("GET", f"/v1/session/list?index={index}")
    assert isinstance(verb, Park)
    world.call("PUT", "/v1/kv/a", b"v")
    assert verb.attempt(world.reader(), False) is None
    create(world)
    assert verb.attempt(world.reader(), False) is not None
