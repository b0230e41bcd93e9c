"""Parked blocking queries of Consul's API, and one change they all wait for.

    python -m bench.parked --url http://127.0.0.1:8500 --watchers 1000 --changes 10

Each watcher waits for one service of ten instances. A change registers one of them anew; it is told when the whole
answer is there. Latencies count from when the change was sent, and from when its answer had come (``after_answer_ms``;
below 0: sooner). One process over epoll and plain sockets; what it costs itself for each change is reported (``generator_ms``), so that
one sees when it is the limit. Several source addresses, so that one's ports do not run out.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from bench.load import LAST_CHUNK, LENGTH, quantiles

SERVICE = "fanout"
INSTANCES = 10
INDEX = re.compile(rb"\r\n[Xx]-[Cc]onsul-[Ii]ndex: *(\d+)\r\n")
WAIT_SECONDS = 120
SIZE = 1 << 18


def body(number: int, mark: str) -> bytes:
    """A registration of one instance; ``mark`` shows in the answers."""
    service = {
        "ID": f"{SERVICE}-{number}", "Service": SERVICE, "Tags": ["http", "v1"], "Address": f"127.1.0.{number + 1}",
        "Port": 8000 + number, "Meta": {"version": mark, "zone": "zone-a", "team": "team-01"},
    }  # fmt: skip
    check = {
        "Node": f"node-{number}", "CheckID": f"c:{SERVICE}-{number}", "Name": "http", "Status": "passing",
        "ServiceID": f"{SERVICE}-{number}", "Output": "HTTP GET: 200 OK",
    }  # fmt: skip
    where = {"Node": f"node-{number}", "Address": f"127.250.0.{number + 1}"}
    return json.dumps({**where, "Service": service, "Check": check}).encode()


def whole(data: bytes) -> bool:
    """Whether an answer is complete; nothing follows it."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = LENGTH.search(data, 0, end + 2)
    return len(data) - end - 4 >= int(length.group(1)) if length else data.endswith(LAST_CHUNK)


class Peer:
    """One server, and requests to it that are waited for."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.name = f"{host}:{port}"
        self.writer = socket.create_connection(self.address)

    def request(self, sock: socket.socket, line: str, content: bytes = b"") -> None:
        """Send one."""
        head = f"{line} HTTP/1.1\r\nHost: {self.name}\r\nContent-Type: application/json\r\n"
        length = f"Content-Length: {len(content)}\r\n" if content else ""
        sock.sendall(f"{head}{length}\r\n".encode() + content)

    def asked(self, line: str, content: bytes = b"") -> bytes:
        """Send one on the writer's connection; returns its answer."""
        self.request(self.writer, line, content)
        answer = b""
        while not whole(answer):
            answer += self.writer.recv(SIZE)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:500].decode(errors="replace"))
        return answer

    def index(self) -> int:
        """The present index of the service."""
        found = INDEX.search(self.asked(f"GET /v1/health/service/{SERVICE}?passing"))
        assert found is not None
        return int(found.group(1))

    def crowd(self, count: int) -> dict[int, socket.socket]:
        """The watchers' connections by their descriptors."""
        found = {}
        for number in range(count):
            sock = socket.create_connection(self.address, source_address=(f"127.0.0.{1 + number % 8}", 0))
            found[sock.fileno()] = sock
        return found


def change(peer: Peer, crowd: dict[int, socket.socket], poll: select.epoll, mark: str) -> dict[str, Any]:
    """One change: when its answer came and when each watcher had its own, seconds after it was sent."""
    content = body(0, mark)
    needle = mark.encode()
    waiting = dict(crowd)
    parts: dict[int, bytes] = {}
    told: list[float] = []
    answered, reply, early = 0.0, b"", 0
    usual = 0
    """Size of a whole answer: nearly all are alike and come in one piece, so most are checked by that and the mark."""
    buffer = bytearray(SIZE)
    sent = time.perf_counter()
    peer.request(peer.writer, "PUT /v1/catalog/register", content)
    while waiting or not answered:
        for descriptor, _ in poll.poll(WAIT_SECONDS):
            if descriptor == peer.writer.fileno():
                reply += peer.writer.recv(SIZE)
                if whole(reply):
                    answered = time.perf_counter() - sent
                continue
            size = waiting[descriptor].recv_into(buffer)
            if size == usual and descriptor not in parts and buffer.find(needle, 0, size) >= 0:
                told.append(time.perf_counter() - sent)
                del waiting[descriptor]
                continue
            if not size:
                raise RuntimeError("a watcher's connection was closed")
            data = parts.get(descriptor, b"") + buffer[:size]
            if whole(data):
                told.append(time.perf_counter() - sent)
                early += needle not in data
                usual = len(data)
                del waiting[descriptor]
            else:
                parts[descriptor] = data
    return {"answered": answered, "told": told, "early": early}


def measure(host: str, port: int, *, watchers: int, changes: int, settle: float) -> dict[str, Any]:
    """Park everybody, change, and again."""
    peer = Peer(host, port)
    for number in range(INSTANCES):
        peer.asked("PUT /v1/catalog/register", body(number, "first"))
    crowd = peer.crowd(watchers)
    poll = select.epoll()
    for descriptor in [*crowd, peer.writer.fileno()]:
        poll.register(descriptor, select.EPOLLIN)
    from_sent: list[float] = []
    from_answer: list[float] = []
    writer: list[float] = []
    early = 0
    cpu = 0.0
    for number in range(changes):
        line = f"GET /v1/health/service/{SERVICE}?passing&index={peer.index()}&wait=10m"
        for sock in crowd.values():
            peer.request(sock, line)
        # Nothing says that a query is parked; what is not yet is answered early, and that is counted.
        time.sleep(settle + watchers * 0.0004)
        cpu -= time.process_time()
        seen = change(peer, crowd, poll, f"mark-{number}")
        cpu += time.process_time()
        early += seen["early"]
        writer.append(seen["answered"])
        from_sent += seen["told"]
        from_answer += [told - seen["answered"] for told in seen["told"]]
    return {
        "latency_ms": quantiles(from_sent), "after_answer_ms": quantiles(from_answer), "writer_ms": quantiles(writer),
        "early": early, "generator_ms": cpu / changes * 1000,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    import resource  # noqa: PLC0415 - only where it exists

    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--settle", type=float, default=0.5)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    url = urlsplit(options.url)
    measured = measure(
        url.hostname or "127.0.0.1",
        url.port or 8500,
        watchers=options.watchers,
        changes=options.changes,
        settle=options.settle,
    )
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main()
