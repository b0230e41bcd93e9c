"""What only a socket shows of the native protocol: sessions that break, waiters that vanish, streams that go on."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from townhall_process import TownhallProcess, running

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def registry() -> Iterator[TownhallProcess]:
    with running("--dev") as process:
        yield process


def call(registry: TownhallProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(registry.address, timeout=DEADLINE_S)
    try:
        connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body))
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data else None
    finally:
        connection.close()


def until(registry: TownhallProcess, path: str, field: str, wanted: object) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (found := call(registry, "GET", path)[1].get(field)) != wanted:
        assert time.monotonic() < deadline, f"{field} of {path} stays {found!r}"
        time.sleep(0.02)


class Session:
    """One session over a raw socket."""

    def __init__(self, registry: TownhallProcess) -> None:
        host, _, port = registry.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self.socket.sendall(b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.file = self.socket.makefile("rb")

    def say(self, line: object) -> None:
        data = json.dumps(line).encode() + b"\n"
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def hear(self, name: str) -> Any:
        """The next line that holds ``name``."""
        while True:
            line = self.file.readline()
            assert line, "the session ended"
            if line.startswith(b"{") and name in (found := json.loads(line)):
                return found[name]

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def register(registry: TownhallProcess, name: str) -> str:
    item = {"service": name, "id": "i", "address": "127.0.0.1", "port": 80, "ttl_ms": 600_000}
    return str(call(registry, "POST", "/instances", item)[1]["lease"])


def test_a_broken_session_makes_suspect_and_a_new_one_heals(registry: TownhallProcess) -> None:
    lease = register(registry, "broken")
    session = Session(registry)
    session.say({"hello": {"name": "app", "leases": [lease]}})
    assert session.hear("welcome")["unknown"] == []
    session.say({"renew": True})
    assert session.hear("renewed") == 1
    session.close()
    until(registry, "/services/broken/instances/i", "verdict", "suspect")
    again = Session(registry)
    again.say({"hello": {"name": "app", "leases": [lease]}})
    again.hear("welcome")
    until(registry, "/services/broken/instances/i", "verdict", "up")
    again.say({"bye": True})
    assert b"0\r\n" in again.file.read()
    again.close()
    assert call(registry, "GET", "/services/broken/instances/i")[1]["verdict"] == "up"


def test_news_comes_over_a_session(registry: TownhallProcess) -> None:
    first, later = register(registry, "news"), register(registry, "later")
    session = Session(registry)
    session.say({"hello": {"name": "app", "leases": [first]}})
    session.hear("welcome")
    call(registry, "POST", "/services/news/instances/i/drain", {"deadline_ms": 60_000})
    assert session.hear("drain")["service"] == "news"
    session.say({"attach": [later]})
    assert session.hear("renewed") == 1
    call(registry, "POST", "/services/later/instances/i/drain", {"deadline_ms": 60_000})
    assert session.hear("drain")["service"] == "later"
    call(registry, "DELETE", f"/leases/{later}")
    assert session.hear("forgotten") == [later]
    session.say({"zork": 1})
    assert session.hear("error")["field"] == "zork"
    session.close()


def test_a_waiter_that_vanishes_leaves_the_queue_of_a_lock(registry: TownhallProcess) -> None:
    first, second = (call(registry, "POST", "/leases", {"ttl_ms": 600_000, "kind": "keys"})[1]["lease"] for _ in "ab")
    assert call(registry, "POST", "/locks/build", {"lease": first})[0] == 200
    waiting = http.client.HTTPConnection(registry.address, timeout=DEADLINE_S)
    waiting.request("POST", "/api/v1/locks/build", json.dumps({"lease": second, "wait_ms": 60_000}))
    until(registry, "/locks/build", "waiters", 1)
    waiting.close()
    until(registry, "/locks/build", "waiters", 0)


def test_a_lock_is_passed_on_or_refused_at_the_deadline(registry: TownhallProcess) -> None:
    first, second = (call(registry, "POST", "/leases", {"ttl_ms": 600_000, "kind": "keys"})[1]["lease"] for _ in "ab")
    fence = call(registry, "POST", "/locks/passed", {"lease": first})[1]["fence"]
    status, refused = call(registry, "POST", "/locks/passed", {"lease": second, "wait_ms": 50})
    assert (status, refused["holder"]["lease"]) == (409, first)
    until(registry, "/locks/passed", "waiters", 0)
    waiting = http.client.HTTPConnection(registry.address, timeout=DEADLINE_S)
    waiting.request("POST", "/api/v1/locks/passed", json.dumps({"lease": second, "wait_ms": 60_000}))
    until(registry, "/locks/passed", "waiters", 1)
    call(registry, "DELETE", f"/locks/passed?lease={first}")
    answer = waiting.getresponse()
    assert answer.status == 200
    assert json.loads(answer.read())["fence"] > fence
    waiting.close()


def test_a_drain_is_complete_once_the_subscriber_acknowledged(registry: TownhallProcess) -> None:
    register(registry, "drained")
    watch = http.client.HTTPConnection(registry.address, timeout=DEADLINE_S)
    watch.request("GET", "/api/v1/watch?service=drained&subscriber=me&ack=explicit")
    stream = watch.getresponse()

    def event(name: str) -> Any:
        while stream.readline().strip() != f"event: {name}".encode():
            pass
        return json.loads(stream.readline().removeprefix(b"data: "))

    ready = event("ready")
    ack = f"/watch/{ready['subscriber']}/ack"
    assert call(registry, "POST", ack, {"services": {"drained": ready["revision"]}})[0] == 204
    begun = call(registry, "POST", "/services/drained/instances/i/drain", {"deadline_ms": 60_000})[1]
    assert (begun["state"], begun["waiting_for"]) == ("draining", ["me"])
    delta = event("delta")
    assert delta["ack"] is True
    parked = http.client.HTTPConnection(registry.address, timeout=DEADLINE_S)
    parked.request("GET", "/api/v1/services/drained/instances/i/drain?wait=60s")
    assert call(registry, "POST", ack, {"services": {"drained": delta["revision"]}})[0] == 204
    assert json.loads(parked.getresponse().read())["state"] == "complete"
    (row,) = call(registry, "GET", "/services/drained/subscribers")[1]["subscribers"]
    assert (row["name"], row["acked"], row["behind"]) == ("me", delta["revision"], False)
    parked.close()
    watch.close()
