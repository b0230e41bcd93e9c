"""How server processes run: on uvloop where it is there, with as many files as the system allows."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable

from townhall.ops.exits import complain

__all__ = ["loop_factory", "raise_file_limit"]


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
