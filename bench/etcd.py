"""The etcd face beside real etcds (``bench.engines``): gRPC, watches, the JSON gateway, memory and restart.

Both keep their data on disk and answer a write when it is there. The load generator is ``etcd_load.go`` beside this
file, built into the cache with ``go``: calls at the rate that is measured here would make one in Python the limit.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import engines
from bench.compare import Aim, Row, Side, beside, compare, loaded, together
from bench.peers import free_port, wait_for
from bench.server import Process, Server, cache, load, pinned, unrestricted

SECONDS = 3
KEYS = 10_000
MANY_KEYS = 1_000_000
SHAPES = ((1, 64), (8, 16), (64, 1))
SETTLE_SECONDS = 3
"""After a fill: a collector catches up before memory is read."""
FIRST_ANSWER_SECONDS = 120
GENERATOR_SECONDS = 600
WATCHING_SECONDS = 1
"""Between the last watch and the first change: memory is read when a collector has caught up."""


# --- the two servers


def townhall() -> Side:
    """Ours, durable, with etcd's protocol."""
    running = Server(arguments=["--etcd", "0"])
    try:
        running.start()
    except BaseException:
        running.remove()
        raise
    return Side("townhall", "", running, {"http": running.listen["etcd"]})


class Etcd(Process):
    """A real etcd of one member."""

    def __init__(self, binary: str) -> None:
        super().__init__("etcd")
        self.binary = binary
        self.port, self.peer_port = free_port(), free_port()

    def start(self) -> None:
        """Start it, or start it again on its data."""
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"
        command = [
            *pinned(0), self.binary, "--data-dir", str(self.folder / "data"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--log-level", "error", "--quota-backend-bytes", str(8 << 30),
        ]  # fmt: skip
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        wait_for(self.port, FIRST_ANSWER_SECONDS)


def version_of(binary: str) -> str:
    """What an etcd calls itself."""
    printed = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return printed.splitlines()[0].rpartition(" ")[2]


def real(binary: str, name: str, version: str) -> Side:
    """A real etcd, its data on the same disk."""
    running = Etcd(binary)
    try:
        running.start()
    except BaseException:
        running.remove()
        raise
    return Side(name, version, running, {"http": f"127.0.0.1:{running.port}"})


@contextmanager
def sides() -> Iterator[list[Side]]:
    """Townhall, and the real ones; where there are several, their figures stand under their versions."""
    found = {binary: version_of(binary) for binary in engines.etcds()}
    makers = [
        partial(real, binary, f"etcd {version}" if len(found) > 1 else "etcd", version)
        for binary, version in found.items()
    ]
    with together([townhall, *makers]) as running:
        yield running


def about(running: list[Side]) -> list[Row]:
    """The row that says what it was compared with."""
    return beside("etcd", running, "TOWNHALL_ETCDS, etcd on PATH, or apt-get or pip that can fetch it")


# --- the generator


def generator() -> str:
    """The load generator, built once for each state of its source."""
    source = Path(__file__).with_name("etcd_load.go")
    target = cache() / "etcd_load"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        command = ["go", "build", "-o", str(target), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    return str(target)


def drive(side: Side, *arguments: object) -> dict[str, Any]:
    """One run of the generator on the second core."""
    command = [*pinned(1), generator(), side.where["http"], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GENERATOR_SECONDS, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def calls_of(*arguments: object) -> Callable[[Side], Row]:
    """Calls for some seconds; the row says how many answers were wrong, if any were."""

    def run(side: Side) -> Row:
        row = drive(side, *arguments, SECONDS)
        if not row["bad"]:
            del row["bad"]
        return row

    return run


# --- scenarios


def calls(rounds: int) -> list[Row]:
    """Reads, writes, leases and keep-alives over gRPC, in three shapes of connections × streams."""
    with sides() as running:
        for side in running:
            drive(side, "fill", KEYS)
        rows = about(running)
        for op, times in (("range", 3), ("serializable", 3), ("put", 2), ("txn", 2), ("mixed", 2)):
            for connections, streams in SHAPES:
                run = calls_of("load", op, connections, streams)
                rows.append(compare(f"{op}, {connections}×{streams}", running, rounds, Aim(times), run))
        for op, times in (("ten", 3), ("thousand", 5), ("grant", 2)):
            rows.append(compare(f"{op}, 8×16", running, rounds, Aim(times), calls_of("load", op, 8, 16)))
        for connections, streams in ((1, 64), (64, 1)):
            run = calls_of("keepalive", connections, streams)
            rows.append(compare(f"keep-alive, {connections}×{streams}", running, rounds, Aim(2), run))
        return rows


def free(rounds: int) -> list[Row]:
    """Some of the calls with every core for the servers, shared with the load: Townhall uses one, etcd all."""
    with unrestricted(), sides() as running:
        for side in running:
            drive(side, "fill", KEYS)
        rows = about(running)
        for op, times in (("range", 3), ("put", 2), ("txn", 2), ("grant", 2)):
            rows.append(compare(f"{op}, 8×16", running, rounds, Aim(times), calls_of("load", op, 8, 16)))
        rows.append(compare("keep-alive, 1×64", running, rounds, Aim(2), calls_of("keepalive", 1, 64)))
        return rows


def watches(rounds: int) -> list[Row]:
    """One key and all who watch it, on one stream and on many; then a thousand keys with ten watchers each."""
    with sides() as running:
        rows = about(running)
        for watchers, changes in ((1_000, 20), (10_000, 10)):
            for connections, streams in ((1, 1), (8, watchers // 8)):
                where = "one stream" if streams == 1 else f"{watchers:,} streams"

                def run(side: Side, shape: tuple[int, ...] = (1, watchers, connections, streams, changes)) -> Row:
                    return _fanout(side, *shape)

                aim = Aim(10, "last_ms", less=True)
                rows.append(compare(f"change → {watchers:,} watchers on {where}", running, rounds, aim, run))

        def many(side: Side) -> Row:
            return _fanout(side, 1_000, 10, 8, 1, 5)

        rows.append(compare("1,000 keys × 10 watchers", running, rounds, Aim(2), many))
    # Servers that have not had watchers before: what they keep of earlier ones would hide what these cost.
    for connections, streams in ((8, 1_250), (1_000, 10)):
        with sides() as running:

            def crowd(side: Side, shape: tuple[int, ...] = (1, 10_000, connections, streams, 1)) -> Row:
                return _fanout(side, *shape)

            aim = Aim(4, "watcher_bytes", less=True)
            rows.append(compare(f"10,000 watch streams, {connections:,}×{streams:,}", running, 1, aim, crowd))
    return rows


def _fanout(side: Side, *shape: int) -> Row:
    """Keys that are watched and changed. ``watcher_bytes`` is what the server grew by until all of them watched."""
    before = side.process.memory()
    command = [*pinned(1), generator(), side.where["http"], "fanout", *map(str, shape)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            watching = json.loads(process.stdout.readline())["watching"]
            time.sleep(WATCHING_SECONDS)
            each = (side.process.memory() - before) / watching
            printed, _ = process.communicate("\n", GENERATOR_SECONDS)
        except BaseException:
            process.kill()
            raise
    row: Row = json.loads(printed)
    # What is left when they are gone is the allocator's.
    return {**row, "watcher_bytes": each, "left_bytes": side.process.memory() - before}


def gateway(rounds: int) -> list[Row]:
    """The JSON gateway, 64 connections."""
    with sides() as running:
        for side in running:
            drive(side, "fill", KEYS)
        rows = about(running)
        value = base64.b64encode(b"v" * 256).decode()
        keys = [base64.b64encode(f"k/{number:08d}".encode()).decode() for number in range(0, KEYS, 10)]
        for name, body in (("range", {}), ("put", {"value": value})):
            requests = [
                {"method": "POST", "path": f"/v3/kv/{name}", "body": json.dumps({"key": key, **body})} for key in keys
            ]

            def run(side: Side, requests: list[dict[str, str]] = requests) -> Row:
                return loaded(load(side.url(), connections=64, seconds=SECONDS, requests=requests))

            rows.append(compare(f"gateway {name}, 64 connections", running, rounds, Aim(5), run))
        return rows


def scale(rounds: int) -> list[Row]:
    """A million keys: what one costs, and how long a restart after a kill takes until the first answer."""
    with sides() as running:
        rows = about(running)

        def fill(side: Side) -> Row:
            before = side.process.memory()
            filled = drive(side, "fill", MANY_KEYS)
            time.sleep(SETTLE_SECONDS)
            each = (side.process.memory() - before) / filled["operations"]
            return {"bytes_per_key": each, "fill_seconds": filled["seconds"]}

        rows.append(compare("a million keys of 256 bytes", running, 1, Aim(1, "bytes_per_key", less=True), fill))
        aim = Aim(1, "restart_seconds", less=True)
        rows.append(compare("restart with them", running, rounds, aim, _restart))
        return rows


def _restart(side: Side) -> Row:
    side.process.stop(signal.SIGKILL)
    began = time.perf_counter()
    assert isinstance(side.process, Server | Etcd)
    side.process.start()
    if isinstance(side.process, Server):
        side.where["http"] = side.process.listen["etcd"]
    deadline = began + FIRST_ANSWER_SECONDS
    body = json.dumps({"key": base64.b64encode(b"k/00000000").decode()})
    plan = {"connections": 1, "requests": [{"method": "POST", "path": "/v3/kv/range", "body": body}]}
    while True:
        try:
            if list(load(side.url(), once=True, **plan)["statuses"]) == ["200"]:
                return {"restart_seconds": time.perf_counter() - began}
        except subprocess.CalledProcessError:
            if time.perf_counter() > deadline:
                raise
        time.sleep(0.05)


SCENARIOS: dict[str, Callable[[int], list[Row]]] = {
    "etcd-calls": calls,
    "etcd-free": free,
    "etcd-watches": watches,
    "etcd-gateway": gateway,
    "etcd-scale": scale,
}
