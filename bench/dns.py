"""DNS queries over UDP: a closed loop with a window, every answer checked.

    python -m bench.dns --server 127.0.0.1:8600 --type SRV --names names.txt --seconds 3

``dnsperf`` is taken instead where it is on PATH (see ``queries``): it is written in C and known to everybody.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.load import quantiles
from bench.server import cache, generate, pinned

TYPES = {"A": 1, "SRV": 33}
SOCKETS = 16
WINDOW = 8
"""Queries in flight on each socket."""
LOST_SECONDS = 0.5


def query(name: str, type_: int) -> bytes:
    """A query without its id."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.rstrip(".").split("."))
    return b"\x01\x00\x00\x01\0\0\0\0\0\0" + labels + b"\0" + struct.pack("!HH", type_, 1)


class Run:
    """Counters of one run, and its sockets."""

    def __init__(self, host: str, port: int, queries: list[bytes]) -> None:
        self.queries = itertools.cycle(queries)
        self.latencies: list[float] = []
        self.failed = self.lost = 0
        self.number = 0
        self.sent_at = [0.0] * 65_536
        self.sockets = {}
        for _ in range(SOCKETS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect((host, port))
            sock.setblocking(False)
            self.sockets[sock.fileno()] = sock

    def ask(self, sock: socket.socket) -> None:
        """One more query."""
        self.number = (self.number + 1) & 0xFFFF
        self.sent_at[self.number] = time.perf_counter()
        sock.send(self.number.to_bytes(2, "big") + next(self.queries))

    def taken(self, sock: socket.socket) -> None:
        """Take an answer, check it, ask again."""
        data = sock.recv(65_535)
        self.latencies.append(time.perf_counter() - self.sent_at[int.from_bytes(data[:2], "big")])
        if data[3] & 15 or not (data[6] or data[7]):
            self.failed += 1
        self.ask(sock)


def drive(run: Run, seconds: float) -> dict[str, Any]:
    """Ask for so long."""
    poll = select.epoll()
    for descriptor, sock in run.sockets.items():
        poll.register(descriptor, select.EPOLLIN)
        for _ in range(WINDOW):
            run.ask(sock)
    began, cpu = time.perf_counter(), time.process_time()
    ends = began + seconds
    while time.perf_counter() < ends:
        ready = poll.poll(LOST_SECONDS)
        for descriptor, _ in ready:
            run.taken(run.sockets[descriptor])
        if not ready:
            run.lost += SOCKETS * WINDOW
            for sock in run.sockets.values():
                for _ in range(WINDOW):
                    run.ask(sock)
    spent = time.perf_counter() - began
    return {
        "rate": len(run.latencies) / spent, "operations": len(run.latencies), "latency_ms": quantiles(run.latencies),
        "failed": run.failed, "lost": run.lost, "generator_cpu": (time.process_time() - cpu) / spent,
    }  # fmt: skip


def queries(where: str, names: list[str], type_: str, seconds: float) -> dict[str, Any]:
    """One run, as a process on the second core, by ``dnsperf`` where it is on PATH. ``tool`` says what asked."""
    with tempfile.NamedTemporaryFile("w", dir=cache()) as file:
        if shutil.which("dnsperf") is None:
            file.write("\n".join(names))
            file.flush()
            measured = generate(
                "bench.dns", "--server", where, "--type", type_, "--names", file.name, "--seconds", str(seconds)
            )
            return {**measured, "tool": "python"}
        file.write("".join(f"{name} {type_}\n" for name in names))
        file.flush()
        host, _, port = where.rpartition(":")
        limits = ["-l", str(seconds), "-c", str(SOCKETS), "-q", str(SOCKETS * WINDOW)]
        command = ["dnsperf", "-s", host, "-p", port, "-d", file.name, *limits]
        printed = subprocess.run([*pinned(1), *command], capture_output=True, text=True, check=True, timeout=60).stdout
    return {**_dnsperf(printed), "tool": "dnsperf"}


def _dnsperf(printed: str) -> dict[str, Any]:
    def figure(name: str) -> float:
        found = re.search(rf"{name}[^:\n]*:\s+([\d.]+)", printed)
        return float(found.group(1)) if found else 0.0

    codes = re.search(r"Response codes:\s+(.*)", printed)
    return {
        "rate": figure("Queries per second"), "operations": int(figure("Queries completed")),
        "lost": int(figure("Queries lost")), "codes": codes.group(1).strip() if codes else "",
        "latency_ms": {"mean": figure("Average Latency") * 1000},
    }  # fmt: skip


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--type", choices=TYPES, default="A")
    parser.add_argument("--names", required=True)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    host, _, port = options.server.rpartition(":")
    names = Path(options.names).read_text().split()
    run = Run(host, int(port), [query(name, TYPES[options.type]) for name in names])
    json.dump(drive(run, options.seconds), sys.stdout)


if __name__ == "__main__":
    main()
