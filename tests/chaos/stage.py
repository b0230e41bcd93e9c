"""What a chaos test plays on: real processes on loopback, callers, and the figures that it measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import townhall
from chaos.load import Load
from chaos.relay import Relay
from townhall.client.connection import Origin, parse_origin
from townhall.client.http import HttpClient, Request
from townhall.model.errors import PeerMisbehaved, Unreachable
from townhall_process import PLAIN_COMMAND, TownhallProcess, environment, until

SERVICE = "shop"
PROGRAM = Path(__file__).with_name("provider.py")
CLOCK = Path(__file__).with_name("clock")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a play takes: short in ``make test``, near to real life in ``make chaos``."""

    ttl_s: float
    steady_s: float
    """The TTL of those who must not lapse, whatever else the machine does."""
    calls: int
    """Calls between two events."""
    retries: int
    call_s: float
    """For a whole call. Half a second is for each attempt."""
    long: bool


# A busy machine may need seconds for what takes milliseconds; in the long form that would be a finding.
SHORT = Pace(ttl_s=1.0, steady_s=4.0, calls=20, retries=10, call_s=60.0, long=False)
LONG = Pace(ttl_s=15.0, steady_s=15.0, calls=1_000, retries=3, call_s=4.0, long=True)
TRY_S = 0.5


class ProviderProcess:
    """``provider.py`` as a process. ``said`` is what it told so far."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.said: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            env=environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def alarms(self) -> list[str]:
        """The kinds of alarms that its SDK raised, in order."""
        return [line["alarm"] for line in list(self.said) if "alarm" in line]

    @property
    def port(self) -> int:
        return int(self.line("registered")["port"])

    def line(self, name: str) -> dict[str, Any]:
        """The first line with this key, waiting for it."""
        found: dict[str, Any] = until(
            lambda: next((line for line in list(self.said) if name in line), None) or self.ended_early(),
            what=f"{name} from a provider; it said {self.said}",
        )
        assert name in found, f"the provider ended: {self.said}"
        return found

    def ended_early(self) -> dict[str, Any] | None:
        return {"ended": True} if self._process.poll() is not None and not self._reader.is_alive() else None

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        return self._process.wait(120)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait()
        self._reader.join(120)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))


GATEWAY = """
[[route]]
service = "shop"
timeout = {call_s}
first_byte_timeout = {try_s}
retries = {retries}
balancer = "{balancer}"
"""


@dataclass(slots=True)
class Chaos:
    """One test's stage. ``run`` its play; whatever happens, ``close`` leaves no process behind."""

    pace: Pace
    data: Path
    figures: dict[str, Any] = field(default_factory=dict)
    """What was measured, by the name of the column."""
    _closing: list[Callable[[], None]] = field(default_factory=list)

    def run(self, play: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(600 if self.pace.long else 300):
                await play

        asyncio.run(bounded())

    def close(self) -> None:
        for close in reversed(self._closing):
            close()

    # --- processes ---------------------------------------------------------------------------------------------------

    def registry(self, *options: str, keeps: bool = True, env: Mapping[str, str] | None = None) -> TownhallProcess:
        """A registry that is ready; one that ``keeps`` its state starts again with all it knew."""
        where = ("--data", str(self.data / "data"), "--lease-ttl-min-ms", "500") if keeps else ("--dev",)
        haste = () if self.pace.long else ("--reports-hold-ms", "1000")
        process = TownhallProcess(*where, *haste, *options, env=env)
        self._closing.append(process.close)
        return process.start()

    def begin_provider(
        self, url: str, name: str, *options: str, env: Mapping[str, str] | None = None
    ) -> ProviderProcess:
        """A provider that starts; nobody waits for its registration."""
        ttl = str(self.pace.ttl_s)
        process = ProviderProcess(
            "--server", url, "--service", SERVICE, "--name", name, "--ttl", ttl, *options, env=env
        )  # fmt: skip
        self._closing.append(process.close)
        return process

    @property
    def steady(self) -> tuple[str, str]:
        """The option for providers that must not lapse."""
        return "--ttl", str(self.pace.steady_s)

    async def providers(self, url: str, *names: str, options: tuple[str, ...] = ()) -> list[ProviderProcess]:
        """Providers that are registered."""
        begun = [self.begin_provider(url, name, *options) for name in names]
        for one in begun:
            await asyncio.to_thread(one.line, "registered")
        return begun

    def gateway(self, url: str, balancer: str) -> Origin:
        """A gateway to the service, as a process; where it listens."""
        file = self.data / "gateway.toml"
        file.write_text(
            GATEWAY.format(balancer=balancer, call_s=self.pace.call_s, try_s=TRY_S, retries=self.pace.retries)
        )
        options = ("--config", str(file), "--listen", "127.0.0.1:0", "--ready-json", "--server", url)
        process = subprocess.Popen(
            [*PLAIN_COMMAND, "gateway", *options, "--log-level", "error"],
            env=environment({"XDG_CACHE_HOME": str(self.data / "xdg")}),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

        def close() -> None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

        self._closing.append(close)
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        return parse_origin(next(iter(ready["listen"].values())))

    # --- callers -----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def load(self, url: str, *, instances: int, **options: Any) -> AsyncIterator[Scene]:
        """A consumer with callers that know ``instances``; when it ends, the calls are in the figures."""
        options.setdefault("snapshot_directory", self.data / "cache")
        balancer = options.get("balancer", "smooth_weighted")
        gateway = await asyncio.to_thread(self.gateway, url, balancer)
        async with townhall.Consumer(url, **options) as consumer, HttpClient() as http:
            handle = consumer[SERVICE]
            await handle.wait_callable(instances, budget_s=120)
            calls = Load(lambda: _ask(handle, http, calls, self.pace))
            through = Load(lambda: _ask_gateway(gateway, http, self.pace))
            scene = Scene(self, consumer, handle, calls, through)
            async with calls, through:
                await scene.more()
                yield scene
                await scene.more()
        self.figures |= {**calls.figures(), **{f"gateway {name}": value for name, value in through.figures().items()}}


async def _ask_gateway(gateway: Origin, http: HttpClient, pace: Pace) -> str:
    """What a caller without SDK does: one request, no second one."""
    response = await http.request(Request(gateway, "GET", "/", budget_s=2 * pace.call_s))
    if response.status != 200:
        raise PeerMisbehaved(f"{response.status} {response.text}")
    return response.text


async def _ask(handle: townhall.client.handle.ServiceHandle, http: HttpClient, calls: Load, pace: Pace) -> str:
    """An idempotent call, with at most half a second for each attempt."""

    async def attempt(instance: townhall.Instance) -> str:
        request = Request(Origin("http", instance.address, instance.port), "GET", "/", budget_s=TRY_S)
        try:
            return (await http.request(request)).text
        except Unreachable as error:
            calls.broken += error.fields["kind"] != "timeout"
            raise

    return await handle.call(attempt, retries=pace.retries, timeout=pace.call_s, try_timeout=TRY_S)


@dataclass(slots=True)
class Scene:
    """A consumer while it calls."""

    chaos: Chaos
    consumer: townhall.Consumer
    handle: Any
    calls: Load
    """By the SDK."""
    through: Load
    """Through the gateway, without the SDK."""
    _since: float = 0.0

    async def more(self, times: int = 1) -> None:
        """Return when both kinds of callers were answered again and again."""
        await asyncio.gather(*(one.more(times * self.chaos.pace.calls) for one in (self.calls, self.through)))

    def nothing_lost(self) -> None:
        """Every call was answered, whatever happened."""
        assert self.calls.lost == 0, self.calls.failures
        assert self.through.lost == 0, self.through.failures

    def happens(self) -> None:
        """What is measured next counts from now."""
        self._since = time.monotonic()

    async def seen(self, figure: str, condition: Callable[[], object], *, deadline_s: float = 120.0) -> None:
        """Wait until it is so, and note how long it took."""
        try:
            async with asyncio.timeout(deadline_s):
                while not condition():  # noqa: ASYNC110 - other processes bring it about
                    await asyncio.sleep(0.002)
        except TimeoutError:
            known = [(one.id, one.verdict, one.reason) for one in self.handle.instances()]
            raise AssertionError(f"not {figure} within {deadline_s} s; known: {known}") from None
        self.chaos.figures[figure] = time.monotonic() - self._since

    def known(self, name: str) -> townhall.Instance | None:
        """What the consumer knows of a provider."""
        return next((one for one in self.handle.instances() if one.id == name), None)

    def verdict(self, name: str) -> str:
        """'gone' when it is not known."""
        one = self.known(name)
        return "gone" if one is None else str(one.verdict)

    def callable(self, *names: str) -> bool:
        """Whether exactly these may be called, as far as the consumer knows."""
        return {one.id for one in self.handle.instances(callable_only=True)} == set(names)


__all__ = ["CLOCK", "LONG", "SERVICE", "SHORT", "Chaos", "Pace", "ProviderProcess", "Relay", "Scene"]
