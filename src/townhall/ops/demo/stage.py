"""The demo's processes: a registry, providers, a gateway and a program that knows nothing of all this, real ones.

None of them outlives the demo.
Each is started in a session of its own, so that Ctrl-C reaches the demo alone, which then ends them. Should the demo
itself be killed, providers notice that their standard input closed, and the registry is told by the kernel (Linux).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from townhall.model.errors import TownhallError

__all__ = ["Child", "Stage", "StageFailed"]

_START_TIMEOUT_S: Final = 60.0
"""Until a process says that it is ready; a busy machine may take seconds."""
_PR_SET_PDEATHSIG: Final = 1
TTL_MS: Final = 1_500
"""Short, so that a hung provider is noticed within the demo; a real service would take 10 s or more."""
_STOP_TIMEOUT_S: Final = 3.0
_ROUTE: Final = """
[[route]]
service = "{service}"
timeout = "4s"
first_byte_timeout = "400ms"
retries = 4
"""


class StageFailed(TownhallError):
    """A process of the demo did not come up."""

    code = "demo_failed"


@dataclass(slots=True)
class Child:
    """A process and the JSON line it said when it was ready."""

    process: asyncio.subprocess.Process
    ready: dict[str, Any]

    def signal(self, number: int) -> None:
        """Send a signal; one that is gone already is left in peace."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        await self.process.wait()


@dataclass(slots=True)
class Stage:
    """All processes; ``directory`` holds the registry's data and everybody's stderr."""

    directory: Path
    registry: Child | None = None
    providers: dict[str, Child] = field(default_factory=dict)
    gateway: Child | None = None
    program: Child | None = None
    """``townhall run``, with the program below it."""
    address: str = "127.0.0.1:0"
    """Of the registry; its port stays the same over restarts."""

    @property
    def url(self) -> str:
        """Of the registry's native face."""
        return f"http://{self.address}"

    async def start_registry(self) -> None:
        """Start it, or start it again on the same port and the same data. Raises ``StageFailed``."""
        arguments = [
            "-m", "townhall", "up", "--ready-json", "--native", self.address, "--data", str(self.directory / "data"),
            "--lease-ttl-min-ms", "500", "--reports-hold-ms", "2000", "--lease-eviction-grace-ttls", "4", "--log-level", "warning",
        ]  # fmt: skip
        self.registry = await self._start("registry", arguments)
        self.address = str(self.registry.ready["listen"]["native"])

    async def start_provider(self, name: str, *, weight: float = 1.0) -> Child:
        """Start one and wait until it is registered. Raises ``StageFailed``."""
        arguments = [
            "-m", "townhall.ops.demo.provider", "--server", self.url, "--name", name, "--ttl-ms", str(TTL_MS), "--weight", str(weight),
        ]  # fmt: skip
        self.providers[name] = child = await self._start(name, arguments)
        return child

    async def start_gateway(self, service: str) -> None:
        """Start a gateway with one route, to ``service``. Raises ``StageFailed``."""
        file = self.directory / "gateway.toml"
        file.write_text(_ROUTE.format(service=service))
        arguments = [
            "-m", "townhall", "gateway", "--config", str(file), "--listen", "127.0.0.1:0", "--ready-json", "--server",
            self.url, "--log-level", "warning",
        ]  # fmt: skip
        self.gateway = await self._start("gateway", arguments)

    async def start_program(self, name: str, service: str) -> None:
        """Run Python's own file server, whose page is ``name``, registered from outside; returns before it answers."""
        page = self.directory / name / "index.html"
        page.parent.mkdir()
        page.write_text(f"{name}\n")
        # The shell puts in the port that townhall run has chosen, as scripts do it.
        program = [
            "sh",
            "-c",
            'exec "$0" -m http.server --bind 127.0.0.1 --directory "$1" "$PORT"',
            sys.executable,
            str(page.parent),
        ]
        arguments = [
            "-m", "townhall", "run", "--name", service, "--id", name, "--port", "auto", "--check", "http:/",
            "--check-interval", "500ms", "--drain", "2s", "--address", "127.0.0.1", "--ttl", f"{TTL_MS}ms", "--server", self.url,
            "--", *program,
        ]  # fmt: skip
        self.program = Child(await self._spawn(name, arguments, with_us=signal.SIGTERM), {})

    async def close(self) -> None:
        """End everything, whatever state it is in; idempotent."""
        if self.program is not None:
            # By SIGTERM: it ends the program below it, which nobody else knows.
            self.program.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.program.process.wait(), _STOP_TIMEOUT_S)
        others = [one for one in (self.program, self.gateway, self.registry) if one is not None]
        children = [*self.providers.values(), *others]
        for child in children:
            child.signal(signal.SIGKILL)
        for child in children:
            await child.process.wait()

    async def _spawn(
        self, name: str, arguments: list[str], *, with_us: int = signal.SIGKILL
    ) -> asyncio.subprocess.Process:
        """``with_us`` is the signal that it gets when we are gone."""
        with self._log(name).open("ab") as stderr:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-P", *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr,
                env=self._environ(), start_new_session=True, preexec_fn=partial(_die_with_parent, with_us),
            )  # fmt: skip

    async def _start(self, name: str, arguments: list[str]) -> Child:
        process = await self._spawn(name, arguments)
        child = Child(process, {})
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                line = await process.stdout.readline()
            child.ready = json.loads(line)
        except (TimeoutError, ValueError) as error:
            await child.kill()
            said = self._log(name).read_text(errors="replace").strip()[-2_000:]
            raise StageFailed(f"{name} did not come up: {said or 'it said nothing'}") from error
        except BaseException:
            # Interrupted: a child that nobody knows of must not stay. It is waited for while there still is a loop,
            # or asyncio complains on the terminal when it clears away what belonged to the child.
            await child.kill()
            raise
        return child

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _environ(self) -> dict[str, str]:
        # Settings meant for a real registry of this user must not reach the demo's.
        return {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TOWNHALL_") and name != "NOTIFY_SOCKET"
        }


def _prctl() -> Any:
    try:
        return ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None


_PRCTL: Final = _prctl()


def _die_with_parent(number: int) -> None:
    """Between fork and exec; nothing but one system call happens here."""
    if _PRCTL is not None and sys.platform == "linux":
        _PRCTL(_PR_SET_PDEATHSIG, number, 0, 0, 0)
