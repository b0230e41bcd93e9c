"""Real ``townhall`` processes for tests: started with ``--ready-json`` on a free loopback port, always cleaned up."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from free_ports import free_port

SOURCE = Path(__file__).resolve().parent.parent / "src"
PLAIN_COMMAND = (sys.executable, "-m", "townhall")
DEADLINE_S = 120.0
# --dev turns every face on at its usual port; several registries of several test processes would meet there. A test
# that wants one of these asks for it with an option, which wins over the environment.
FACES_OFF = {"TOWNHALL_CONSUL": "off", "TOWNHALL_DNS": "off", "TOWNHALL_ETCD": "off"}
# What consumers keep for a start without registry must not be that of another run, whose registry had the same port.
CACHE = tempfile.mkdtemp(prefix="townhall-test-cache-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without settings of the machine, with the sources importable."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TOWNHALL_", "NOTIFY_SOCKET"))}
    path = os.pathsep.join([str(SOURCE), *filter(None, [clean.get("PYTHONPATH", "")])])
    # Dozens of processes import the same modules: compiled once, also where compiled files are not wanted beside sources.
    clean.pop("PYTHONDONTWRITEBYTECODE", None)
    clean.setdefault("PYTHONPYCACHEPREFIX", str(SOURCE.parent / ".cache" / "pycache"))
    return {**clean, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": CACHE, **FACES_OFF, **(extra or {})}


class TownhallProcess:
    """``townhall up`` as a process of its own. ``ready`` is its ready line; ``url`` the native face."""

    def __init__(
        self, *options: str, env: Mapping[str, str] | None = None, command: Sequence[str] = PLAIN_COMMAND
    ) -> None:
        if not any(option.startswith("--native") for option in options):
            # Of our own choice, so that nobody has taken it when the process is started again.
            options = ("--native", str(free_port()), *options)
        self.options = options
        self.ready: dict[str, Any] = {}
        self._env = environment(env)
        self._command = command
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        """``host:port`` of the native face."""
        return str(self.ready["listen"]["native"])

    @property
    def port(self) -> int:
        """The port of ``address``."""
        return int(self.address.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def errors(self) -> str:
        """What it wrote to stderr so far."""
        self._errors.flush()
        self._errors.seek(0)
        return self._errors.read()

    def start(self) -> TownhallProcess:
        """Start and wait until it is ready. Raises AssertionError with its stderr when it does not come up."""
        self._process = subprocess.Popen(
            [*self._command, "up", "--ready-json", *self.options],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        line = self._read_line()
        assert line, f"townhall up ended with {self._process.wait()}: {self.errors}"
        self.ready = json.loads(line)
        return self

    def restart(self) -> TownhallProcess:
        """Start again on the same port, after it was killed or stopped."""
        port = self.port
        self.close_pipe()
        self.options = ("--native", str(port), *self._without_native())
        return self.start()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL and wait."""
        self.signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> int:
        """SIGTERM and wait; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(DEADLINE_S)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Whatever happened, nothing stays behind."""
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
        self.close_pipe()
        self._errors.close()

    def close_pipe(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    def _without_native(self) -> list[str]:
        options = list(self.options)
        where = options.index("--native")
        return options[:where] + options[where + 2 :]

    def _read_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + DEADLINE_S
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.kill()
                    raise AssertionError(f"no ready line within {DEADLINE_S} s: {self.errors}")
                chunk = os.read(self._process.stdout.fileno(), 4096)
                if not chunk:
                    return b""
                line += chunk
        return line


@contextlib.contextmanager
def running(*options: str, env: Mapping[str, str] | None = None) -> Iterator[TownhallProcess]:
    """A registry that is ready; gone at the end."""
    process = TownhallProcess(*options, env=env)
    try:
        yield process.start()
    finally:
        process.close()


def townhall(
    *arguments: str,
    server: str = "",
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    deadline_s: float = DEADLINE_S,
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    extra = {**({"TOWNHALL_SERVER": server} if server else {}), **(env or {})}
    return subprocess.run(
        [*PLAIN_COMMAND, *arguments],
        env=environment(extra),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )


@contextlib.contextmanager
def background(
    *arguments: str, server: str = "", env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on (``register``, ``watch``, ``lock``), with its output piped; killed at the end."""
    extra = {**({"TOWNHALL_SERVER": server} if server else {}), **(env or {})}
    process = subprocess.Popen(
        [*PLAIN_COMMAND, *arguments],
        env=environment(extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(condition: Any, *, what: str, deadline_s: float = DEADLINE_S, every_s: float = 0.02) -> Any:
    """Poll until ``condition()`` is true and return its value. Raises AssertionError that says what never happened."""
    deadline = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(every_s)
