"""What Consul's clients ask of the process itself: its log, a reload, its metrics, and snapshots there and back."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from townhall_process import TownhallProcess

DEADLINE_S = 120.0


@pytest.fixture(scope="module", params=["memory", "disk"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TownhallProcess]:
    where = ["--dev"] if request.param == "memory" else ["--data", str(tmp_path_factory.mktemp("town") / "data")]
    process = TownhallProcess(*where, "--native", "0", "--consul", "0", "--dns", "off", "--name", "n1").start()
    try:
        yield process
    finally:
        process.close()


def connect(town: TownhallProcess) -> http.client.HTTPConnection:
    host, _, port = town.ready["listen"]["consul"].rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)


def ask(town: TownhallProcess, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, dict[str, str]]:
    connection = connect(town)
    connection.request(method, path, body=body)
    answer = connection.getresponse()
    found = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return found


def test_a_snapshot_there_and_back(town: TownhallProcess) -> None:
    for number in range(50):
        assert ask(town, "PUT", f"/v1/kv/s/{number}", b"before" * 100)[0] == 200
    service = json.dumps({"Name": "kept", "Port": 1}).encode()
    assert ask(town, "PUT", "/v1/agent/service/register", service)[0] == 200
    status, archive, headers = ask(town, "GET", "/v1/snapshot")
    assert (status, headers["content-type"]) == (200, "application/x-gzip")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as found:
        assert found.getnames() == ["meta.json", "state.bin", "SHA256SUMS"]
        about: Any = json.load(found.extractfile("meta.json"))  # type: ignore[arg-type]
    assert str(about["Index"]) == headers["x-consul-index"]
    assert ask(town, "PUT", "/v1/kv/s/7", b"after")[0] == 200
    assert ask(town, "DELETE", "/v1/kv/s/?recurse")[0] == 200
    assert ask(town, "PUT", "/v1/agent/service/deregister/kept")[0] == 200
    assert ask(town, "PUT", "/v1/snapshot", archive)[:2] == (200, b"")
    assert ask(town, "GET", "/v1/kv/s/7?raw")[1] == b"before" * 100
    assert len(json.loads(ask(town, "GET", "/v1/kv/s/?keys")[1])) == 50
    assert len(json.loads(ask(town, "GET", "/v1/health/service/kept?passing")[1])) == 1
    assert ask(town, "PUT", "/v1/snapshot", gzip.compress(b"x"))[0] == 400


def test_the_log_is_streamed_and_a_reload_is_in_it(town: TownhallProcess) -> None:
    for query in ("?loglevel=info", "?loglevel=info&logjson"):
        connection = connect(town)
        connection.request("GET", f"/v1/agent/monitor{query}")
        answer = connection.getresponse()
        assert answer.status == 200
        assert ask(town, "PUT", "/v1/agent/reload")[0] == 200
        line = answer.readline()
        while b"reloaded" not in line:
            line = answer.readline()
            assert line, "the stream goes on"
        assert line.startswith(b"{") if "logjson" in query else b"[INFO]" in line
        connection.close()
    assert ask(town, "GET", "/v1/agent/monitor?loglevel=zap")[0] == 400


def test_metrics_in_both_forms(town: TownhallProcess) -> None:
    shown = json.loads(ask(town, "GET", "/v1/agent/metrics")[1])
    gauges = {one["Name"]: one["Value"] for one in shown["Gauges"]}
    assert gauges["consul.state.nodes"] >= 1
    assert shown["Timestamp"].endswith("+0000 UTC")
    status, text, headers = ask(town, "GET", "/v1/agent/metrics?format=prometheus")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert b"\n# TYPE " in text
