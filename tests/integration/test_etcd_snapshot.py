"""What ``etcdctl snapshot save`` fetches over gRPC makes a new data directory: keys, history, leases and users."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import grpc_client
from townhall.ops.cli import run
from townhall.wire.etcd import maintenance
from townhall_process import TownhallProcess

DEADLINE_S = 120.0
Start = Callable[..., TownhallProcess]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Client:
    def __init__(self, process: TownhallProcess) -> None:
        self.address = str(process.ready["listen"]["etcd"])
        self.token = ""

    def __call__(self, path: str, **body: Any) -> Any:
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)
        try:
            headers = {"Authorization": self.token} if self.token else {}
            connection.request("POST", f"/v3{path}", json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        assert answer.status == 200, content
        return content

    def login(self, name: str, password: str) -> None:
        self.token = self("/auth/authenticate", name=name, password=password)["token"]

    def keys(self, prefix: str, **more: Any) -> dict[str, str]:
        found = self("/kv/range", key=b64(prefix), range_end=b64(prefix[:-1] + chr(ord(prefix[-1]) + 1)), **more)
        return {
            base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", "")).decode()
            for kv in found.get("kvs", ())
        }


def save(address: str, file: Path, token: str = "") -> None:
    """As ``etcdctl snapshot save``: the pieces one after the other."""
    connection = grpc_client.Connection(address)
    try:
        stream = connection.open("/etcdserverpb.Maintenance/Snapshot", ("token", token))
        connection.send(stream, maintenance.SnapshotRequest(), end=True)
        with file.open("wb") as out:
            while True:
                try:
                    out.write(connection.take(stream, maintenance.SnapshotResponse).blob)
                except grpc_client.Refused as end:
                    if end.code:
                        raise
                    return
    finally:
        connection.close()


def register(process: TownhallProcess) -> None:
    body = json.dumps({"service": "web", "id": "one", "address": "127.0.0.1", "port": 80}).encode()
    request = urllib.request.Request(
        f"{process.url}/api/v1/instances", body, {"Content-Type": "application/json"}, method="POST"
    )
    urllib.request.urlopen(request, timeout=DEADLINE_S).close()


def test_saved_over_grpc_and_restored(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = start("--data", str(tmp_path / "first"), "--etcd", "0", "--layouts-etcd-export", "all/")
    client, file, data = Client(first), tmp_path / "snapshot.db", tmp_path / "second"
    lease = client("/lease/grant", TTL="600")["ID"]
    naming = json.dumps({"Op": 0, "Addr": "127.0.0.1:8080"})
    for key, value, on in (("k/a", "1", "0"), ("k/a", "2", "0"), ("k/b", "b", lease), ("service/api/x", naming, lease)):
        client("/kv/put", key=b64(key), value=b64(value), lease=on)
    register(first)
    assert set(client.keys("all/")) == {"all/web/one", "all/api/etcd:service%2Fapi%2Fx"}
    for name, password in (("root", "rpw"), ("amy", "apw")):
        client("/auth/user/add", name=name, password=password)
    client("/auth/role/add", name="reader")
    client("/auth/role/grant", name="reader", perm={"permType": "READ", "key": b64("k/"), "range_end": b64("k0")})
    client("/auth/user/grant", user="amy", role="reader")
    client("/auth/user/grant", user="root", role="root")
    client("/auth/enable")
    client.login("root", "rpw")
    before = client("/kv/range", key=b64("k/a"))
    save(client.address, file, client.token)
    assert first.terminate() == 0

    assert run(["restore", str(file), "--data", str(data)]) == 0
    told = capsys.readouterr().out
    assert "5 keys, 1 leases and 2 users of etcd's clients" in told
    second = start("--data", str(data), "--etcd", "0")
    client = Client(second)
    with pytest.raises(AssertionError, match="user name is empty"):
        client("/kv/range", key=b64("k/a"))
    client.login("amy", "apw")
    assert client.keys("k/") == {"k/a": "2", "k/b": "b"}
    client.login("root", "rpw")
    after = client("/kv/range", key=b64("k/a"))
    assert after["kvs"] == before["kvs"]
    old = int(before["kvs"][0]["create_revision"])
    assert client.keys("k/", revision=str(old)) == {"k/a": "1"}, "with its history"
    assert int(after["header"]["revision"]) > int(before["header"]["revision"]), "what was shown as keys has gone"
    assert client.keys("all/") == {}
    assert client("/lease/leases")["leases"] == [{"ID": lease}]
    assert int(client("/lease/timetolive", ID=lease)["grantedTTL"]) == 600
    with urllib.request.urlopen(f"{second.url}/api/v1/services/api/instances", timeout=DEADLINE_S) as answer:
        assert [one["id"] for one in json.load(answer)["instances"]] == ["etcd:service/api/x"]
    client("/lease/revoke", ID=lease)
    assert client.keys("k/") == {"k/a": "2"}
    with urllib.request.urlopen(f"{second.url}/api/v1/services/web/instances", timeout=DEADLINE_S) as answer:
        assert not json.load(answer)["instances"], "only what is etcd's is in it"


def test_what_is_no_whole_snapshot_is_refused(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start("--dev", "--etcd", "0")
    Client(process)("/kv/put", key=b64("k"), value=b64("v"))
    file = tmp_path / "snapshot.db"
    save(str(process.ready["listen"]["etcd"]), file)
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:200] + b"?" + whole[201:]):
        file.write_bytes(damaged)
        assert run(["restore", str(file), "--data", str(tmp_path / "new")]) == 1
        assert not (tmp_path / "new").exists()
    assert run(["restore", str(tmp_path / "none"), "--data", str(tmp_path / "new")]) == 1
    file.write_bytes(whole)
    assert run(["restore", str(file), "--data", str(tmp_path / "new")]) == 0
    assert run(["restore", str(file), "--data", str(tmp_path / "new")]) == 1, "not over what is there"
    assert "not empty" in capsys.readouterr().err
