"""The life of a registry process: start, say that it is ready, reload on SIGHUP, stop on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from townhall.model.errors import InvalidField, TownhallError
from townhall.ops.assembly import Assembled, CouldNotStart, assemble
from townhall.ops.config import BadConfig, Effective
from townhall.ops.logging import set_level
from townhall.ops.loops import say_ready, stop_on_signals
from townhall.ops.notify import notify
from townhall.ops.version import version

if TYPE_CHECKING:
    from townhall.core import Command, Outcome

__all__ = ["Life", "live", "ready_line", "waits_for_bootstrap", "warnings_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What a registry process is started with."""

    effective: Effective
    data: Path | None
    """None keeps everything in memory."""
    node: str
    environ: Mapping[str, str]
    reload: Callable[[], Effective]
    """Reads the configuration again; raises ``BadConfig``."""
    out: TextIO = sys.stdout


async def live(life: Life) -> int:
    """Run until a signal asks to stop; returns the exit code. Raises ``CouldNotStart`` and ``BadConfig``."""
    built = await assemble(life.effective, life.data, node=life.node)
    stopping = asyncio.Event()
    try:
        stop_on_signals(stopping)
        _reload_on_signal(life, built)
        await _apply_tokens(built, life.effective.settings.access.tokens_file)
        for warning in warnings_of(life.effective, built):
            _log.warning(warning)
        if waits_for_bootstrap(life.effective, built):
            _log.warning(
                "requests without a token are refused and there is no token yet: 'townhall token bootstrap' makes one"
            )
        say_ready(ready_line(life, built), life.out, life.environ)
        _log.info("ready, node %s, position %d", life.node, built.hub.state.position)
        await stopping.wait()
        notify(life.environ, STOPPING=1)
        _log.info("stopping")
    finally:
        await built.stop(life.effective.settings.http.stop_timeout_ms)
    _log.info("stopped")
    return 0


def ready_line(life: Life, built: Assembled) -> str:
    """The one line on stdout that tells that all listeners answer."""
    listen = {name: str(where) for name, where in built.addresses.items()}
    if life.effective.settings.node.ready_json:
        data = "" if life.data is None else str(life.data)
        return json.dumps({"ready": True, "pid": os.getpid(), "version": version(), "data": data, "listen": listen})
    scheme = "https" if built.certificates else "http"
    where = ", ".join(f"{name} on {address}" for name, address in listen.items())
    kept = "nothing is kept" if life.data is None else f"data in {life.data}"
    attempt = f"curl {scheme}://{listen['native']}/api/v1/services"
    if waits_for_bootstrap(life.effective, built):
        attempt = f"townhall token bootstrap --server {scheme}://{listen['native']}"
    return f"townhall {version()} is ready: {where}; {kept}; try: {attempt}"


def waits_for_bootstrap(effective: Effective, built: Assembled) -> bool:
    """Whether tokens are asked for while there is none, so that nobody can do anything but make the first."""
    access = effective.settings.access
    return access.required and not access.tokens_file and not built.hub.state.access_enabled


def warnings_of(effective: Effective, built: Assembled) -> list[str]:
    """What an operator should not overlook: listeners that others can reach without TLS or without tokens."""
    found = list(effective.warnings)
    settings = effective.settings
    tokens = built.hub.state.access_enabled or settings.access.required or bool(settings.access.tokens_file)
    missing = [word for word, there in (("tokens", tokens), ("TLS", settings.tls.cert)) if not there]
    for name, where in built.addresses.items():
        if missing and not where.loopback:
            found.append(
                f"ANYBODY WHO CAN REACH {where} CAN USE THE {name.upper()} FACE without {' and without '.join(missing)}: "
                "bind to 127.0.0.1, or run 'townhall token bootstrap' and set --tls-cert and --tls-key"
            )
    return found


def _reload_on_signal(life: Life, built: Assembled) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def reload() -> None:
        # One at a time; a signal that comes meanwhile would find the same files.
        if not tasks:
            task = loop.create_task(_reload(life, built), name="reload")
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    built.reload = reload
    loop.add_signal_handler(signal.SIGHUP, reload)


async def _reload(life: Life, built: Assembled) -> None:
    """Certificates, tokens and log level. Each that cannot be read is told and stays as it was."""
    notify(life.environ, RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1_000)
    try:
        effective = life.reload()
        set_level(effective.settings.log.level)
    except BadConfig as error:
        effective = life.effective
        _log.error("the configuration was not reloaded: %s", error)
    try:
        if built.certificates is not None:
            built.certificates.reload()
    except InvalidField as error:
        _log.error("the certificates were not reloaded: %s", error)
    try:
        await _apply_tokens(built, effective.settings.access.tokens_file)
    except (BadConfig, CouldNotStart) as error:
        _log.error("the tokens were not reloaded: %s", error)
    _log.info("reloaded")
    notify(life.environ, READY=1)


async def _apply_tokens(built: Assembled, path: str) -> None:
    """Bring the state in step with the tokens file. Raises ``BadConfig`` or ``CouldNotStart``."""
    if not path:
        return
    from townhall.ops.tokens import plan, read_tokens_file  # noqa: PLC0415 - only where such a file is used

    wanted, warnings = read_tokens_file(path)
    for warning in warnings:
        _log.warning(warning)
    commands = plan(wanted, built.hub.state.tokens, built.hub.state.policies)
    for command in commands:
        result = await _submit(built, command)
        if isinstance(result, TownhallError):
            raise CouldNotStart(f"access.tokens_file {path}: {result}") from result
    if commands:
        _log.info("%d changes of tokens and policies from %s", len(commands), path)


async def _submit(built: Assembled, command: Command) -> Outcome | TownhallError:
    from townhall.hub.hub import INTERNAL  # noqa: PLC0415 - beside its one use

    finished: asyncio.Future[Outcome | TownhallError] = asyncio.get_running_loop().create_future()
    built.hub.submit(command, INTERNAL, finished.set_result)
    return await finished
