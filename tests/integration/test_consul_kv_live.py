"""Keys, locks, sessions, transactions and prepared queries through a real server's Consul port."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from townhall_process import TownhallProcess, running

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def consul() -> Any:
    with running("--dev", "--consul", "0") as process:
        yield process


class Client:
    def __init__(self, process: TownhallProcess) -> None:
        self.address = str(process.ready["listen"]["consul"])

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, f"/v1/{path}", data)
            answer = connection.getresponse()
            content = answer.read()
            shown = json.loads(content) if answer.headers.get_content_type() == "application/json" else content
            return answer.status, shown, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()


@pytest.fixture
def call(consul: TownhallProcess) -> Client:
    return Client(consul)


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + DEADLINE_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def test_a_key_there_and_back(call: Client, name: str) -> None:
    status, body, headers = call("GET", f"kv/{name}")
    assert (status, body) == (404, b"")
    assert int(headers["x-consul-index"]) >= 1
    assert call("PUT", f"kv/{name}/a%20b?flags=7", b"hello")[:2] == (200, True)
    status, (entry,), headers = call("GET", f"kv/{name}/a%20b")
    assert (entry["Key"], entry["Flags"], entry["Value"]) == (f"{name}/a b", 7, "aGVsbG8=")
    assert headers["x-consul-index"] == str(entry["ModifyIndex"])
    status, raw, headers = call("GET", f"kv/{name}/a%20b?raw")
    assert raw == b"hello"
    assert headers["content-type"] == "text/plain"
    assert call("DELETE", f"kv/{name}?recurse")[:2] == (200, True)
    assert call("GET", f"kv/{name}?keys")[0] == 404


def test_a_blocking_read_is_answered_by_the_write(call: Client, name: str) -> None:
    call("PUT", f"kv/{name}", b"1")
    index = call("GET", f"kv/{name}")[2]["x-consul-index"]
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(call("GET", f"kv/{name}?index={index}&wait=15s")))
    waiting.start()
    call("PUT", f"kv/{name}-other", b"1")
    call("PUT", f"kv/{name}", b"2")
    waiting.join(DEADLINE_S)
    ((status, (entry,), headers),) = answers
    assert (status, entry["Value"]) == (200, "Mg==")
    assert int(headers["x-consul-index"]) > int(index)


def test_a_blocking_read_that_nothing_answers_ends_with_the_same_index(call: Client, name: str) -> None:
    call("PUT", f"kv/{name}", b"1")
    index = call("GET", f"kv/{name}")[2]["x-consul-index"]
    status, _, headers = call("GET", f"kv/{name}?index={index}&wait=100ms")
    assert (status, headers["x-consul-index"]) == (200, index)


def test_one_of_many_takes_the_lock_and_its_end_passes_it_on(call: Client, name: str) -> None:
    sessions = [call("PUT", "session/create", {"LockDelay": "0s", "TTL": "10s"})[1]["ID"] for _ in range(4)]
    won = [session for session in sessions if call("PUT", f"kv/{name}?acquire={session}", b"me")[1]]
    assert won == sessions[:1]
    assert call("PUT", f"session/renew/{won[0]}")[1][0]["ID"] == won[0]
    assert call("PUT", f"session/destroy/{won[0]}")[1] is True
    assert "Session" not in call("GET", f"kv/{name}")[1][0]
    assert call("PUT", f"kv/{name}?acquire={sessions[1]}", b"me")[1] is True


def test_a_session_that_is_not_renewed_takes_its_keys_along(call: Client, name: str) -> None:
    session = call("PUT", "session/create", {"Behavior": "delete", "TTL": "10s", "LockDelay": "0s"})[1]["ID"]
    assert call("PUT", f"kv/{name}?acquire={session}", b"me")[1] is True
    eventually(lambda: call("GET", f"session/info/{session}")[1] == [])
    assert call("GET", f"kv/{name}")[0] == 404


def test_a_transaction_is_whole_or_not_at_all(call: Client, name: str) -> None:
    write = {"KV": {"Verb": "set", "Key": f"{name}/a", "Value": "aGk="}}
    status, shown, _ = call("PUT", "txn", [write, {"KV": {"Verb": "get", "Key": f"{name}/a"}}])
    assert (status, [result["KV"]["Value"] for result in shown["Results"]]) == (200, [None, "aGk="])
    other = {"KV": {"Verb": "set", "Key": f"{name}/b", "Value": "aGk="}}
    status, shown, _ = call("PUT", "txn", [other, {"KV": {"Verb": "check-not-exists", "Key": f"{name}/a"}}])
    assert (status, shown["Errors"][0]["OpIndex"]) == (409, 1)
    assert call("GET", f"kv/{name}/?keys")[1] == [f"{name}/a"]


def _number(entry: dict[str, Any]) -> int:
    return int(base64.b64decode(entry["Value"]))


def test_counters_raised_by_many_lose_no_count(call: Client, name: str) -> None:
    call("PUT", f"kv/{name}", b"0")

    def raise_it() -> None:
        for _ in range(10):
            while True:
                (entry,) = call("GET", f"kv/{name}")[1]
                if call("PUT", f"kv/{name}?cas={entry['ModifyIndex']}", b"%d" % (_number(entry) + 1))[1]:
                    break

    threads = [threading.Thread(target=raise_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert call("GET", f"kv/{name}?raw")[1] == b"30"


def test_a_prepared_query_finds_what_an_agent_registered(call: Client, name: str) -> None:
    service = {"Name": name, "ID": f"{name}-1", "Port": 80, "Tags": ["v1"]}
    assert call("PUT", "agent/service/register", service)[0] == 200
    status, made, _ = call("POST", "query", {"Name": f"q-{name}", "Service": {"Service": name, "Tags": ["v1"]}})
    assert status == 200
    nodes = call("GET", f"query/q-{name}/execute")[1]["Nodes"]
    assert [node["Service"]["ID"] for node in nodes] == [f"{name}-1"]
    assert call("DELETE", f"query/{made['ID']}")[0] == 200
    assert call("GET", f"query/q-{name}/execute")[0] == 404


def test_without_access_control_acl_is_disabled(call: Client) -> None:
    assert call("GET", "acl/tokens")[:2] == (401, b"ACL support disabled")
