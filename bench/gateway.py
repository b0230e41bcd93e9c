"""``townhall gateway`` beside HAProxy and nginx, where they are on PATH: one backend, one load, one core for the proxy.

Each proxy in turn stands on the first core; the backends and the load share the second. So the proxy is the limit as
long as ``cpu`` is near 1; where it is not, the load or the backend was, and the rate says little about the proxy. Compare
``proxy_us``, the proxy's CPU time for each request, which does not depend on that. Keep-alive on both sides, access logs
off, no TLS. ``direct`` is the load on a backend without a proxy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.peers import free_port, wait_for
from bench.scenarios import median
from bench.server import TOWNHALL, Process, generate, pinned

Row = dict[str, Any]
SECONDS = 5
CONNECTIONS = 64
SIZES = (100, 16_384)
BACKENDS = 2

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    balance roundrobin
    retries 2
    option redispatch
{servers}
"""
NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    upstream out {{
        {servers}
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://out;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""


class Proxy(Process):
    """One proxy on the first core; ``command`` is made from its folder, its port and the backends' ports."""

    def __init__(self, name: str, command: Callable[[Path, int, list[int]], list[str]], ports: list[int]) -> None:
        super().__init__(name)
        self.port = free_port()
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [*pinned(0), *command(self.folder, self.port, ports)], stdout=log, stderr=log, text=True
            )
        wait_for(self.port)


def townhall(folder: Path, port: int, ports: list[int]) -> list[str]:
    """Ours."""
    source = "static://" + ",".join(f"127.0.0.1:{one}" for one in ports)
    return [TOWNHALL, "gateway", "--listen", f"127.0.0.1:{port}", "--route", f"/={source}", "--log-level", "error"]


def haproxy(folder: Path, port: int, ports: list[int]) -> list[str]:
    """HAProxy with one thread."""
    servers = "\n".join(f"    server s{one} 127.0.0.1:{one}" for one in ports)
    (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, servers=servers))
    return ["haproxy", "-f", str(folder / "haproxy.cfg")]


def nginx(folder: Path, port: int, ports: list[int]) -> list[str]:
    """nginx with one worker."""
    servers = "\n        ".join(f"server 127.0.0.1:{one};" for one in ports)
    (folder / "nginx.conf").write_text(NGINX.format(port=port, servers=servers, folder=folder))
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


PROXIES: dict[str, Callable[[Path, int, list[int]], list[str]]] = {
    "townhall": townhall,
    "haproxy": haproxy,
    "nginx": nginx,
}


@contextmanager
def backends(size: int) -> Iterator[list[int]]:
    """Ports of backends on the second core, gone afterwards."""
    ports = [free_port() for _ in range(BACKENDS)]
    command = [*pinned(1), sys.executable, "-m", "bench.gateway_backend"]
    with ExitStack() as stack:
        for port in ports:
            process = subprocess.Popen([*command, str(port), str(size)])
            stack.callback(process.wait)
            stack.callback(process.kill)
            wait_for(port)
        yield ports


def one_run(port: int, folder: Path, proxy: Proxy | None) -> Row:
    """One load; the share of its core that the proxy took, and its time for each request."""
    plan = folder / "plan.json"
    plan.write_text(
        json.dumps(
            {
                "connections": CONNECTIONS,
                "seconds": SECONDS,
                "requests": [{"method": "GET", "path": "/users/1?verbose=1"}],
            }
        )
    )
    before = proxy.cpu() if proxy is not None else 0.0
    measured = generate("bench.load", "--url", f"http://127.0.0.1:{port}", "--plan", str(plan))
    bad = {status: count for status, count in measured["statuses"].items() if status != "200"}
    row = {
        "rate": measured["rate"],
        "p50": measured["latency_ms"]["p50"],
        "p99": measured["latency_ms"]["p99"],
        "generator_cpu": measured["generator_cpu"],
    }
    if proxy is not None:
        used = proxy.cpu() - before
        row |= {"cpu": used / measured["seconds"], "proxy_us": used / measured["operations"] * 1e6}
        row["memory_mb"] = proxy.memory() / 1e6
    return row | ({"failed": f"statuses {bad}"} if bad else {})


def gateway(rounds: int) -> list[Row]:
    """The gateway beside HAProxy and nginx on one core: rate, latency, CPU time of the proxy for each request."""
    rows: list[Row] = []
    for size in SIZES:
        with backends(size) as ports:
            made: dict[str, Proxy] = {}
            try:
                for name, command in PROXIES.items():
                    if shutil.which(name) or name == "townhall":
                        made[name] = Proxy(name, command, ports)
                    else:
                        rows.append({"what": f"{name}, {size} bytes", "missing": f"{name} is not on PATH"})
                folder = made["townhall"].folder
                direct = median(rounds, lambda port=ports[0], at=folder: one_run(port, at, None))  # type: ignore[misc]
                rows.append({"what": f"direct, {size} bytes", **direct})
                for name, proxy in made.items():
                    run = median(rounds, lambda one=proxy, at=folder: one_run(one.port, at, one))  # type: ignore[misc]
                    rows.append({"what": f"{name}, {size} bytes", **run})
            finally:
                for proxy in made.values():
                    proxy.remove()
    return rows


SCENARIOS = {"gateway": gateway}
