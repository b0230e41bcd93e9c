"""The SDK: the published experiment, what a choice costs, and what a call costs over bare httpx."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench import calls
from bench.scenarios import Row, median
from bench.server import generate, pinned

RATE = 1_000
BACKENDS = 11
DELAY_MS = 167
SPREAD_MS = 5
SECONDS = 60
"""With the one backend slow for the middle half: 30 s, as published."""
PUBLISHED = {"round_robin": 0.95, "least_outstanding": 0.99, "peak_ewma": 0.999}
"""Success within a second, as Linkerd reports it («Beyond round robin», 2016)."""
SIZES = (10, 1_000, 100_000)
CLIENTS = ("httpx", "sdk", "sdk-httpx", "sdk-transport-httpx", "sdk-bare")


@contextmanager
def backends(count: int, *, delay_ms: float = 0.0, spread_ms: float = 0.0) -> Iterator[list[int]]:
    """The ports of so many backends, in one process on the first core."""
    figures = ("--count", str(count), "--delay-ms", str(delay_ms), "--spread-ms", str(spread_ms))
    command = [*pinned(0), sys.executable, "-m", "bench.upstreams", *figures]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["ports"]
    finally:
        process.kill()
        process.wait()


def experiment(rounds: int) -> list[Row]:
    """The published experiment, real calls: 11 backends, 1,000/s, one at 2 s for 30 s; success within a second."""
    rows = []
    for balancer, published in PUBLISHED.items():
        with backends(BACKENDS, delay_ms=DELAY_MS, spread_ms=SPREAD_MS) as ports:

            def run(balancer: str = balancer, ports: list[int] = ports) -> Row:
                listed = ",".join(map(str, ports))
                figures = ("--rate", str(RATE), "--seconds", str(SECONDS))
                return generate("bench.experiment", "--balancer", balancer, "--ports", listed, *figures)

            measured = median(rounds, run, by="success")
        row: Row = {
            "what": balancer,
            "success": f"{measured['success']:.2%}",
            "published": f"{published:.1%}",
            "least": f"{measured['least']:.2%}",
            "most": f"{measured['most']:.2%}",
            "calls": measured["calls"],
            "failed": measured["failed"],
            **{f"{key}_ms": value for key, value in measured["latency_ms"].items()},
            "lag_p99_ms": measured["lag_ms"]["p99"],
            "generator_cpu": measured["generator_cpu"],
        }
        rows.append(row)
    return rows


def picks(rounds: int) -> list[Row]:
    """A pick, the first build and a change with 10, 1,000 and 100,000 instances; CPU time."""
    rows = []
    for size in SIZES:
        measured = [generate("bench.picks", "--instances", str(size)) for _ in range(rounds)]
        for name in measured[0]:
            figures = {key: sorted(one[name][key] for one in measured)[rounds // 2] for key in measured[0][name]}
            rows.append({"what": f"{name}, {size:,} instances", **figures})
    return rows


def call_overhead(rounds: int) -> list[Row]:
    """The same GET with bare httpx, with users.get, and with users.call around httpx: CPU time for each, and latency."""
    rows = []
    with backends(1) as (port,):
        for at_once in (1, 32):
            for client in CLIENTS:
                if not calls.available(client):
                    rows.append({"what": f"{client}, {at_once} at once", "missing": "httpx is not installed"})
                    continue

                def run(client: str = client, at_once: int = at_once) -> Row:
                    figures = ("--client", client, "--at-once", str(at_once))
                    return generate("bench.calls", "--port", str(port), *figures)

                measured = median(rounds, run, by="cpu_us")
                row: Row = {
                    "what": f"{client}, {at_once} at once",
                    "cpu_us": measured["cpu_us"],
                    "least": measured["least"],
                    "most": measured["most"],
                    "per_second": measured["rate"],
                    **{f"{key}_ms": value for key, value in measured["latency_ms"].items()},
                }
                rows.append(row)
    return rows


SCENARIOS: dict[str, Callable[[int], list[Row]]] = {
    "sdk-experiment": experiment,
    "sdk-picks": picks,
    "sdk-calls": call_overhead,
}
