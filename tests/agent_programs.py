"""Programs that ``townhall run`` and ``townhall agent`` look after in tests, and a look at what became of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from free_ports import free_port
from townhall_process import PLAIN_COMMAND, environment, until

SERVE = """
import http.server, os, signal, sys, time
folder = sys.argv[1]
def note(word):
    with open(folder + "/log", "a") as log:
        log.write(word + chr(10))
def stop(number, frame):
    note(f"signal {number}")
    if os.path.exists(folder + "/stubborn"):
        return
    raise SystemExit(int(open(folder + "/code").read()) if os.path.exists(folder + "/code") else 0)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
    signal.signal(number, lambda number, frame: note(f"signal {number}"))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        # What stands in the file is the status.
        status = open(folder + "/status").read() if os.path.exists(folder + "/status") else "200"
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(b"said " + status.encode() + b"\\nand more")
    def log_message(self, *words):
        pass
note(f"pid {os.getpid()}")
while os.path.exists(folder + "/slow"):
    time.sleep(0.02)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
note("serving")
server.serve_forever()
"""
QUICK = ("--check-interval", "200ms", "--check-timeout", "500ms", "--check-failures", "1")


class Run:
    """``townhall run`` with the program above, its folder and its port."""

    def __init__(self, folder: Path, name: str, server: str, options: Sequence[str]) -> None:
        self.folder, self.name, self.server = folder, name, server
        self.port = free_port()
        self.errors = (folder / "errors").open("w+")
        self.process = subprocess.Popen(
            [
                *PLAIN_COMMAND, "run", "--name", name, "--port", str(self.port), "--check", "http:/", *QUICK, *options, "--",
                sys.executable, "-c", SERVE, str(folder),
            ],
            env=environment({"TOWNHALL_SERVER": server}), stdin=subprocess.DEVNULL, stderr=self.errors, start_new_session=True,
        )  # fmt: skip

    def put(self, file: str, text: str = "") -> None:
        (self.folder / file).write_text(text)

    def drop(self, file: str) -> None:
        (self.folder / file).unlink()

    @property
    def log(self) -> list[str]:
        """What the program has noted."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def child(self) -> int:
        """The process id of the program's latest run."""
        return int([line for line in self.log if line.startswith("pid ")][-1].split()[1])

    @property
    def said(self) -> str:
        """What townhall wrote to stderr."""
        return (self.folder / "errors").read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def signal_child(self, number: int) -> None:
        os.kill(self.child, number)

    def wait(self) -> int:
        return self.process.wait(120)

    def instance(self) -> dict[str, Any] | None:
        """What the registry has of it."""
        found = instances(self.server, self.name)
        return found[0] if found else None

    def until_verdict(self, verdict: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            one = self.instance()
            return one if one is not None and one["verdict"] == verdict else None

        found = until(look, what=f"{self.name} {verdict}; {self.said}")
        assert isinstance(found, dict)
        return found

    def until_reason(self, part: str, *, verdict: str) -> dict[str, Any]:
        """As above, with this in the reason for it: another look may have come first."""

        def look() -> dict[str, Any] | None:
            one = self.instance()
            return one if one is not None and one["verdict"] == verdict and part in one["reason"] else None

        found = until(look, what=f"{self.name} {verdict} because {part}; {self.instance()}; {self.said}")
        assert isinstance(found, dict)
        return found

    def close(self) -> None:
        for pid in {int(line.split()[1]) for line in self.log if line.startswith("pid ")}:
            kill_group(pid)
        kill_group(self.process.pid)
        self.process.wait()
        self.errors.close()


@contextmanager
def run(folder: Path, name: str, server: str, *options: str, files: Sequence[str] = ()) -> Iterator[Run]:
    """The command, gone at the end; ``files`` are there before the program starts."""
    folder.mkdir(exist_ok=True)
    for file in files:
        (folder / file).touch()
    started = Run(folder, name, server, options)
    try:
        yield started
    finally:
        started.close()


def instances(server: str, service: str) -> list[dict[str, Any]]:
    """All instances of a service; none while the registry does not answer."""
    try:
        with urlopen(f"{server}/api/v1/services/{service}/instances", timeout=10) as answer:
            found = json.load(answer)["instances"]
    except (HTTPError, URLError, OSError):
        return []
    assert isinstance(found, list)
    return found


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
