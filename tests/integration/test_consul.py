"""A real ``townhall up --dev --consul 0`` as the clients of Consul and of Townhall's own protocol meet it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from townhall_process import TownhallProcess

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def town() -> Iterator[TownhallProcess]:
    process = TownhallProcess("--dev", "--consul", "0", "--dns", "off", "--name", "n1").start()
    try:
        yield process
    finally:
        process.close()


def ask(town: TownhallProcess, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://{town.ready['listen']['consul']}{path}", data=data, method=method)
    try:
        with urlopen(request, timeout=DEADLINE_S) as answer:
            text, status, headers = answer.read(), answer.status, dict(answer.headers)
    except HTTPError as error:
        text, status, headers = error.read(), error.code, dict(error.headers)
    return status, json.loads(text) if text[:1] in b"[{t" and text else text.decode(), headers


def passing(town: TownhallProcess, name: str) -> list[str]:
    return [row["Service"]["ID"] for row in ask(town, "GET", f"/v1/health/service/{name}?passing")[1]]


def until(condition: Any) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_service_is_registered_watched_and_gone(town):
    status, rows, headers = ask(town, "GET", "/v1/health/service/web?passing")
    assert (status, rows) == (200, [])
    with ThreadPoolExecutor(1) as pool:
        path = f"/v1/health/service/web?passing&index={headers['X-Consul-Index']}&wait=15s"
        watched = pool.submit(ask, town, "GET", path)
        body = {"Name": "web", "ID": "web-1", "Address": "127.0.0.1", "Port": 9, "Tags": ["v1"]}
        assert ask(town, "PUT", "/v1/agent/service/register", body)[0] == 200
        _, rows, later = watched.result(DEADLINE_S)
    assert [row["Service"]["ID"] for row in rows] == ["web-1"]
    assert int(later["X-Consul-Index"]) > int(headers["X-Consul-Index"])
    assert ask(town, "PUT", "/v1/agent/service/deregister/web-1")[0] == 200
    assert passing(town, "web") == []


def test_one_catalogue_for_both_protocols(town):
    native = f"{town.url}/api/v1"
    body = json.dumps({"service": "both", "id": "n-1", "address": "127.0.0.1", "port": 9, "persistent": True}).encode()
    urlopen(Request(f"{native}/instances", data=body, method="POST"), timeout=DEADLINE_S).close()
    assert passing(town, "both") == ["n-1"]
    ask(town, "PUT", "/v1/agent/service/register", {"Name": "both", "ID": "c-1", "Port": 10})
    with urlopen(f"{native}/services/both/instances", timeout=DEADLINE_S) as answer:
        shown = json.load(answer)["instances"]
    assert [(one["id"], one["protocol"]) for one in shown] == [("c-1", "consul"), ("n-1", "native")]


def test_a_ttl_check_that_nobody_passes_becomes_critical(town):
    check = {"CheckID": "beat", "TTL": "300ms", "Status": "passing"}
    ask(town, "PUT", "/v1/agent/service/register", {"Name": "ttl", "Port": 1, "Check": check})
    until(lambda: passing(town, "ttl") == [])
    assert ask(town, "PUT", "/v1/agent/check/pass/beat")[0] == 200
    until(lambda: ask(town, "GET", "/v1/health/checks/ttl")[1][0]["Status"] == "critical")


def test_a_tcp_check_finds_out_who_listens(town):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = {"tcp": f"127.0.0.1:{port}", "interval": "1s", "timeout": "1s"}
        ask(town, "PUT", "/v1/agent/service/register", {"name": "tcp", "port": port, "check": check})
        until(lambda: passing(town, "tcp") == ["tcp"])
    until(lambda: passing(town, "tcp") == [])


def test_errors_pretty_printing_and_gzip(town):
    assert ask(town, "PUT", "/v1/agent/service/register", {"ID": "x"})[:2] == (400, "Missing service name")
    status, text, headers = ask(town, "POST", "/v1/catalog/register", {})
    assert (status, headers["Allow"]) == (405, "OPTIONS,PUT")
    assert "not allowed" in text
    url = f"http://{town.ready['listen']['consul']}/v1/agent/self"
    with urlopen(Request(url, headers={"Accept-Encoding": "gzip"}), timeout=DEADLINE_S) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
    with urlopen(f"{url}?pretty", timeout=DEADLINE_S) as answer:
        assert answer.read().endswith(b"\n}\n")


def test_hash_blocking_ends_at_its_wait(town):
    ask(town, "PUT", "/v1/agent/service/register", {"Name": "hash", "Port": 1})
    _, _, headers = ask(town, "GET", "/v1/agent/service/hash")
    began = time.monotonic()
    path = f"/v1/agent/service/hash?hash={headers['X-Consul-ContentHash']}&wait=300ms"
    assert ask(town, "GET", path)[0] == 200
    assert time.monotonic() - began >= 0.3
