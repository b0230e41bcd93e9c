"""The access log and the counters, from traces."""

from __future__ import annotations

import json
from pathlib import Path

from townhall.client.records import Instance
from townhall.gateway.accesslog import AccessLog
from townhall.gateway.counters import BUCKETS_S, Counters
from townhall.gateway.gateway import Gateway
from townhall.gateway.requests import RequestHeads
from townhall.gateway.trace import Trace

assert Gateway


def trace(status: int = 200, code: str = "") -> Trace:
    raw = b'GET /a"b?c HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff"\\ agent\r\n\r\n'
    found = Trace(RequestHeads(target_size_max=100).read(raw), "192.0.2.1", 0.0)
    found.route, found.service, found.status, found.code, found.sent = "r", "user", status, code, 5
    found.instance = Instance(id="a", service="user", address="127.0.0.1", port=80)
    found.attempts, found.failures = 2, ["connect"]
    return found


def test_lines_of_text(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.add(trace(), 0.0123)
    log.add(Trace(None, "", 0.0), 0.0)
    log.close()
    first, second = path.read_text().splitlines()
    assert first.startswith("192.0.2.1 - - [")
    assert first.endswith(r'"GET /a\x22b?c HTTP/1.1" 200 5 "-" "\xff\x22\x5c agent" user 127.0.0.1:80 2 12.3 connect')
    assert '"-" 0 0' in second


def test_lines_of_json_and_a_file_that_was_moved(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), form="json")
    log.add(trace(503, "no_instance"), 0.5)
    log.flush()
    path.rename(tmp_path / "old.log")
    log.reopen()
    log.add(trace(), 0.5)
    log.close()
    assert not log.open
    old = json.loads((tmp_path / "old.log").read_text())
    assert (old["status"], old["code"], old["ms"], old["instance"]) == (503, "no_instance", 500.0, "127.0.0.1:80")
    assert json.loads(path.read_text())["status"] == 200
    assert not AccessLog("").open


def test_what_is_counted() -> None:
    counters = Counters()
    counters.noted(trace(), BUCKETS_S[0])
    counters.noted(trace(503, "no_instance"), 1_000.0)
    counts = counters.routes["r"]
    assert (counts.classes[2], counts.classes[5], counts.buckets[0], counts.buckets[-1]) == (1, 1, 1, 1)
    assert counters.retries == 2
    assert counters.failures["user", "connect"] == 2
    assert counters.problems["no_instance"] == 1
