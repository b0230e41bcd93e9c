"""Instances that are slow, cut their answers off, or are cut off from; and bodies larger than anybody should hold."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway_process import GatewayProcess, Recorder, gateway, read_request, talk
from townhall_process import DEADLINE_S

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000)
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


def answering(answer: Callable[[socket.socket], None]) -> Recorder:
    def serve(recorder: Recorder, peer: socket.socket) -> None:
        log, held = bytearray(), bytearray()
        recorder.received.append(log)
        while read_request(peer, log, held) is not None:
            answer(peer)

    return Recorder(serve)


def broken(begin: bytes, seen: threading.Event | None = None) -> Callable[[socket.socket], None]:
    """Says ``begin`` and resets the connection, after a moment or when ``seen`` is set."""

    def answer(peer: socket.socket) -> None:
        peer.sendall(begin)
        # Not before the gateway has it: a reset may overtake what was sent.
        if seen is None:
            time.sleep(0.05)
        else:
            seen.wait(DEADLINE_S)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    return answer


@contextmanager
def released() -> Iterator[threading.Event]:
    """An event that is set at the end at the latest, so that nobody waits for it any more."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


def good(peer: socket.socket) -> None:
    peer.sendall(OK)


def requests(recorder: Recorder) -> int:
    return recorder.all.count(b" HTTP/1.1\r\n")


def file_for(folder: Path, *ports: int, more: str = "") -> str:
    places = ",".join(f"127.0.0.1:{port}" for port in ports)
    file = folder / "gateway.toml"
    file.write_text(f'[[route]]\nname = "r"\nservice = "static://{places}"\n{more}\n')
    return str(file)


def metrics(front: GatewayProcess) -> str:
    with urllib.request.urlopen(f"http://{front.listen['admin']}/metrics", timeout=DEADLINE_S) as answer:
        return str(answer.read().decode())


def test_a_slow_instance_is_left_and_left_out(tmp_path: Path) -> None:
    # Two, which one that is busy for once does not look like: after a late answer the next attempt goes to another.
    with (
        released() as over,
        answering(lambda _: over.wait() and None) as slow,
        answering(good) as quick,
        gateway(
            "--config",
            file_for(tmp_path, slow.port, quick.port, more='first_byte_timeout = "1s"\nretries = 5'),
            "--admin",
            "0",
        ) as front,
    ):
        for _ in range(40):
            assert talk(front.address, GET).endswith(b"good")
        # It was asked, did not answer within an attempt's time, and was then left out for a while each time.
        assert 1 <= requests(slow) < 15
        text = metrics(front)
        assert (
            f'failures_total{{service="static://127.0.0.1:{slow.port},127.0.0.1:{quick.port}",kind="timeout"}}' in text
        )
        assert "townhall_gateway_retries_total 0\n" not in text


def test_what_must_not_be_repeated_is_told_that_it_was_slow(tmp_path: Path) -> None:
    with (
        released() as over,
        answering(lambda _: over.wait() and None) as slow,
        gateway("--config", file_for(tmp_path, slow.port, more='first_byte_timeout = "1s"')) as front,
    ):
        answer = talk(front.address, POST)
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "timeout"
        assert requests(slow) == 1


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"]
)
def test_a_reset_before_the_client_has_anything_is_repaired(begin: bytes, tmp_path: Path) -> None:
    with (
        answering(broken(begin)) as bad,
        answering(good) as fine,
        gateway("--config", file_for(tmp_path, bad.port, fine.port), "--admin", "0") as front,
    ):
        for _ in range(10):
            assert talk(front.address, GET).endswith(b"good")
        assert requests(bad) >= 1
        assert 'kind="reset"' in metrics(front)
        # A POST may have been acted on, so it is sent to nobody else.
        answers = [talk(front.address, POST) for _ in range(40)]
        assert all(one.endswith(b"good") or b'"code":"reset"' in one for one in answers)


@pytest.mark.parametrize("begin", [LONG, CHUNKS])
def test_a_reset_in_the_midst_of_an_answer_is_seen(begin: bytes, tmp_path: Path) -> None:
    with (
        released() as seen,
        answering(broken(begin, seen)) as bad,
        gateway("--config", file_for(tmp_path, bad.port)) as front,
        socket.create_connection(front.address, timeout=DEADLINE_S) as client,
    ):
        client.sendall(GET)
        answer = b""
        try:
            while data := client.recv(65_536):
                answer += data
                seen.set()
        except ConnectionError:
            pass
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"chunked" in head:
            assert not body.endswith(b"0\r\n\r\n")
        else:
            assert len(body) < 1_000_000
        assert answer.count(b"HTTP/1.1 ") == 1
        assert requests(bad) == 1


SIZE = 96 << 20
ROOM = 48 << 20
"""What the gateway may grow by while it passes twice as much on: far more than its buffers, far less than a body."""


def memory(front: GatewayProcess) -> int:
    line = next(one for one in metrics(front).splitlines() if one.startswith("process_resident_memory_bytes "))
    return int(float(line.split()[1]))


def test_large_bodies_are_not_held(tmp_path: Path) -> None:
    def serve(recorder: Recorder, peer: socket.socket) -> None:
        held = b""
        while b"\r\n\r\n" not in held:
            held += peer.recv(65_536)
        head, _, rest = held.partition(b"\r\n\r\n")
        if head.startswith(b"POST"):
            # A slow reader: nothing is read until the gateway was seen to wait.
            go.wait()
            count = len(rest)
            while count < SIZE:
                count += len(peer.recv(1 << 20))
            peer.sendall(OK)
        else:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            for _ in range(SIZE >> 20):
                peer.sendall(bytes(1 << 20))

    with (
        released() as go,
        Recorder(serve) as instance,
        gateway("--config", file_for(tmp_path, instance.port), "--admin", "0") as front,
    ):
        before = memory(front)
        with socket.create_connection(front.address, timeout=DEADLINE_S) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
            sender = threading.Thread(target=client.sendall, args=(bytes(SIZE),))
            sender.start()
            _until_steady(front)
            assert memory(front) - before < ROOM
            go.set()
            sender.join(DEADLINE_S)
            assert client.recv(65_536).endswith(b"good")
        with socket.create_connection(front.address, timeout=DEADLINE_S) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            _until_steady(front)
            assert memory(front) - before < ROOM
            count = 0
            while count < SIZE:
                count += len(client.recv(1 << 20))


def _until_steady(front: GatewayProcess) -> None:
    """Nothing is passed on any more: somebody waits."""
    before = -1
    for _ in range(100):
        now = memory(front)
        if now == before:
            return
        before = now
        time.sleep(0.3)
