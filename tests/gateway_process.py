"""Real ``townhall gateway`` processes for tests, and instances behind them that do as they are told."""

from __future__ import annotations

import json
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import gateway_instance
from townhall_process import DEADLINE_S, environment


class GatewayProcess:
    """``townhall gateway`` on free ports; ``address`` is where clients go."""

    def __init__(self, *options: str) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "townhall", "gateway", "--listen", "0", "--ready-json", *options],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            line = self.process.stdout.readline() if selector.select(DEADLINE_S) else ""
        if not line:
            said = self.errors
            self.close()
            raise AssertionError(f"no ready line: {said}")
        self.listen: dict[str, str] = json.loads(line)["listen"]

    @property
    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen["http"].rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        return f"http://{self.listen['http']}"

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()


@contextmanager
def gateway(*options: str) -> Iterator[GatewayProcess]:
    process = GatewayProcess(*options)
    try:
        yield process
    finally:
        process.close()


class Provider:
    """``gateway_instance.py`` as a process."""

    def __init__(self, server: str, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(gateway_instance.__file__)), server, name],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def says(self, word: str) -> Provider:
        """Returns when it has said so."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().decode().strip() == word
        return self

    def leave(self) -> None:
        """It may end now."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


class Recorder:
    """An instance in threads: keeps every byte that comes, and lets ``serve(bytes so far, socket)`` answer.

    Used as a context, it leaves no socket behind, whatever became of the test.
    """

    def __init__(self, serve: Callable[[Recorder, socket.socket], None]) -> None:
        self.received: list[bytearray] = []
        """Bytes of each connection."""
        self._serve = serve
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Forget what came so far; connections stay."""
        for one in self.received:
            one.clear()

    @property
    def all(self) -> bytes:
        return b"".join(bytes(one) for one in self.received)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        # Shut down, so that threads that wait in one of them come back.
        for one in (self._listening, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            self._sockets.append(peer)
            threading.Thread(target=self._run, args=(peer,), daemon=True).start()

    def _run(self, peer: socket.socket) -> None:
        with peer:
            try:
                self._serve(self, peer)
            except OSError:
                return


def read_request(peer: socket.socket, log: bytearray, held: bytearray) -> bytes | None:
    """One request as our gateway frames them; None at the end of the connection."""
    while True:
        head, found, rest = bytes(held).partition(b"\r\n\r\n")
        if found:
            low = head.lower()
            if b"transfer-encoding: chunked" in low:
                end = rest.find(b"0\r\n")
                whole = rest.startswith(b"0\r\n") or b"\r\n0\r\n" in rest
                if whole and b"\r\n\r\n" in rest[end:]:
                    size = rest.index(b"\r\n\r\n", end) + 4
                else:
                    size = -1
            else:
                size = int(low.partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
            if 0 <= size <= len(rest):
                message = bytes(held[: len(head) + 4 + size])
                del held[: len(message)]
                return message
        data = peer.recv(65_536)
        if not data:
            return None
        log += data
        held += data


def talk(address: tuple[str, int], raw: bytes) -> bytes:
    """Send bytes, say that nothing more comes, and read everything that comes back."""
    with socket.create_connection(address, timeout=DEADLINE_S) as peer:
        try:
            peer.sendall(raw)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        found = b""
        try:
            while data := peer.recv(65_536):
                found += data
        except ConnectionError:
            pass
        return found
