"""Consul's transactions on keys: verbs, order, and what is answered when one fails."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from consul_kv_world import ConsulWorld

from townhall.core.commands import OpenSession
from townhall.face import Submit
from townhall.face.consul import kv, txn


@pytest.fixture
def world() -> ConsulWorld:
    return ConsulWorld(kv.routes, txn.routes)


def op(verb: str, key: str, value: bytes = b"", **fields: Any) -> dict[str, Any]:
    return {"KV": {"Verb": verb, "Key": key, "Value": base64.b64encode(value).decode(), **fields}}


def run(world: ConsulWorld, *operations: Any, status: int = 200) -> Any:
    answer = world.call("PUT", "/v1/txn", list(operations))
    assert answer.status == status, answer.body
    return answer.json


def failed(world: ConsulWorld, *operations: Any) -> list[tuple[int, str]]:
    shown = run(world, *operations, status=409)
    assert shown["Results"] is None
    return [(error["OpIndex"], error["What"]) for error in shown["Errors"]]


def keys(world: ConsulWorld) -> list[str]:
    answer = world.call("GET", "/v1/kv/?keys")
    assert answer.status == 200
    return list(answer.json)


def index_of(world: ConsulWorld, key: str) -> int:
    return int(world.call("GET", f"/v1/kv/{key}").json[0]["ModifyIndex"])


def test_a_read_sees_the_write_before_it(world: ConsulWorld) -> None:
    shown = run(world, op("set", "t/a", b"hi", Flags=7), op("get", "t/a"))
    index = index_of(world, "t/a")
    entry = {"LockIndex": 0, "Key": "t/a", "Flags": 7, "Value": None, "CreateIndex": index, "ModifyIndex": index}
    assert shown == {"Results": [{"KV": entry}, {"KV": entry | {"Value": "aGk="}}], "Errors": None}


def test_all_or_nothing(world: ConsulWorld) -> None:
    run(world, op("set", "t/a", b"hi"))
    index = index_of(world, "t/a")
    what = f'failed index check for key "t/a", current modify index {index} != 1'
    assert failed(world, op("set", "t/b", b"hi"), op("check-index", "t/a", Index=1)) == [(1, what)]
    assert keys(world) == ["t/a"]


def test_what_only_reads_is_answered_with_an_index(world: ConsulWorld) -> None:
    run(world, op("set", "t/a", b"hi"))
    shown = run(world, op("get-tree", "t/"))
    assert [result["KV"]["Value"] for result in shown["Results"]] == ["aGk="]
    assert shown["Index"] >= 1
    assert shown["KnownLeader"] is True
    assert run(world)["Results"] == []
    assert run(world, {})["Results"] == []


def test_every_reason_to_fail(world: ConsulWorld) -> None:
    run(world, op("set", "t/a", b"hi"))
    assert failed(world, op("get", "none")) == [(0, 'key "none" doesn\'t exist')]
    assert failed(world, op("check-not-exists", "t/a")) == [(0, 'key "t/a" exists')]
    assert failed(world, op("cas", "t/a", b"x", Index=1)) == [(0, 'failed to set key "t/a", index is stale')]
    assert failed(world, op("cas", "t/a", b"x")) == [(0, 'failed to set key "t/a", index is stale')]
    assert failed(world, op("delete-cas", "t/a", Index=1)) == [(0, 'failed to delete key "t/a", index is stale')]
    assert failed(world, op("check-session", "t/a", Session="s")) == [
        (0, 'failed session check for key "t/a", current session "" != "s"')
    ]
    assert failed(world, op("lock", "t/a", Session="ghost")) == [(0, 'invalid session "ghost"')]
    assert failed(world, op("zap", "t/a")) == [(0, "unknown KV operation: zap")]
    both = failed(world, op("get", "none"), op("get", "t/a"), op("check-index", "none", Index=3))
    assert [at for at, _ in both] == [0, 2]


def test_conditions_that_hold(world: ConsulWorld) -> None:
    run(world, op("set", "t/a", b"hi"))
    index = index_of(world, "t/a")
    run(
        world, op("check-index", "t/a", Index=index), op("check-not-exists", "t/b"), op("cas", "t/a", b"2", Index=index)
    )
    assert world.call("GET", "/v1/kv/t/a?raw").body == b"2"
    run(world, op("cas", "t/new", b"1", Index=0))
    run(world, op("delete-cas", "t/a", Index=index_of(world, "t/a")), op("delete", "nobody"))
    assert keys(world) == ["t/new"]


def test_one_key_may_be_written_several_times(world: ConsulWorld) -> None:
    shown = run(world, op("set", "a", b"1"), op("set", "a", b"2"), op("delete", "b"), op("set", "b", b"3"))
    assert len(shown["Results"]) == 3
    assert world.call("GET", "/v1/kv/a?raw").body == b"2"
    run(world, op("set", "a", b"9"), op("delete", "a"))
    assert keys(world) == ["b"]


def test_a_tree_is_deleted_and_written_again_in_one(world: ConsulWorld) -> None:
    run(world, op("set", "t/a", b"1"), op("set", "t/b", b"2"))
    shown = run(world, op("delete-tree", "t/"), op("set", "t/b", b"new"), op("get-tree", "t/"))
    assert [result["KV"]["Key"] for result in shown["Results"]] == ["t/b", "t/b"]
    assert keys(world) == ["t/b"]
    assert run(world, op("delete-tree", "t/"))["Results"] == []
    assert keys(world) == []


def test_locks(world: ConsulWorld) -> None:
    one = world.run(OpenSession(node="n1")).result  # type: ignore[union-attr]
    two = world.run(OpenSession(node="n1")).result  # type: ignore[union-attr]
    shown = run(world, op("lock", "l", b"1", Session=one))
    assert shown["Results"][0]["KV"]["Session"] == one
    assert shown["Results"][0]["KV"]["LockIndex"] == 1
    run(world, op("check-session", "l", Session=one))
    assert failed(world, op("lock", "l", b"2", Session=two)) == [(0, 'failed to lock key "l", lock is already held')]
    assert failed(world, op("unlock", "l", Session=two)) == [
        (0, 'failed to unlock key "l", lock isn\'t held, or is held by another session')
    ]
    run(world, op("unlock", "l", b"3", Session=one))
    assert "Session" not in world.call("GET", "/v1/kv/l").json[0]


def test_a_change_in_between_makes_it_run_again(world: ConsulWorld) -> None:
    run(world, op("set", "n", b"1"))
    verb = world.verb("PUT", "/v1/txn", [op("get", "n"), op("set", "m", b"x")])
    assert isinstance(verb, Submit)
    world.call("PUT", "/v1/kv/n", b"2")
    reply = verb.render(world.reader(), [world.run(command) for command in verb.commands])
    assert isinstance(reply, Submit), "it looks again"
    final = world.finish(reply)
    assert base64.b64encode(b"2") in final.body
    assert keys(world) == ["m", "n"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "Failed to parse body: unexpected EOF"),
        ([op("set", "x") | {"KV": {"Verb": "set", "Key": "x", "Value": "!!"}}], 400,
         "Failed to parse body: illegal base64 data at input byte 0"),
        ([op("get", "x")] * 129, 413, "Transaction contains too many operations (129 > 128)"),
    ],
)  # fmt: skip
def test_bodies_that_cannot_be_run(world: ConsulWorld, body: Any, status: int, text: str) -> None:
    answer = world.call("PUT", "/v1/txn", body)
    assert (answer.status, answer.body.decode()) == (status, text)


def test_as_many_writes_as_operations_are_allowed(world: ConsulWorld) -> None:
    shown = run(world, *[op("set", f"t/{number}") for number in range(128)])
    assert len(shown["Results"]) == 128
