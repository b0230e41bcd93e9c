"""The Consul face beside a real Consul, where ``consul`` is on PATH: HTTP, blocking queries and DNS.

Both keep their data on disk and answer a write when it is there. The real one is a single server whose limits on
connections are raised; everything else is its default. Without it, Townhall's figures stand alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.compare import Aim, Row, Side, beside, compare, loaded, together
from bench.dns import queries
from bench.peers import free_port
from bench.server import Process, Server, generate, load, pinned

SERVICES = 1_000
PER_SERVICE = 10
NODES = 100
CONNECTIONS = 64
SECONDS = 3
KEYS = 10_000
CHECKS = 10_000
PROBE_SECONDS = 10
VALUE = "v" * 300
START_SECONDS = 60
SETTLE_SECONDS = 3
"""After a fill: a collector and an index catch up before memory is read."""
Request = dict[str, str]


# --- the two servers


def townhall() -> Side:
    """Ours, durable, with Consul's HTTP and DNS."""
    running = Server(arguments=["--consul", "0", "--dns", "0"])
    try:
        running.start()
    except BaseException:
        running.remove()
        raise
    listen = running.listen
    return Side("townhall", "", running, {"http": listen["consul"], "dns": listen["dns"]})


def real_version() -> str:
    """What ``consul`` on PATH calls itself; '' without one."""
    binary = shutil.which("consul")
    if binary is None:
        return ""
    printed = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout
    return printed.splitlines()[0].removeprefix("Consul ")


def real() -> Side:
    """A real Consul: one server, its data on the same disk."""
    running = Process("consul")
    ports = {name: free_port() for name in ("http", "dns", "server", "serf_lan", "serf_wan")}
    settings = {
        "server": True, "bootstrap_expect": 1, "node_name": "bench", "data_dir": str(running.folder / "data"),
        "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "log_level": "error", "disable_update_check": True,
        "ports": {**ports, "grpc": -1, "grpc_tls": -1}, "limits": {"http_max_conns_per_client": 15_000},
    }  # fmt: skip
    (running.folder / "bench.json").write_text(json.dumps(settings))
    command = [*pinned(0), "consul", "agent", "-config-file", str(running.folder / "bench.json")]
    side = Side("consul", real_version(), running, {name: f"127.0.0.1:{port}" for name, port in ports.items()})
    try:
        with (running.folder / "log").open("w") as log:
            running.process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        _wait_for_leader(side)
    except BaseException:
        running.remove()
        raise
    return side


def _wait_for_leader(side: Side) -> None:
    """Until it takes writes."""
    deadline = time.monotonic() + START_SECONDS
    body = json.dumps({"Node": "probe", "Address": "127.0.0.9"})
    while True:
        try:
            plan = {"connections": 1, "requests": [{"method": "PUT", "path": "/v1/catalog/register", "body": body}]}
            if list(load(side.url(), once=True, **plan)["statuses"]) == ["200"]:
                return
        except subprocess.CalledProcessError:
            pass  # Nothing listens yet.
        if time.monotonic() > deadline:
            raise RuntimeError("consul takes no writes")
        time.sleep(0.2)


@contextmanager
def sides() -> Iterator[list[Side]]:
    """Townhall, and the real one where it is."""
    with together([townhall, real] if real_version() else [townhall]) as running:
        yield running


def about(running: list[Side]) -> list[Row]:
    """The row that says what it was compared with."""
    return beside("Consul", running, "consul on PATH")


# --- what is sent


def put(path: str, body: object) -> Request:
    """A PUT with a JSON body."""
    return {"method": "PUT", "path": path, "body": json.dumps(body)}


def get(path: str) -> Request:
    """A GET."""
    return {"method": "GET", "path": path}


def registration(service: int, number: int) -> Request:
    """One instance of the catalogue with a check, on one of a hundred nodes."""
    name = f"svc-{service}"
    node = (service * PER_SERVICE + number) % NODES
    id_ = f"{name}-{number}"
    described = {
        "ID": id_, "Service": name, "Tags": ["http", f"v{service % 7}"], "Address": f"127.{1 + number}.{service // 250}.{1 + service % 250}",
        "Port": 8000 + number,
        "Meta": {"version": f"1.{service % 7}.{number % 5}", "zone": f"zone-{number % 3}", "team": f"team-{service % 40}"},
    }  # fmt: skip
    check = {
        "Node": f"node-{node}", "CheckID": f"c:{id_}", "Name": "http", "Status": "passing", "ServiceID": id_,
        "Output": "HTTP GET: 200 OK",
    }  # fmt: skip
    where = {"Node": f"node-{node}", "Address": f"127.250.0.{node + 1}"}
    return put("/v1/catalog/register", {**where, "Service": described, "Check": check})


def agent_service(id_: str) -> object:
    """A service of the agent with a TTL check."""
    return {
        "ID": id_, "Name": f"agent-{id_}", "Tags": ["http", "v1"], "Address": "127.9.0.1", "Port": 8000,
        "Meta": {"version": "1.2.3", "zone": "zone-a", "team": "team-01"},
        "Check": {"CheckID": f"c:{id_}", "Name": "ttl", "TTL": "1h", "Status": "passing"},
    }  # fmt: skip


def steady(requests: list[Request], seconds: float = SECONDS) -> Callable[[Side], Row]:
    """A run of these for some seconds over all connections."""
    plan = {"connections": CONNECTIONS, "seconds": seconds, "requests": requests}

    def run(side: Side) -> Row:
        plan["first"] = int(time.time() * 1000) % 10**9 * 1000  # ``{n}`` is never the same twice.
        return loaded(load(side.url(), **plan))

    return run


def all_of(requests: list[Request]) -> Callable[[Side], Row]:
    """A run of each of these once."""
    return lambda side: loaded(load(side.url(), connections=CONNECTIONS, requests=requests, once=True))


# --- scenarios


def catalogue(rounds: int) -> list[Row]:
    """Registration of 10,000 instances, what they take, reads of them, and DNS."""
    with sides() as running:
        empty = {side.name: side.process.memory() for side in running}
        fill = [registration(service, number) for number in range(PER_SERVICE) for service in range(SERVICES)]
        rows = [*about(running), compare("catalog/register, new, durable", running, 1, Aim(30), all_of(fill))]
        time.sleep(SETTLE_SECONDS)

        def memory(side: Side) -> Row:
            return {"bytes_per_instance": (side.process.memory() - empty[side.name]) / len(fill)}

        rows.append(compare("memory", running, 1, Aim(10, "bytes_per_instance", less=True), memory))
        names = [f"svc-{service}" for service in range(SERVICES)]
        for what, times, requests in (
            ("health/service?passing, 1,000 × 10", 15, [get(f"/v1/health/service/{name}?passing") for name in names]),
            ("catalog/service, 1,000 × 10", 15, [get(f"/v1/catalog/service/{name}") for name in names]),
            ("catalog/services, 1,000 names", 15, [get("/v1/catalog/services")]),
        ):
            rows.append(compare(what, running, rounds, Aim(times), steady(requests)))
        for type_ in ("A", "SRV"):
            asked = [f"{name}.service.consul" for name in names]

            def run(side: Side, type_: str = type_, asked: list[str] = asked) -> Row:
                measured = queries(side.where["dns"], asked, type_, SECONDS)
                shown = {name: value for name, value in measured.items() if name not in ("rate", "latency_ms")}
                return {"per_second": measured["rate"], **_spelled(measured["latency_ms"], "ms"), **shown}

            rows.append(compare(f"DNS {type_} over UDP", running, rounds, Aim(12), run))
        return rows


def kv(rounds: int) -> list[Row]:
    """Keys of 300 bytes."""
    with sides() as running:
        paths = [f"/v1/kv/app/config/{n}" for n in range(KEYS)]
        rows = about(running)
        all_keys = [{"method": "PUT", "path": path, "body": VALUE} for path in paths]
        for side in running:
            load(side.url(), connections=CONNECTIONS, requests=all_keys, once=True)
        changing = [{"method": "PUT", "path": path, "body": VALUE + "{n}"} for path in paths]
        rows.append(compare("KV put, durable", running, rounds, Aim(10), steady(changing)))
        rows.append(compare("KV get", running, rounds, Aim(6), steady([get(path) for path in paths])))
        rows.append(compare("KV get ?raw", running, rounds, Aim(6), steady([get(f"{path}?raw") for path in paths])))
        return rows


def agent(rounds: int) -> list[Row]:
    """What services do themselves: pass their TTL checks, and register; with a thousand of them on the agent."""
    with sides() as running:
        rows = about(running)
        fill = [put("/v1/agent/service/register", agent_service(f"s{number}")) for number in range(SERVICES)]
        for side in running:
            load(side.url(), connections=CONNECTIONS, requests=fill, once=True)
        passes = [{"method": "PUT", "path": f"/v1/agent/check/pass/c:s{number}"} for number in range(SERVICES)]
        rows.append(compare("agent/check/pass, 1,000 services on it", running, rounds, Aim(50), steady(passes)))
        new = [put("/v1/agent/service/register", agent_service("n{n}"))]
        what = "agent/service/register, new, durable"
        return [*rows, compare(what, running, rounds, Aim(30), steady(new))]


def fanout(rounds: int) -> list[Row]:
    """One change and everybody whose blocking query waits for it: until the whole answer is there."""
    with sides() as running:
        rows = about(running)
        for watchers, changes in ((1_000, 10), (10_000, 3)):

            def run(side: Side, watchers: int = watchers, changes: int = changes) -> Row:
                counts = ("--watchers", str(watchers), "--changes", str(changes))
                measured = generate("bench.parked", "--url", side.url(), *counts)
                return {
                    **_spelled(measured["latency_ms"], "ms"),
                    "p99_after_answer_ms": measured["after_answer_ms"]["p99"],
                    "writer_p99_ms": measured["writer_ms"]["p99"],
                    "early": measured["early"],
                    "generator_ms": measured["generator_ms"],
                }

            aim = Aim(15, "p99_ms", less=True)
            rows.append(compare(f"change → {watchers:,} blocking queries", running, rounds, aim, run))
        return rows


def probes(rounds: int) -> list[Row]:
    """What 10,000 TCP checks every ten seconds cost the one process that makes them; ours alone."""
    with together([townhall]) as (side,), socket.create_server(("127.0.0.1", 0), backlog=1024) as target:
        taker = threading.Thread(target=_take, args=(target,), daemon=True)
        taker.start()
        port = target.getsockname()[1]
        requests = [put("/v1/agent/service/register", _probed(number, port)) for number in range(CHECKS)]
        load(side.url(), connections=CONNECTIONS, requests=requests, once=True)
        time.sleep(PROBE_SECONDS + 2)
        rows = []
        for _ in range(rounds):
            before, began, count = side.process.cpu(), time.perf_counter(), _probe_count(side)
            time.sleep(PROBE_SECONDS)
            seconds = time.perf_counter() - began
            made = _probe_count(side) - count
            spent = side.process.cpu() - before
            rows.append({"cpu": spent / seconds, "probes_per_second": made / seconds, "probe_us": spent / made * 1e6})
        rows.sort(key=lambda row: row["cpu"])
        return [{"what": f"{CHECKS:,} TCP checks every {PROBE_SECONDS} s", **rows[len(rows) // 2]}]


def _probed(number: int, port: int) -> object:
    check = {"TCP": f"127.0.0.1:{port}", "Interval": f"{PROBE_SECONDS}s", "Timeout": "5s"}
    return {
        "ID": f"p{number}",
        "Name": f"probed-{number % 1_000}",
        "Address": "127.0.0.1",
        "Port": port,
        "Check": check,
    }


def _take(target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # The socket is closed at the end.
        while True:
            target.accept()[0].close()


def _probe_count(side: Side) -> int:
    assert isinstance(side.process, Server)
    with urllib.request.urlopen(side.process.url + "/api/v1/status", timeout=30) as answer:
        return int(json.load(answer)["probes"])


def _spelled(figures: dict[str, Any], unit: str) -> Row:
    return {f"{name}_{unit}": value for name, value in figures.items() if name in ("p50", "p99", "max", "mean")}


SCENARIOS: dict[str, Callable[[int], list[Row]]] = {
    "consul-catalogue": catalogue,
    "consul-kv": kv,
    "consul-agent": agent,
    "consul-fanout": fanout,
    "consul-probes": probes,
}
