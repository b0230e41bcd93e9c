"""A Townhall in a process of its own, pinned to the first core, and what its process costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOWNHALL = str(Path(sys.executable).with_name("townhall"))
START_SECONDS = 120
_pinning = True


def pinned(core: int) -> list[str]:
    """The prefix that pins a command to a core, where the machine has two and ``taskset``."""
    able = shutil.which("taskset") and (os.cpu_count() or 1) > 1
    return ["taskset", "-c", str(core)] if able and _pinning else []


@contextmanager
def unrestricted() -> Iterator[None]:
    """What is started meanwhile, servers and load, has all cores."""
    global _pinning  # noqa: PLW0603 - one process runs one scenario at a time
    _pinning = False
    try:
        yield
    finally:
        _pinning = True


class Process:
    """A server of any make, in a process pinned to the first core, with a folder of its own that goes with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-bench-", dir=cache()))
        self.process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def memory(self) -> int:
        """Resident bytes now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024

    def cpu(self) -> float:
        """CPU seconds used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(START_SECONDS)
        self.process = None

    def remove(self) -> None:
        """Kill it, and remove its files."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class Server(Process):
    """One running registry. ``durable`` keeps its data in a temporary directory on the disk under the current folder."""

    def __init__(self, *, durable: bool = True, arguments: Sequence[str] = ()) -> None:
        super().__init__("townhall")
        self.arguments = (
            ["--data", str(self.folder / "data")] if durable else ["--dev", "--consul", "off", "--dns", "off"]
        )
        self.arguments += arguments
        self.url = ""
        self.port = 0
        self.listen: dict[str, str] = {}
        """Face → host:port."""

    def start(self) -> float:
        """Start it; returns the seconds from the start of the process to its line that it is ready."""
        command = [*pinned(0), TOWNHALL, "up", *self.arguments, "--native", str(self.port), "--ready-json"]
        began = time.perf_counter()
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        seconds = time.perf_counter() - began
        if not line:
            raise RuntimeError((self.folder / "log").read_text())
        ready: dict[str, Any] = json.loads(line)
        self.listen = ready["listen"]
        address = self.listen["native"]
        self.port = int(address.rpartition(":")[2])
        self.url = f"http://{address}"
        return seconds


def cache() -> Path:
    """Where benchmarks keep their files: on a real disk, since a durable write to memory would flatter."""
    folder = Path(__file__).parents[1] / ".cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def server(*, durable: bool = True, arguments: Sequence[str] = ()) -> Iterator[Server]:
    """A running server that is gone, with its files, afterwards."""
    running = Server(durable=durable, arguments=arguments)
    try:
        running.start()
        yield running
    finally:
        running.remove()


def generate(module: str, *arguments: str, seconds: float = 300) -> dict[str, Any]:
    """Run a generator of ours as a process on the second core; returns the JSON object it prints."""
    command = [*pinned(1), sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def load(url: str, **plan: Any) -> dict[str, Any]:
    """One run of ``bench.load`` with this plan."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=cache()) as file:
        json.dump(plan, file)
        file.flush()
        return generate("bench.load", "--url", url, "--plan", file.name)
