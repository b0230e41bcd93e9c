"""Ten thousand watchers of one service and one change: all are told. One that never reads hinders nobody."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from crash.test_kill import asking
from townhall_process import running, until

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench.server import generate

WATCHERS = 10_000


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_ten_thousand_watchers_are_all_told(capsys: pytest.CaptureFixture[str]) -> None:
    resource = pytest.importorskip("resource", reason="limits on open files are a POSIX matter")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < WATCHERS + 1_000:
        pytest.skip(f"the hard limit on open files is {hard}: raise it (ulimit -Hn) to hold {WATCHERS} connections")
    with running("--dev") as server:
        before = resident_kib(server.pid)
        # The generator waits until every watcher has each change, and fails when one has not within a minute.
        measured = generate("bench.fanout", "--url", server.url, "--watchers", str(WATCHERS), "--changes", "3")
        assert measured["watchers"] == WATCHERS
        each = (resident_kib(server.pid) - before) / WATCHERS
        with capsys.disabled():
            sys.stdout.write(
                f"\n10,000 watchers: {each:.1f} KiB each, last told after {measured['latency_ms']['max']:.0f} ms\n"
            )


def test_a_watcher_that_never_reads_hinders_nobody() -> None:
    with running("--dev") as server, asking(server) as client:
        host, _, port = server.address.rpartition(":")
        body = {"service": "slow", "id": "one", "address": "127.9.0.5", "port": 80, "persistent": True}
        assert client.call("POST", "/api/v1/instances", body) is not None
        deaf = []
        for _ in range(20):
            peer = socket.create_connection((host, int(port)))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.sendall(f"GET /api/v1/watch?service=slow HTTP/1.1\r\nHost: {server.address}\r\n\r\n".encode())
            deaf.append(peer)
        path = "/api/v1/services/slow/instances"
        until(
            lambda: len(client.call("GET", "/api/v1/services/slow/subscribers")[1]["subscribers"]) == 20,
            what="they watch",
        )  # type: ignore[index]
        before = resident_kib(server.pid)
        filler = "x" * 4000
        for number in range(1_500):
            patched = client.call("PATCH", f"{path}/one", {"metadata": {"filler": f"{number}{filler}"}})
            assert patched is not None
            assert patched[0] == 200
        grown = resident_kib(server.pid) - before
        # 20 deaf watchers x 1,500 changes x 4 KB would be 120 MB if each had a queue.
        assert grown < 60_000, f"{grown} KiB are held for watchers that do not read"
        listed = client.call("GET", path)
        assert listed is not None
        assert json.dumps(listed[1]).count("1499x") == 1
        for peer in deaf:
            peer.close()
