"""The scenarios: each takes how many rounds and returns rows of one table. Nothing is asserted, everything reported."""

from __future__ import annotations

import json
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any
from urllib import request as urlrequest

from bench.server import Server, generate, load, server

Row = dict[str, Any]
SERVICES = 1_000
PER_SERVICE = 10
BATCH = 1_000
METADATA = {"version": "1.4.2", "framework": "none", "team": "payments"}


def post(url: str, path: str, body: object) -> Any:
    """One JSON POST."""
    sent = urlrequest.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urlrequest.urlopen(sent, timeout=120) as answer:
        return json.load(answer)


def instance(number: int, service: str, **more: object) -> dict[str, object]:
    """A typical instance: about 200 bytes as answered."""
    third, fourth = divmod(number // 200, 200)
    return {
        "service": service, "id": f"{service}-{number}", "address": f"127.{9 + third // 200}.{third % 200}.{fourth + 1}",
        "port": 8000 + number % 200, "tags": ["v1", "http"], "metadata": METADATA, "zone": "a", **more,
    }  # fmt: skip


def fill(url: str, *, services: int, each: int, **more: object) -> list[str]:
    """Register ``services * each`` instances in batches; returns their leases."""
    leases, batch = [], []
    total = services * each
    for number in range(total):
        batch.append(instance(number, f"service-{number % services}", **more))
        if len(batch) == BATCH or number == total - 1:
            results = post(url, "/api/v1/instances/batch", {"instances": batch})["results"]
            leases += [result["lease"] for result in results]
            batch = []
    return leases


def median(rounds: int, run: Callable[[], Row], *, by: str = "rate") -> Row:
    """The median of several runs of one measurement, with the least and the most."""
    rows = sorted((run() for _ in range(rounds)), key=lambda row: row[by])
    middle = rows[len(rows) // 2]
    return {**middle, "rounds": rounds, "least": rows[0][by], "most": rows[-1][by]}


def report(name: str, measured: Row) -> Row:
    """A row from what ``bench.load`` printed."""
    bad = {status: count for status, count in measured["statuses"].items() if int(status) >= 400}
    row = {
        "what": name, "per_second": measured["rate"], "least": measured["least"], "most": measured["most"],
        **{f"{key}_ms": value for key, value in measured["latency_ms"].items()},
        "generator_cpu": measured["generator_cpu"],
    }  # fmt: skip
    return {**row, "errors": bad} if bad else row


def reads(rounds: int) -> list[Row]:
    """Discovery reads: one service of ten instances, out of a thousand services, over 64 connections."""
    with server() as running:
        fill(running.url, services=SERVICES, each=PER_SERVICE, persistent=True)
        paths = [f"/api/v1/services/service-{n}/instances?healthy=1" for n in range(SERVICES)]
        plan = {"connections": 64, "seconds": 4, "requests": [{"method": "GET", "path": path} for path in paths]}
        rows = [report("discovery read, 1,000 services × 10", median(rounds, lambda: load(running.url, **plan)))]
        single = {**plan, "connections": 1, "seconds": 2}
        rows.append(report("discovery read, one connection", median(rounds, lambda: load(running.url, **single))))
        with urlrequest.urlopen(running.url + paths[0]) as answer:
            rows[0]["answer_bytes"] = len(answer.read())
        return rows


def registrations(rounds: int) -> list[Row]:
    """Durable registrations of new instances: every answer after its sync."""
    rows = []
    first = 0
    for connections in (1, 64, 512):
        with server() as running:

            def run(running: Server = running, connections: int = connections) -> Row:
                nonlocal first
                first += 10_000_000
                body = json.dumps(instance(7, "register")).replace('"register-7"', '"i{n}"')
                request = {"method": "POST", "path": "/api/v1/instances", "body": body}
                return load(running.url, connections=connections, seconds=3, first=first, requests=[request])

            rows.append(report(f"durable register, {connections} connections", median(rounds, run)))
    return rows


def renewals(rounds: int) -> list[Row]:
    """Heartbeats: one lease a request, and 500 in one."""
    with server() as running:
        leases = fill(running.url, services=100, each=100, ttl_ms=600_000)
        single = [{"method": "PUT", "path": f"/api/v1/leases/{lease}"} for lease in leases]
        plan: Row = {"connections": 64, "seconds": 3, "requests": single}
        rows = [report("renewal, one a request", median(rounds, lambda: load(running.url, **plan)))]
        bodies = [json.dumps({"leases": leases[n : n + 500]}) for n in range(0, len(leases), 500)]
        many = {**plan, "requests": [{"method": "POST", "path": "/api/v1/renew", "body": body} for body in bodies]}
        row = report("renewals in batches of 500", median(rounds, lambda: load(running.url, **many)))
        for key in ("per_second", "least", "most"):
            row[key] *= 500
        return [*rows, row]


def fanout(rounds: int) -> list[Row]:
    """One change and everybody who watches: from the sent PATCH to each watcher's callback."""
    rows = []
    for watchers in (1, 1_000, 10_000):
        changes = 200 if watchers == 1 else 40 if watchers == 1_000 else 10

        def run(watchers: int = watchers, changes: int = changes) -> Row:
            with server() as running:
                before = running.memory()
                counts = ("--watchers", str(watchers), "--changes", str(changes))
                measured = generate("bench.fanout", "--url", running.url, *counts)
                latency = measured["latency_ms"]
                return {
                    "what": f"change → {watchers:,} watchers", **{f"{key}_ms": value for key, value in latency.items()},
                    "writer_p99_ms": measured["writer_ms"]["p99"],
                    "bytes_per_watcher": (running.memory() - before) / watchers if watchers > 1 else None,
                }  # fmt: skip

        rows.append(median(rounds, run, by="p99_ms"))
    return rows


def detection(rounds: int) -> list[Row]:
    """SIGKILL of a provider process until a consumer's callback says it may not be called."""
    with server(arguments=["--floor-registry", "0"]) as running:
        measured = generate("bench.detection", "--url", running.url, "--kills", str(max(20, 10 * rounds)))
        return [
            {"what": "provider killed → consumer told", **{f"{k}_ms": v for k, v in measured["latency_ms"].items()}}
        ]


def scale(rounds: int, *, sizes: tuple[int, ...] = (1_000, 100_000, 1_000_000)) -> list[Row]:
    """Memory, restart and the cost of each operation as the registry grows; and answers while it saves a snapshot."""
    rows = []
    for size in sizes:
        with server() as running:
            empty = running.memory()
            began = time.perf_counter()
            leases = fill(running.url, services=max(10, size // 100), each=min(100, size // 10), ttl_ms=3_600_000)
            filled = time.perf_counter() - began
            row: Row = {
                "what": f"{size:,} instances", "fill_per_second": size / filled,
                "bytes_per_instance": (running.memory() - empty) / size,
            }  # fmt: skip
            read = {"method": "GET", "path": "/api/v1/services/service-3/instances?healthy=1"}
            renew = [{"method": "PUT", "path": f"/api/v1/leases/{lease}"} for lease in leases[:20_000]]
            body = json.dumps(instance(7, "extra")).replace('"extra-7"', '"x{n}"')
            write = {"method": "POST", "path": "/api/v1/instances", "body": body}
            for name, requests in (("read", [read]), ("renew", renew), ("register", [write])):
                first = int(time.time() * 1000) % 10**9 * 1000
                plan = {"connections": 64, "seconds": 2, "requests": requests, "first": first}
                row[f"{name}_per_second"] = median(rounds, lambda plan=plan: load(running.url, **plan))["rate"]
            running.stop(signal.SIGKILL)
            row["restart_seconds"] = statistics.median(restart(running) for _ in range(max(1, rounds)))
            rows.append(row)
    return rows


def restart(running: Server) -> float:
    """Seconds from the start of the process until it answers, after a kill."""
    running.stop(signal.SIGKILL)
    return running.start()


def start(rounds: int) -> list[Row]:
    """An empty registry from the start of its process to its first answer."""
    seconds = []
    for _ in range(max(5, rounds)):
        with server() as running:
            running.stop()
            began = time.perf_counter()
            running.start()
            with urlrequest.urlopen(running.url + "/api/v1/services") as answer:
                answer.read()
            seconds.append(time.perf_counter() - began)
    return [{"what": "start → first answer", "seconds": statistics.median(seconds), "most_seconds": max(seconds)}]


SCENARIOS: dict[str, Callable[[int], list[Row]]] = {
    "reads": reads,
    "registrations": registrations,
    "renewals": renewals,
    "fanout": fanout,
    "detection": detection,
    "scale": scale,
    "start": start,
}
