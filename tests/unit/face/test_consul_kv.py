"""Consul's keys: every parameter, locks, indexes and blocking."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from consul_kv_world import ConsulWorld

from townhall.core.commands import CloseSession, OpenSession
from townhall.face import Park, Submit
from townhall.face.consul import kv


@pytest.fixture
def world() -> ConsulWorld:
    return ConsulWorld(kv.routes)


def put(world: ConsulWorld, target: str, value: bytes = b"v") -> Any:
    answer = world.call("PUT", f"/v1/kv/{target}", value)
    assert answer.status == 200, answer.body
    return answer.json


def get(world: ConsulWorld, target: str) -> Any:
    answer = world.call("GET", f"/v1/kv/{target}")
    assert answer.status == 200, answer.body
    return answer.json


def session(world: ConsulWorld, **fields: Any) -> str:
    outcome = world.run(OpenSession(node="n1", **fields))
    return str(outcome.result)  # type: ignore[union-attr]


def test_a_missing_key_is_404_without_body_but_with_an_index(world: ConsulWorld) -> None:
    answer = world.call("GET", "/v1/kv/none")
    assert (answer.status, answer.body) == (404, b"")
    assert int(answer.headers["X-Consul-Index"]) >= 1


def test_what_is_put_is_shown_as_consul_shows_it(world: ConsulWorld) -> None:
    assert put(world, "app/a?flags=42", b"hello") is True
    answer = world.call("GET", "/v1/kv/app/a")
    (entry,) = answer.json
    index = entry["ModifyIndex"]
    assert entry == {
        "LockIndex": 0, "Key": "app/a", "Flags": 42, "Value": base64.b64encode(b"hello").decode(),
        "CreateIndex": index, "ModifyIndex": index,
    }  # fmt: skip
    assert answer.headers["X-Consul-Index"] == str(index)
    put(world, "app/empty", b"")
    assert get(world, "app/empty")[0]["Value"] is None


def test_raw_gives_the_bytes_and_no_browser_may_run_them(world: ConsulWorld) -> None:
    put(world, "a", b"<script>")
    answer = world.call("GET", "/v1/kv/a?raw")
    assert answer.body == b"<script>"
    assert answer.reply.content_type == b"text/plain"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox"


def test_recurse_keys_and_separators(world: ConsulWorld) -> None:
    for name in ("app/a", "app/b", "app/sub/c", "app/sub/d", "other"):
        put(world, name)
    assert [entry["Key"] for entry in get(world, "app?recurse")] == ["app/a", "app/b", "app/sub/c", "app/sub/d"]
    assert get(world, "app/?keys&separator=/") == ["app/a", "app/b", "app/sub/"]
    assert get(world, "?keys&seperator=/") == ["app/", "other"]
    assert get(world, "app/?keys&recurse") == ["app/a", "app/b", "app/sub/c", "app/sub/d"]
    assert len(get(world, "?recurse")) == 5
    assert world.call("GET", "/v1/kv/zzz?recurse").status == 404
    assert world.call("GET", "/v1/kv/zzz?keys").status == 404


def test_the_names_under_the_root_are_an_empty_list_when_there_are_none(world: ConsulWorld) -> None:
    assert get(world, "?keys") == []


def test_cas_writes_only_on_the_index_given(world: ConsulWorld) -> None:
    assert put(world, "a?cas=0") is True
    assert put(world, "a?cas=0") is False
    index = get(world, "a")[0]["ModifyIndex"]
    assert put(world, f"a?cas={index}", b"w") is True
    assert put(world, f"a?cas={index}", b"x") is False
    assert put(world, "missing?cas=7") is False
    assert world.call("DELETE", "/v1/kv/a?cas=1").json is False
    assert world.call("DELETE", "/v1/kv/a?cas=0").json is False
    assert world.call("DELETE", f"/v1/kv/a?cas={index + 1}").json is True
    assert world.call("DELETE", f"/v1/kv/a?cas={index + 1}").json is True, "it is gone, which is what was wanted"


def test_the_same_value_again_moves_no_index(world: ConsulWorld) -> None:
    put(world, "a?flags=1", b"v")
    before = get(world, "a")[0]["ModifyIndex"]
    assert put(world, "a?flags=1", b"v") is True
    assert get(world, "a")[0]["ModifyIndex"] == before
    put(world, "a", b"v")
    assert get(world, "a")[0]["ModifyIndex"] > before


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "text"),
    [
        ("PUT", "", b"v", 400, "Missing key name"),
        ("GET", "", b"", 400, "Missing key name"),
        ("DELETE", "", b"", 400, "Missing key name"),
        ("PUT", "a?cas=1&acquire=x", b"v", 400, "Conflicting flags: acquire=x&cas=1\n"),
        ("PUT", "a?acquire=x&release=y", b"v", 400, "Conflicting flags: acquire=x&release=y\n"),
        ("DELETE", "a?recurse&cas=1", b"", 400, "Conflicting flags: cas=1&recurse=\n"),
        ("PUT", "a?flags=abc", b"v", 400, 'strconv.ParseUint: parsing "abc": invalid syntax'),
        ("PUT", "a?cas=-1", b"v", 400, 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ("PUT", f"a?cas={2**64}", b"v", 400, f'strconv.ParseUint: parsing "{2**64}": value out of range'),
        ("PUT", "a?acquire=nobody", b"v", 400, 'raft apply failed: invalid session "nobody"'),
        ("PUT", "a?dc=elsewhere", b"v", 400, "No path to datacenter"),
    ],
)
def test_refusals_in_consuls_words(
    world: ConsulWorld, method: str, target: str, body: bytes, status: int, text: str
) -> None:
    answer = world.call(method, f"/v1/kv/{target}", body)
    assert (answer.status, answer.body.decode()) == (status, text)


def test_what_go_does_to_paths(world: ConsulWorld) -> None:
    answer = world.call("PUT", "/v1/kv//lead", b"v")
    assert (answer.status, answer.headers["Location"]) == (307, "/v1/kv/lead")
    assert world.call("GET", "/v1/kv/a%00b").status == 400
    assert put(world, "with%20space/%C3%A9/a+b") is True
    assert get(world, "?keys") == ["with space/é/a+b"]


def test_the_largest_value_and_one_byte_more(world: ConsulWorld) -> None:
    assert put(world, "max", b"x" * 524_288) is True
    answer = world.call("PUT", "/v1/kv/big", b"x" * 524_289)
    assert answer.status == 413
    assert answer.body.startswith(b"Request body(524289 bytes) too large, max size: 524288 bytes.")


def test_a_tree_is_deleted_at_once(world: ConsulWorld) -> None:
    for name in ("app/a", "app/b", "apple"):
        put(world, name)
    assert world.call("DELETE", "/v1/kv/app/?recurse").json is True
    assert get(world, "?keys") == ["apple"]
    assert world.call("DELETE", "/v1/kv/none").json is True


# --- locks


def test_a_lock_is_held_by_one_session_until_it_is_released(world: ConsulWorld) -> None:
    one, two = session(world), session(world)
    assert put(world, f"l?acquire={one}", b"1") is True
    assert put(world, f"l?acquire={one}", b"1b") is True
    assert put(world, f"l?acquire={two}", b"2") is False
    (entry,) = get(world, "l")
    assert (entry["Session"], entry["LockIndex"], base64.b64decode(entry["Value"])) == (one, 1, b"1b")
    assert put(world, "l", b"anybody may write") is True
    assert get(world, "l")[0]["Session"] == one
    assert put(world, f"l?release={two}", b"x") is False
    assert put(world, f"l?release={one}", b"done") is True
    assert "Session" not in get(world, "l")[0]
    assert put(world, f"l?acquire={two}", b"2") is True
    assert get(world, "l")[0]["LockIndex"] == 2


def test_a_dead_holders_lock_stays_free_of_holders_for_its_delay(world: ConsulWorld) -> None:
    one, two = session(world, lock_delay_ms=5_000), session(world)
    put(world, f"l?acquire={one}")
    world.run(CloseSession(id=one))
    assert put(world, f"l?acquire={two}") is False
    world.now += 5_001
    assert put(world, f"l?acquire={two}") is True


# --- blocking


def attempt(world: ConsulWorld, target: str) -> Any:
    verb = world.verb("GET", f"/v1/kv/{target}")
    assert isinstance(verb, Park), verb
    return verb


def test_a_blocking_read_waits_for_its_own_key(world: ConsulWorld) -> None:
    put(world, "a", b"1")
    index = get(world, "a")[0]["ModifyIndex"]
    parked = attempt(world, f"a?index={index}")
    put(world, "b", b"1")
    assert parked.attempt(world.reader(), False) is None
    put(world, "a", b"2")
    reply = parked.attempt(world.reader(), False)
    assert reply.status == 200
    assert dict(reply.headers)[b"X-Consul-Index"] == b"%d" % (index + 2)


def test_a_read_that_found_nothing_goes_on_waiting_while_others_write(world: ConsulWorld) -> None:
    put(world, "other")
    index = world.call("GET", "/v1/kv/a").headers["X-Consul-Index"]
    parked = attempt(world, f"a?index={index}")
    put(world, "other", b"2")
    assert parked.attempt(world.reader(), False) is None
    expired = parked.attempt(world.reader(), True)
    assert (expired.status, dict(expired.headers)[b"X-Consul-Index"]) == (404, index.encode())
    put(world, "a")
    assert parked.attempt(world.reader(), False).status == 200


def test_a_deleted_key_ends_the_wait_with_a_larger_index(world: ConsulWorld) -> None:
    put(world, "dir/a")
    put(world, "dir/b")
    tree = world.call("GET", "/v1/kv/dir?recurse")
    index = int(tree.headers["X-Consul-Index"])
    parked, single = attempt(world, f"dir?recurse&index={index}"), attempt(world, f"dir/a?index={index}")
    put(world, "elsewhere")
    assert parked.attempt(world.reader(), False) is None
    world.call("DELETE", "/v1/kv/dir/a")
    reply = parked.attempt(world.reader(), False)
    assert reply is not None
    after = int(dict(reply.headers)[b"X-Consul-Index"])
    assert after > index
    assert single.attempt(world.reader(), False).status == 404
    put(world, "elsewhere", b"2")
    again = world.call("GET", "/v1/kv/dir?recurse")
    assert int(again.headers["X-Consul-Index"]) == after, "a write elsewhere does not move it"


def test_a_plain_put_is_one_command(world: ConsulWorld) -> None:
    verb = world.verb("PUT", "/v1/kv/a", b"v")
    assert isinstance(verb, Submit)
    assert len(verb.commands) == 1
