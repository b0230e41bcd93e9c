"""Consul's transactions on nodes, services and checks: verbs, order, one commit, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from consul_world import FaceWorld

from townhall.core.commands import BootstrapAccess, Together
from townhall.face import Submit
from townhall.face.consul import permission, txn_catalogue


@pytest.fixture
def world() -> FaceWorld:
    return FaceWorld()


def node(verb: str, name: str = "tx", **fields: Any) -> dict[str, Any]:
    return {"Node": {"Verb": verb, "Node": {"Node": name, "Address": "127.0.0.8", **fields}}}


def service(verb: str, id_: str = "s", on: str = "tx", **fields: Any) -> dict[str, Any]:
    return {"Service": {"Verb": verb, "Node": on, "Service": {"ID": id_, "Service": "txsvc", **fields}}}


def check(verb: str, id_: str = "c", on: str = "tx", **fields: Any) -> dict[str, Any]:
    return {"Check": {"Verb": verb, "Check": {"Node": on, "CheckID": id_, "Name": id_, **fields}}}


def key(verb: str, name: str = "k", **fields: Any) -> dict[str, Any]:
    return {"KV": {"Verb": verb, "Key": name, "Value": "aGk=", **fields}}


def run(world: FaceWorld, *operations: Any, status: int = 200, **headers: str) -> Any:
    answer = world.call("PUT", "/v1/txn", list(operations), **headers)
    assert answer.status == status, answer.body
    return answer.json["Results"] if status == 200 else [(one["OpIndex"], one["What"]) for one in answer.json["Errors"]]


FULL = (node("set", Address="127.1.2.50"), service("set", Port=9), check("set", Status="passing", ServiceID="s"))


def test_a_node_with_its_service_and_check_in_one_commit(world: FaceWorld) -> None:
    before = world.state.position
    shown = run(world, *FULL, key("set"))
    assert world.state.position == before + 1
    assert [next(iter(one)) for one in shown] == ["Node", "Service", "Check", "KV"]
    assert (shown[0]["Node"]["Address"], shown[0]["Node"]["Meta"]) == ("127.1.2.50", None)
    assert (shown[1]["Service"]["Port"], shown[1]["Service"]["Tags"]) == (9, None)
    assert (shown[2]["Check"]["ServiceName"], shown[2]["Check"]["Status"]) == ("txsvc", "passing")
    assert {one[kind]["ModifyIndex"] for one, kind in zip(shown, ("Node", "Service", "Check"), strict=False)} == {
        before + 2
    }
    assert world.healthy("txsvc") == ["s"]
    assert world.get("/v1/health/service/txsvc")[0]["Checks"][0]["CheckID"] == "c"


def test_what_is_read_sees_what_was_written(world: FaceWorld) -> None:
    shown = run(world, *FULL, node("get"), service("get"), check("get"))
    assert shown[3:] == shown[:3]
    answer = world.call("PUT", "/v1/txn", [service("get")])
    assert answer.json["Results"] == [shown[1]]
    assert answer.json["Index"] == world.state.position + 1


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        (node("get", "ghost"), 'node "ghost" doesn\'t exist'),
        (service("get", "ghost"), 'service "ghost" on node "tx" doesn\'t exist'),
        (check("get", "ghost"), 'check "ghost" on node "tx" doesn\'t exist'),
        (node("cas", ModifyIndex=99), 'failed to set node "tx", index is stale'),
        (node("cas"), 'failed to set node "tx", index is stale'),
        (node("cas", "new", ModifyIndex=9), 'failed to set node "new", index is stale'),
        (node("delete-cas", ModifyIndex=99), 'failed to delete node "tx", index is stale'),
        (node("delete-cas", "ghost"), 'failed to delete node "ghost", index is stale'),
        (service("cas", ModifyIndex=99), 'failed to set service "s" on node "tx", index is stale'),
        (service("delete-cas", ModifyIndex=99), 'failed to delete service "s" on node "tx", index is stale'),
        (check("cas", ModifyIndex=99), 'failed to set check "c" on node "tx", index is stale'),
        (check("delete-cas", ModifyIndex=99), 'failed to delete check "c" on node "tx", index is stale'),
        (node("zap"), "unknown node operation: zap"),
        (service("zap"), "unknown service operation: zap"),
        (check("zap"), "unknown check operation: zap"),
        (node("set", ""), "Must provide node"),
        (node("set", ID="short"), "Bad node ID: uuid string is wrong length"),
        (node("delete", "n1"), "the server's own node stays"),
        (service("set", on="ghost"), "Missing node registration"),
        (check("set", on="ghost"), "Missing node registration"),
        (check("set", ServiceID="ghost"), "Missing service registration"),
        (check("set", Status="meh"), "Invalid check status: 'meh'"),
        ({"Service": {"Verb": "set", "Node": "tx", "Service": {"ID": "x"}}},
         "Must provide service name (Service.Service) when service ID is provided"),
    ],
)  # fmt: skip
def test_what_fails_takes_all_with_it(world: FaceWorld, operation: Any, what: str) -> None:
    run(world, *FULL)
    before = world.state.position
    assert run(world, key("set", "other"), operation, status=409) == [(1, what)]
    assert world.state.position == before


def test_compare_and_set(world: FaceWorld) -> None:
    made = run(world, node("cas"), service("cas"), check("cas", ServiceID="s", Status="passing"))
    indexes = [made[0]["Node"]["ModifyIndex"], made[1]["Service"]["ModifyIndex"], made[2]["Check"]["ModifyIndex"]]
    again = run(
        world, node("cas", ModifyIndex=indexes[0], Meta={"a": "b"}), service("cas", ModifyIndex=indexes[1], Port=7),
        check("cas", ModifyIndex=indexes[2], ServiceID="s", Status="warning"),
    )  # fmt: skip
    assert (again[0]["Node"]["Meta"], again[1]["Service"]["Port"], again[2]["Check"]["Status"]) == (
        {"a": "b"},
        7,
        "warning",
    )
    gone = [
        check("delete-cas", ModifyIndex=again[2]["Check"]["ModifyIndex"]),
        service("delete-cas", ModifyIndex=again[1]["Service"]["ModifyIndex"]),
        node("delete-cas", ModifyIndex=again[0]["Node"]["ModifyIndex"]),
    ]
    assert run(world, *gone) == []
    assert (dict(world.state.nodes), dict(world.state.checks), world.state.services) == ({}, {}, {})


def test_ends_take_along_what_was_put_before_them(world: FaceWorld) -> None:
    run(world, *FULL)
    run(world, service("set", "t"), node("delete"))
    assert world.state.services == {}
    run(world, *FULL)
    run(world, node("delete"), node("set", Address="127.0.0.9"))
    assert (list(world.state.nodes), world.state.services, dict(world.state.checks)) == (["tx"], {}, {})
    assert world.state.nodes["tx"].address == "127.0.0.9"
    run(world, service("set", "t"), check("set", ServiceID="t"), service("delete", "t"))
    assert (world.state.services, dict(world.state.checks)) == ({}, {})
    run(world, service("delete", "nothing"), check("delete", "nothing"), node("delete", "nothing"))


def test_a_service_under_another_name_takes_the_place(world: FaceWorld) -> None:
    run(world, *FULL)
    run(world, service("set", Service="renamed"))
    assert [key.name for key in world.state.services] == ["renamed"]


def test_a_check_moves_with_its_service(world: FaceWorld) -> None:
    run(world, *FULL)
    run(world, service("set", Port=10), check("delete"), check("set", "d", ServiceID="s", Status="critical"))
    assert [id_ for _, id_ in world.state.checks] == ["d"]
    assert world.healthy("txsvc") == []


def test_go_sends_weights_of_nothing(world: FaceWorld) -> None:
    run(world, node("set"), service("set", Weights={"Passing": 0, "Warning": 0}))
    assert world.get("/v1/catalog/service/txsvc")[0]["ServiceWeights"] == {"Passing": 1, "Warning": 1}


def test_a_node_is_found_by_its_id(world: FaceWorld) -> None:
    id_ = "0123abcd-0000-4000-8000-000000000001"
    run(world, node("set", ID=id_))
    assert run(world, {"Node": {"Verb": "get", "Node": {"ID": id_}}})[0]["Node"]["Node"] == "tx"
    assert run(world, node("set", "n1"))[0]["Node"]["Node"] == "n1", "the server's own stays what it is"


def test_what_was_looked_at_must_still_be_so(world: FaceWorld) -> None:
    run(world, *FULL)
    verb = world.verb("PUT", "/v1/txn", [node("get"), key("set")])
    assert isinstance(verb, Submit)
    run(world, node("set", Address="127.0.0.77"))
    command = verb.commands[0]
    assert isinstance(command, Together)
    assert command.expected
    outcome = world.run(command)
    again = verb.render(world.reader(), [outcome])
    assert isinstance(again, Submit), "it is run again over what is there now"


def test_rights(world: FaceWorld) -> None:
    run(world, *FULL)
    management = str(world.run(BootstrapAccess()).result[1])  # type: ignore[union-attr, index]
    errors = run(world, *FULL, status=409)
    assert [index for index, _ in errors] == [0, 1, 2]
    assert errors[0][1] == (
        "Permission denied: token with AccessorID '00000000-0000-0000-0000-000000000002' lacks permission 'node:write' "
        'on "tx"'
    )
    answer = world.call("PUT", "/v1/txn", [service("get"), node("get")])
    assert (answer.json["Results"], answer.json["ResultsFilteredByACLs"]) == ([], True)
    assert len(run(world, service("get"), node("get"), x_consul_token=management)) == 2


def test_names() -> None:
    assert txn_catalogue.KINDS == ("Node", "Service", "Check")
    assert permission.__all__ == ["lacks"]
