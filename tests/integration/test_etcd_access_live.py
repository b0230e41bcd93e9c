"""Users, locks, streams and pages of the etcd face through a real server's port, over the JSON gateway."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from townhall_process import TownhallProcess, running, townhall, until

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def etcd() -> Any:
    with running("--dev", "--etcd", "0") as process:
        yield process


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Client:
    def __init__(self, process: TownhallProcess, token: str = "") -> None:
        self.process = process
        self.token = token

    def connect(self) -> http.client.HTTPConnection:
        host, _, port = str(self.process.ready["listen"]["etcd"]).rpartition(":")
        return http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)

    def ask(self, path: str, body: Any = b"", method: str = "POST") -> tuple[int, Any]:
        connection = self.connect()
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, {"Authorization": self.token} if self.token else {})
            answer = connection.getresponse()
            content = answer.read()
            shown = json.loads(content) if answer.headers.get_content_type() == "application/json" else content
            return answer.status, shown
        finally:
            connection.close()

    def __call__(self, path: str, body: Any) -> Any:
        status, shown = self.ask(path, body)
        assert status == 200, shown
        return shown

    def login(self, name: str, password: str) -> Client:
        answer = self("/v3/auth/authenticate", {"name": name, "password": password})
        return Client(self.process, answer["token"])

    def stream(self, path: str, body: Any) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self.connect()
        connection.request("POST", path, json.dumps(body).encode())
        return connection, connection.getresponse()


@pytest.fixture
def call(etcd: TownhallProcess) -> Client:
    return Client(etcd)


def with_users(client: Client) -> Client:
    for name, password in (("root", "rpw"), ("amy", "apw")):
        client("/v3/auth/user/add", {"name": name, "password": password})
    client("/v3/auth/role/add", {"name": "reader"})
    allowed = {"permType": "READWRITE", "key": b64("own/"), "range_end": b64("own0")}
    client("/v3/auth/role/grant", {"name": "reader", "perm": allowed})
    client("/v3/auth/user/grant", {"user": "amy", "role": "reader"})
    client("/v3/auth/user/grant", {"user": "root", "role": "root"})
    client("/v3/auth/enable", {})
    return client.login("root", "rpw")


def test_users_from_their_making_to_the_end_of_their_tokens(start: Callable[..., TownhallProcess]) -> None:
    process = start("--dev", "--etcd", "0")
    anybody = Client(process)
    root = with_users(anybody)
    amy = anybody.login("amy", "apw")
    amy("/v3/kv/put", {"key": b64("own/a"), "value": b64("1")})
    assert anybody.ask("/v3/kv/range", {"key": b64("own/a")})[1]["message"] == "etcdserver: user name is empty"
    assert anybody.ask("/v3/lease/keepalive", {"ID": "1"})[1]["message"] == "etcdserver: user name is empty"
    assert amy.ask("/v3/kv/range", {"key": b64("other")}) == (
        403,
        {"error": "etcdserver: permission denied", "code": 7, "message": "etcdserver: permission denied"},
    )
    assert amy.ask("/v3/auth/user/list", {})[0] == 403
    root("/v3/auth/user/changepw", {"name": "amy", "password": "new"})
    assert amy.ask("/v3/kv/range", {"key": b64("own/a")})[1]["message"] == "etcdserver: invalid auth token"
    assert anybody.ask("/v3/auth/authenticate", {"name": "amy", "password": "apw"})[0] == 400
    assert anybody.login("amy", "new")("/v3/kv/range", {"key": b64("own/a")})["count"] == "1"
    root("/v3/auth/disable", {})
    anybody("/v3/kv/range", {"key": b64("other")})


def test_users_outlive_a_restart_and_their_tokens_do_not(start: Callable[..., TownhallProcess], tmp_path: Path) -> None:
    options = ("--data", str(tmp_path / "data"), "--etcd", "0")
    process = start(*options)
    root = with_users(Client(process))
    process.terminate()
    process.restart()
    anybody = Client(process)
    assert Client(process, root.token).ask("/v3/auth/user/list", {})[0] == 401
    assert anybody.login("root", "rpw")("/v3/auth/user/list", {})["users"] == ["amy", "root"]
    assert anybody.login("root", "rpw")("/v3/auth/status", {})["enabled"] is True


def test_signed_tokens_outlive_a_restart(start: Callable[..., TownhallProcess], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 64)
    signed = f"jwt,sign-method=HS256,priv-key={secret},ttl=1h"
    process = start("--data", str(tmp_path / "data"), "--etcd", "0", "--access-etcd-auth-token", signed)
    root = with_users(Client(process))
    assert root.token.count(".") == 2
    process.kill()
    process.restart()
    root("/v3/auth/user/list", {})
    root("/v3/auth/role/add", {"name": "another"})
    assert root.ask("/v3/auth/user/list", {})[0] == 401, "anything that changes makes it old"


def test_a_bad_option_is_told_at_the_start(tmp_path: Path) -> None:
    done = townhall("up", "--dev", "--native", "0", "--access-etcd-auth-token", "jwt,sign-method=RS256")
    assert done.returncode == 1
    assert "access-etcd-auth-token" in done.stderr
    assert "pub-key" in done.stderr


def test_a_registrys_own_token_logs_in(start: Callable[..., TownhallProcess]) -> None:
    process = start("--dev", "--etcd", "0")
    made = townhall("token", "bootstrap", "--json", server=process.url)
    assert made.returncode == 0, made.stderr
    secret = json.loads(made.stdout)["secret"]
    anybody = Client(process)
    assert anybody.ask("/v3/kv/range", {"key": b64("a")})[0] in {400, 401}
    Client(process, secret)("/v3/kv/range", {"key": b64("a")})
    anybody.login("token", secret)("/v3/kv/put", {"key": b64("a"), "value": ""})


def test_a_lock_is_waited_for_and_given_up(call: Client) -> None:
    leases = [call("/v3/lease/grant", {"TTL": "60"})["ID"] for _ in range(3)]
    name = {"name": b64("turn")}
    first = call("/v3/lock/lock", name | {"lease": leases[0]})

    def keys() -> int:
        found = call("/v3/kv/range", {"key": b64("turn/"), "range_end": b64("turn0"), "count_only": True})
        return int(found.get("count", "0"))

    connection = call.connect()
    connection.request("POST", "/v3/lock/lock", json.dumps(name | {"lease": leases[1]}).encode())
    until(lambda: keys() == 2, what="the second waits")
    connection.close()
    until(lambda: keys() == 1, what="who hangs up gives its place up")
    held: list[Any] = []
    third = threading.Thread(target=lambda: held.append(call("/v3/lock/lock", name | {"lease": leases[2]})))
    third.start()
    until(lambda: keys() == 2, what="the third waits")
    assert not held
    call("/v3/lock/unlock", {"key": first["key"]})
    third.join(DEADLINE_S)
    assert base64.b64decode(held[0]["key"]).decode() == f"turn/{int(leases[2]):x}"


def test_a_watch_goes_on_after_its_request(call: Client) -> None:
    connection, answer = call.stream("/v3/watch", {"create_request": {"key": b64("seen")}})
    assert json.loads(answer.readline())["result"]["created"] is True
    for value in ("1", "2"):
        call("/v3/kv/put", {"key": b64("seen"), "value": b64(value)})
        (event,) = json.loads(answer.readline())["result"]["events"]
        assert event["kv"]["value"] == b64(value)
    connection.close()


def test_an_election_is_observed(call: Client) -> None:
    lease = call("/v3/lease/grant", {"TTL": "60"})["ID"]
    connection, answer = call.stream("/v3/election/observe", {"name": b64("seat")})
    leader = call("/v3/election/campaign", {"name": b64("seat"), "lease": lease, "value": b64("one")})["leader"]
    assert json.loads(answer.readline())["result"]["kv"]["value"] == b64("one")
    call("/v3/election/proclaim", {"leader": leader, "value": b64("two")})
    assert json.loads(answer.readline())["result"]["kv"]["value"] == b64("two")
    connection.close()


def test_a_snapshot_is_whole(call: Client) -> None:
    call("/v3/kv/put", {"key": b64("large"), "value": base64.b64encode(b"x" * 200_000).decode()})
    connection, answer = call.stream("/v3/maintenance/snapshot", {})
    data = b"".join(base64.b64decode(json.loads(line)["result"]["blob"]) for line in answer.read().splitlines())
    connection.close()
    assert len(data) % 512 == 32
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]


def test_renewals_over_one_stream(call: Client) -> None:
    lease = call("/v3/lease/grant", {"TTL": "60"})["ID"]
    connection = call.connect()
    body = json.dumps({"ID": lease}).encode()
    connection.request("POST", "/v3/lease/keepalive", body + b"\n" + body)
    answers = [json.loads(line)["result"]["TTL"] for line in connection.getresponse().read().splitlines()]
    connection.close()
    assert answers == ["60", "60"]


def test_pages_and_the_member(call: Client) -> None:
    assert call.ask("/version", method="GET")[1]["etcdserver"].startswith("3.6.")
    assert call.ask("/health", method="GET") == (200, b'{"health":"true","reason":""}')
    assert call.ask("/readyz", method="GET") == call.ask("/livez", method="GET") == (200, b"ok\n")
    page = call.ask("/metrics", method="GET")[1]
    assert b"\netcd_server_has_leader 1\n" in page
    assert b"\nprocess_resident_memory_bytes " in page, "etcdctl check datascale reads it"
    assert call.ask("/nonsense", method="GET")[0] == 404
    assert call.ask("/v3/kv/range", method="GET")[0] == 501
    (member,) = call("/v3/cluster/member/list", {})["members"]
    assert member["clientURLs"] == [f"http://{call.process.ready['listen']['etcd']}"]


def test_a_full_space_raises_its_alarm(start: Callable[..., TownhallProcess]) -> None:
    process = start("--dev", "--etcd", "0", "--capacity-space-size-max", "1048576")
    client = Client(process)
    large = {"value": base64.b64encode(b"x" * 600_000).decode()}
    client("/v3/kv/put", {"key": b64("a"), **large})
    refused = client.ask("/v3/kv/put", {"key": b64("b"), **large})
    assert refused[0] == 429
    assert refused[1]["message"] == "etcdserver: mvcc: database space exceeded"
    (alarm,) = client("/v3/maintenance/alarm", {})["alarms"]
    assert alarm["alarm"] == "NOSPACE"
    assert json.loads(client.ask("/health", method="GET")[1])["health"] == "false"
    assert client.ask("/v3/kv/put", {"key": b64("small")})[0] == 429
    client("/v3/kv/deleterange", {"key": b64("a")})
    client("/v3/maintenance/alarm", {"action": "DEACTIVATE", **alarm})
    client("/v3/kv/put", {"key": b64("small")})
