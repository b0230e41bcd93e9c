"""How server processes run: on uvloop where it is there, with as many files as the system allows, until a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from collections.abc import Callable, Mapping
from typing import TextIO

from townhall.ops.exits import complain
from townhall.ops.notify import notify

__all__ = ["loop_factory", "raise_file_limit", "say_ready", "stop_on_signals"]

_log = logging.getLogger(__name__)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """For ``asyncio.Runner``; None takes asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415 - optional: asyncio's own loop serves as well, only slower
    except ImportError:
        return None
    return uvloop.new_event_loop


def raise_file_limit() -> None:
    """Every connection is a file; distributions set the soft limit to 1024 for the sake of select(2), not of servers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        complain(f"the limit of open files stays as it is: {error}", 0)


def say_ready(line: str, out: TextIO, environ: Mapping[str, str]) -> None:
    """The one line that tells that all listeners answer, and the same to the service manager."""
    try:
        out.write(line + "\n")
        out.flush()
    except OSError:
        _log.warning("nobody reads the ready line: %s", line)
    notify(environ, READY=1, STATUS=line)


def stop_on_signals(stopping: asyncio.Event) -> None:
    """SIGTERM and SIGINT set ``stopping``; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopping.is_set():
            # What was acknowledged is durable already, so there is nothing to lose.
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
