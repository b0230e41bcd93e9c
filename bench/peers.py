"""Real etcd and ZooKeeper in the same run, on their own protocols, where they and their load generators are at hand.

etcd is taken from PATH; ZooKeeper from Debian's ``libzookeeper-java`` and ``java``. The load generators are not part
of this repository: the folder that holds them (``etcd/main.go``, ``zookeeper/load_jute.c``) is named by
``TOWNHALL_LOAD`` and is otherwise looked for as ``shared/load`` beside the checkout. They are built into ``.cache``.
Every missing piece is a row that says what is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.server import cache, pinned

Row = dict[str, Any]
LOAD = Path(os.environ.get("TOWNHALL_LOAD", Path(__file__).parents[2] / "shared" / "load"))
ZOOKEEPER_JARS = Path("/usr/share/java")
FIGURES = re.compile(r"\b(rate|p50|p99|max)=([\d.]+)")


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, seconds: float = 60) -> None:
    """Until something listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on 127.0.0.1:{port}")


@contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """A peer on the first core, gone with its files afterwards."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*pinned(0), *command], stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(port)
        yield
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def driven(command: list[str]) -> str:
    """What a load generator on the second core printed."""
    done = subprocess.run([*pinned(1), *command], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def patient(command: list[str], seconds: float = 60) -> None:
    """Run the first command against a server that listens before it serves."""
    deadline = time.monotonic() + seconds
    while subprocess.run([*pinned(1), *command], capture_output=True, timeout=60, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{command[0]} never succeeded")
        time.sleep(0.2)


def built(name: str, command: list[str], folder: Path) -> str:
    """A load generator, built once."""
    target = cache() / name
    if not target.exists():
        subprocess.run([*command, str(target)], cwd=folder, check=True, capture_output=True, timeout=300)
    return str(target)


def middle(rounds: int, run: Callable[[], Row]) -> Row:
    """The median of several rounds by rate."""
    rows = sorted((run() for _ in range(rounds)), key=lambda row: row["per_second"])
    return {**rows[len(rows) // 2], "least": rows[0]["per_second"], "most": rows[-1]["per_second"]}


def etcd(rounds: int) -> list[Row]:
    """Range, Put, keep-alive and watch fan-out over gRPC."""
    binary = shutil.which("etcd")
    if binary is None or shutil.which("go") is None or not (LOAD / "etcd").is_dir():
        return [
            {"what": "etcd: not measured", "missing": "etcd and go on PATH, and the load generator (TOWNHALL_LOAD)"}
        ]
    generator = built("load-etcd", ["go", "build", "-o"], LOAD / "etcd")
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    port, peer, folder = free_port(), free_port(), Path(tempfile.mkdtemp(dir=cache()))
    client_url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    command = [
        binary, "--data-dir", str(folder / "data"), "--listen-client-urls", client_url, "--advertise-client-urls", client_url,
        "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}",
        "--log-level", "error",
    ]  # fmt: skip
    rows = []
    with running(command, port, folder):
        base = [generator, "-addr", f"127.0.0.1:{port}"]
        driven([*base, "fill"])
        for what, arguments in (
            ("Range linearizable, 64×1", ["-op", "range", "-c", "64", "-m", "1"]),
            ("Range linearizable, 8×16", ["-op", "range", "-c", "8", "-m", "16"]),
            ("Put durable, 64×1", ["-op", "put", "-c", "64", "-m", "1"]),
        ):

            def run(what: str = what, arguments: list[str] = arguments) -> Row:
                figures = dict(FIGURES.findall(driven([*base, *arguments, "load"])))
                return {
                    "what": f"etcd {version} {what}", "per_second": float(figures["rate"]),
                    "p50_ms": float(figures["p50"]), "p99_ms": float(figures["p99"]),
                }  # fmt: skip

            rows.append(middle(rounds, run))
        for watchers in (1_000, 10_000):
            printed = driven([*base, "-mode", "many", "-n", str(watchers), "-trials", "10", "fan"])
            sent = re.search(r"send->event p50=([\d.]+) p99=([\d.]+) max=([\d.]+)", printed)
            if sent:
                figures = dict(zip(("p50_ms", "p99_ms", "max_ms"), map(float, sent.groups()), strict=True))
                rows.append({"what": f"etcd {version} change → {watchers:,} watchers", **figures})
    return rows


def zookeeper(rounds: int) -> list[Row]:
    """GetData and durable create over jute frames."""
    if shutil.which("java") is None or not (ZOOKEEPER_JARS / "zookeeper.jar").exists():
        return [{"what": "ZooKeeper: not measured", "missing": "java, and Debian's libzookeeper-java"}]
    if shutil.which("cc") is None or not (LOAD / "zookeeper").is_dir():
        return [{"what": "ZooKeeper: not measured", "missing": "cc, and the load generator (TOWNHALL_LOAD)"}]
    generator = built("load-zookeeper", ["cc", "-O2", "-w", "load_jute.c", "-o"], LOAD / "zookeeper")
    filler = built("fill-zookeeper", ["cc", "-O2", "-w", "zkx.c", "-o"], LOAD / "zookeeper")
    port, folder = free_port(), Path(tempfile.mkdtemp(dir=cache()))
    settings = [
        "tickTime=2000", f"dataDir={folder / 'data'}", f"clientPort={port}", "clientPortAddress=127.0.0.1",
        "admin.enableServer=false", "maxClientCnxns=0",
    ]  # fmt: skip
    (folder / "zoo.cfg").write_text("\n".join(settings))
    main_class = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    command = ["java", "-cp", f"{ZOOKEEPER_JARS}/*", main_class, str(folder / "zoo.cfg")]
    rows = []
    with running(command, port, folder):
        patient([filler, "mk", str(port), "/b", "300"])
        driven([generator, str(port), "64", "1", "30", "g", "/b"])  # a cold JVM would be measured otherwise
        for what, op, depth in (
            ("getData, 64×1", "g", 1),
            ("getData, 8×64", "g", 64),
            ("create durable, 64×1", "c", 1),
        ):
            connections = "64" if depth == 1 else "8"

            def run(what: str = what, op: str = op, depth: int = depth, connections: str = connections) -> Row:
                printed = json.loads(driven([generator, str(port), connections, str(depth), "3", op, "/b"]))
                return {
                    "what": f"ZooKeeper {what}", "per_second": float(printed["rps"]), "p50_us": printed["p50"],
                    "p99_us": printed["p99"], "errors": printed["errs"],
                }  # fmt: skip

            rows.append(middle(rounds, run))
    return rows


def measure(rounds: int) -> list[Row]:
    """All peers that are here, one after the other."""
    return [*etcd(rounds), *zookeeper(rounds)]
