"""Probes against real processes: killed, hung, restarted, flapping; each kind of check; what may be dialled."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from test_consul import ask, passing

from free_ports import free_port
from townhall_process import TownhallProcess, running, until

SERVE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        # What stands in the file is the status; "-> URL" redirects.
        word = open(sys.argv[2]).read().split()
        self.send_response(302 if word[0] == "->" else int(word[0]))
        if word[0] == "->":
            self.send_header("Location", word[1])
        self.end_headers()
        self.wfile.write(b"said " + word[-1].encode())
    def log_message(self, *words):
        with open(sys.argv[2] + ".log", "a") as log:
            log.write(self.path + "\\n")
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
QUICK = {"Interval": "200ms", "Timeout": "3s"}
OPTIONS = (
    "--dev", "--consul", "0", "--dns", "off", "--name", "n1", "--probe-interval-min-ms", "100", "--probe-reap-interval-ms", "100",
    "--probe-deregister-min-ms", "500", "--probe-scripts",
)  # fmt: skip


class Service:
    """An HTTP server of a process of its own, whose answer is told by a file."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.file = folder / "status"
        self.say("200")
        # Of our own choice, so that nobody has taken it when another process is to serve there again.
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(port or free_port()), str(self.file)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def say(self, word: str) -> None:
        self.file.write_text(word)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait(120)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture(scope="module")
def town() -> Iterator[TownhallProcess]:
    with running(*OPTIONS) as process:
        yield process


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def begin(port: int = 0) -> Service:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Service(folder, port))
        return started[-1]

    yield begin
    for service in started:
        service.kill()


def register(town: TownhallProcess, name: str, port: int, **check: Any) -> None:
    body = {"Name": name, "Address": "127.0.0.1", "Port": port, "Check": {**QUICK, **check}}
    status, text, _ = ask(town, "PUT", "/v1/agent/service/register", body)
    assert status == 200, text


def check_of(town: TownhallProcess, name: str) -> dict[str, Any]:
    checks: list[dict[str, Any]] = ask(town, "GET", f"/v1/health/checks/{name}")[1]
    return checks[0] if checks else {"Status": "gone", "Output": ""}


def becomes(town: TownhallProcess, name: str, status: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = check_of(town, name)
        return found if found["Status"] == status else None

    found: dict[str, Any] = until(look, what=f"{name} is {status}")
    return found


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_killed_and_restarted(town, serve, kind):
    service, name = serve(), f"killed-{kind}"
    where = f"127.0.0.1:{service.port}"
    register(town, name, service.port, **({"HTTP": f"http://{where}/"} if kind == "http" else {"TCP": where}))
    becomes(town, name, "passing")
    service.kill()
    assert "refused" in becomes(town, name, "critical")["Output"]
    assert passing(town, name) == []
    serve(service.port)
    becomes(town, name, "passing")
    assert passing(town, name) == [name]


def test_a_process_that_hangs_is_critical_until_it_goes_on(town, serve):
    service = serve()
    register(town, "hung", service.port, HTTP=f"http://127.0.0.1:{service.port}/")
    becomes(town, "hung", "passing")
    service.signal(signal.SIGSTOP)
    becomes(town, "hung", "critical")
    service.signal(signal.SIGCONT)
    becomes(town, "hung", "passing")


def test_status_codes_and_their_output(town, serve):
    service = serve()
    register(town, "codes", service.port, HTTP=f"http://127.0.0.1:{service.port}/")
    assert "said 200" in becomes(town, "codes", "passing")["Output"]
    service.say("429")
    becomes(town, "codes", "warning")
    assert passing(town, "codes") == []
    service.say("503")
    until(lambda: "503" in becomes(town, "codes", "critical")["Output"], what="the output tells the status")


def test_flapping_is_damped_by_thresholds(town, serve):
    service = serve()
    register(
        town, "flaps", service.port, HTTP=f"http://127.0.0.1:{service.port}/", SuccessBeforePassing=1, FailuresBeforeCritical=1_000
    )  # fmt: skip
    becomes(town, "flaps", "passing")
    before = ask(town, "GET", "/v1/health/service/flaps")[2]["X-Consul-Index"]
    log = service.file.with_suffix(".log")
    for word in ("500", "200", "500", "200"):
        service.say(word)
        seen = log.stat().st_size
        until(lambda seen=seen: log.stat().st_size > seen, what="it is probed again")
        assert passing(town, "flaps") == ["flaps"]
    assert check_of(town, "flaps")["Status"] == "passing"
    assert int(ask(town, "GET", "/v1/health/service/flaps")[2]["X-Consul-Index"]) >= int(before)


def test_a_service_that_stays_critical_is_deregistered(town, serve):
    service = serve()
    where = f"127.0.0.1:{service.port}"
    register(town, "reaped", service.port, TCP=where, DeregisterCriticalServiceAfter="1s")
    register(town, "kept", service.port, TCP=where)
    becomes(town, "reaped", "passing")
    service.kill()
    until(lambda: ask(town, "GET", "/v1/catalog/service/reaped")[1] == [], what="it is deregistered")
    becomes(town, "kept", "critical")
    assert ask(town, "GET", "/v1/agent/services")[1].keys() >= {"kept"}


def test_an_alias_follows_what_it_is_an_alias_of(town, serve):
    service = serve()
    register(town, "origin", service.port, TCP=f"127.0.0.1:{service.port}")
    body = {"Name": "shadow", "Port": 1, "Check": {"AliasService": "origin"}}
    assert ask(town, "PUT", "/v1/agent/service/register", body)[0] == 200
    becomes(town, "shadow", "passing")
    service.kill()
    becomes(town, "shadow", "critical")


def test_udp_is_well_unless_somebody_refuses(town):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        register(town, "udp", port, UDP=f"127.0.0.1:{port}")
        becomes(town, "udp", "passing")
    becomes(town, "udp", "critical")


def test_a_grpc_check_of_what_speaks_no_grpc_is_critical(town, serve):
    service = serve()
    register(town, "grpc", service.port, GRPC=f"127.0.0.1:{service.port}")
    # It is critical from the start; the first look says why.
    until(lambda: check_of(town, "grpc")["Output"], what="the reason is told")
    assert check_of(town, "grpc")["Status"] == "critical"


def test_a_grpc_check_of_grpc_s_own_server(town):
    """grpcio's server with grpcio-health-checking: the status of the server, of one service, of one it does not know."""
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        for name, status in (("", "SERVING"), ("shop.Cart", "SERVING")):
            servicer.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        for name, target in (("all", ""), ("cart", "/shop.Cart"), ("none", "/shop.None")):
            register(town, f"grpcio-{name}", port, GRPC=f"127.0.0.1:{port}{target}")
        assert "success" in becomes(town, "grpcio-all", "passing")["Output"]
        becomes(town, "grpcio-cart", "passing")
        until(lambda: check_of(town, "grpcio-none")["Output"], what="the reason is told")
        assert check_of(town, "grpcio-none")["Status"] == "critical"
        servicer.set("shop.Cart", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert "NOT_SERVING" in becomes(town, "grpcio-cart", "critical")["Output"]
        servicer.set("shop.Cart", health_pb2.HealthCheckResponse.SERVING)
        becomes(town, "grpcio-cart", "passing")
        becomes(town, "grpcio-all", "passing")
    finally:
        server.stop(None).wait(120)
    becomes(town, "grpcio-all", "critical")


def test_scripts_run_only_when_they_are_enabled(town, start, tmp_path):
    flag = tmp_path / "flag"
    flag.write_text("0")
    register(town, "script", 1, Args=["/bin/sh", "-c", f"echo checked; exit $(cat {flag})"])
    assert "checked" in becomes(town, "script", "passing")["Output"]
    flag.write_text("1")
    becomes(town, "script", "warning")
    flag.write_text("2")
    becomes(town, "script", "critical")
    other = start("--dev", "--consul", "0", "--dns", "off")
    body = {"Name": "x", "Check": {"Args": ["/bin/true"], "Interval": "1s"}}
    status, text, _ = ask(other, "PUT", "/v1/agent/service/register", body)
    assert status == 400
    assert "Scripts are disabled" in text


def test_redirects_to_other_hosts_are_not_followed(town, serve):
    front, other = serve(), serve()
    front.say(f"-> http://127.0.0.1:{other.port}/elsewhere")
    register(town, "redirected", front.port, HTTP=f"http://127.0.0.1:{front.port}/")
    log = front.file.with_suffix(".log")
    until(lambda: log.exists() and log.read_text().count("\n") >= 3, what="it is probed more than once")
    until(lambda: check_of(town, "redirected")["Output"], what="the finding is told")
    assert check_of(town, "redirected")["Status"] == "critical"
    assert not other.file.with_suffix(".log").exists()


# --- silence of a lease


def native(town: TownhallProcess, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{town.url}/api/v1{path}", data, headers, method=method), timeout=120) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def attach(town: TownhallProcess, service: str, instance: str, port: int) -> None:
    """A TCP check on an instance that was registered natively, seldom enough that only its silence brings a look."""
    check = {
        "Name": "reach", "CheckID": f"reach-{instance}", "ServiceID": instance, "TCP": f"127.0.0.1:{port}", "Interval": "1h", "Timeout": "1s",
    }  # fmt: skip
    status, text, _ = ask(town, "PUT", "/v1/agent/check/register", check)
    assert status == 200, text


def test_a_missed_heartbeat_is_settled_by_a_probe_before_the_eviction(town, serve):
    service = serve()

    def register_silent(name: str) -> None:
        body = {"service": f"silent-{name}", "id": name, "address": "127.0.0.1", "port": service.port, "ttl_ms": 3_000}
        native(town, "POST", "/instances", body)

    register_silent("alive")
    attach(town, "silent-alive", "alive", service.port)
    until(lambda: check_of(town, "silent-alive")["Status"] == "passing", what="the first look")
    # After the other one, so that its end says that the other one's silence was long enough, too.
    register_silent("dead")
    until(
        lambda: native(town, "GET", "/services/silent-dead/instances")["instances"] == [],
        what="who cannot be probed is evicted",
    )
    # Nobody renewed either of them. The probe found this one well, so it stands.
    assert [one["id"] for one in native(town, "GET", "/services/silent-alive/instances")["instances"]] == ["alive"]
    service.kill()


# --- what may be dialled


def metrics(town: TownhallProcess) -> dict[str, float]:
    with urlopen(f"{town.url}/metrics", timeout=120) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_an_address_that_cannot_be_reached_is_told(start, serve):
    own = start("--dev", "--consul", "0", "--dns", "off")
    service, nobody = serve(), free_port()
    for name, port in (("reached", service.port), ("missed", nobody)):
        ask(own, "PUT", "/v1/agent/service/register", {"Name": name, "Address": "127.0.0.1", "Port": port})
    status = until(
        lambda: (found := native(own, "GET", "/status")) and found["dialbacks_unreachable"] == 1 and found,
        what="it is told in the status",
    )
    assert status["dialbacks"] == 2
    assert ["missed" in each for each in status["dialback_failures"]] == [True]
    assert metrics(own)["townhall_dialbacks_unreachable"] == 1
    assert passing(own, "missed") == ["missed"]  # Told, not refused.


def test_addresses_of_others_are_not_dialled_unless_the_operator_named_them(start):
    with socket.create_server(("127.0.0.5", 0)) as server:
        server.settimeout(0.5)
        port = server.getsockname()[1]
        shy = start("--dev", "--consul", "0", "--dns", "off")
        ask(shy, "PUT", "/v1/agent/service/register", {"Name": "other", "Address": "127.0.0.5", "Port": port})
        with pytest.raises(TimeoutError):
            server.accept()
        assert native(shy, "GET", "/status")["dialbacks"] == 0
        bold = start("--dev", "--consul", "0", "--dns", "off", "--probe-dialback-ranges", "127.0.0.0/8")
        server.settimeout(120)
        ask(bold, "PUT", "/v1/agent/service/register", {"Name": "other", "Address": "127.0.0.5", "Port": port})
        server.accept()[0].close()


def test_denied_ranges_are_never_dialled(start, serve):
    service = serve()
    strict = start(
        "--dev", "--consul", "0", "--dns", "off", "--probe-deny", "127.0.0.0/8", "--probe-interval-min-ms", "100"
    )
    register(strict, "denied", service.port, HTTP=f"http://127.0.0.1:{service.port}/")
    until(lambda: check_of(strict, "denied")["Output"], what="the reason is told")
    assert check_of(strict, "denied")["Status"] == "critical"
    assert native(strict, "GET", "/status")["dialbacks"] == 0
    assert not service.file.with_suffix(".log").exists()
