"""A fresh, empty server that speaks etcd on a free port of the loopback, for a suite or for one command.

usage: fresh.py COMMAND…    (runs it with TOWNHALL_ETCD=HOST:PORT in its environment; its exit code is the command's)

The server is Townhall; with ``TOWNHALL_ETCD_PEER=/path/of/etcd`` it is that real etcd instead, so that a suite, and
what is left out of it, can be tried on the original first.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
START_SECONDS = 60
PEER = os.environ.get("TOWNHALL_ETCD_PEER", "")
FACES = ("consul", "dns", "zookeeper", "eureka", "nacos", "xds")


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def townhall(options: Sequence[str]) -> list[str]:
    """The command that starts Townhall with its etcd face on a free port."""
    faces = ["--native", "0", "--etcd", "0"]
    return [sys.executable, "-m", "townhall", "up", "--dev", *faces, "--ready-json", *options]


def etcd(binary: str, folder: Path, port: int) -> list[str]:
    """The command that starts a real etcd of one member on this port."""
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    return [
        binary, "--data-dir", str(folder / "data"), "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
        "--log-level", "error",
    ]  # fmt: skip


class Fresh:
    """One running server. ``address`` is HOST:PORT of its etcd face."""

    def __init__(self, *options: str, peer: str = PEER) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="etcd-"))
        self._errors = (self._folder / "log").open("w+")
        port = free_port() if peer else 0
        command = etcd(peer, self._folder, port) if peer else townhall(options)
        paths = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH", "")])])
        off = {f"TOWNHALL_{face.upper()}": "off" for face in FACES}
        self._process = subprocess.Popen(
            command, env={**os.environ, **off, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )  # fmt: skip
        self.pid = self._process.pid
        try:
            self.address = self._accepting(port) if peer else self._ready()
        except RuntimeError:
            self.stop()
            raise

    def _ready(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"townhall did not start: {self.log()}")
        return str(json.loads(line)["listen"]["etcd"])

    def _accepting(self, port: int) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    time.sleep(0.5)  # it listens before it has elected itself
                    return f"127.0.0.1:{port}"
            time.sleep(0.05)
        raise RuntimeError(f"etcd did not start: {self.log()}")

    def log(self) -> str:
        """What it wrote to its standard error."""
        self._errors.flush()
        return (self._folder / "log").read_text()[-4000:]

    def stop(self) -> None:
        """End it and remove its files; idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def fresh(*options: str, peer: str = PEER) -> Iterator[Fresh]:
    """A server for the length of a block."""
    server = Fresh(*options, peer=peer)
    try:
        yield server
    finally:
        server.stop()


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Run a command against a fresh server; its exit code."""
    with fresh() as server:
        aimed = {**os.environ, **(environment or {}), "TOWNHALL_ETCD": server.address}
        return subprocess.run(command, env=aimed, cwd=cwd, check=False).returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
