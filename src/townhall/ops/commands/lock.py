"""``townhall lock NAME -- COMMAND``: runs a command while holding a lock.

The lock hangs on a lease that is renewed while the command runs. Its number, larger with every holder, is given to
the command as TOWNHALL_FENCE: a store that remembers the largest it saw can refuse a holder that came too late. When
the lease is lost the command is told with SIGTERM, because somebody else may hold the lock by then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from townhall.model.lease import LeaseKind
from townhall.ops.arguments import duration_ms
from townhall.ops.commands import Command
from townhall.ops.exits import FAILED, UNREACHABLE, USAGE, complain
from townhall.ops.target import Target, add_target

if TYPE_CHECKING:
    from townhall.client.api import Registry

__all__ = ["COMMANDS"]

_TTL_DEFAULT_MS: Final = 15_000
_QUEUE_MS: Final = 60_000
"""One stay in the queue; a lock that is not ours by then is asked for again."""
_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_COMMAND_NOT_FOUND: Final = 127
"""As shells report it."""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "townhall lock NAME [options] -- COMMAND [ARGUMENT …]"
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--ttl",
        type=duration_ms,
        default=_TTL_DEFAULT_MS,
        metavar="TIME",
        help="the lock is lost when the registry hears nothing for this long; default 15s",
    )
    parser.add_argument(
        "--wait",
        type=duration_ms,
        metavar="TIME",
        help="give up when it is not ours after this; default: wait for ever",
    )
    parser.add_argument(
        "--no-wait", dest="wait", action="store_const", const=0, help="give up at once when somebody else holds it"
    )
    parser.epilog = (
        "Exit code: that of COMMAND (128 + N when signal N ended it), or 1 when the lock was not had or was lost."
    )
    add_target(parser)


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.trailing:
        return complain("lock needs a command to run: townhall lock NAME -- COMMAND", USAGE)
    return asyncio.run(_lock(Target.of(arguments), arguments))


async def _lock(target: Target, arguments: argparse.Namespace) -> int:
    from townhall.model.errors import TownhallError, Unreachable  # noqa: PLC0415 - see commands

    async with target.registry() as registry:
        lease = (await registry.leases.grant(ttl_ms=arguments.ttl, kind=LeaseKind.KEYS)).lease
        try:
            held = await _acquire(registry, lease, arguments)
            if held is None:
                return FAILED
            return await _hold(registry, lease, arguments, held)
        except Unreachable as error:
            return complain(str(error), UNREACHABLE)
        finally:
            # Ending the lease lets go of the lock; if the registry cannot hear it, the TTL does the same later.
            with contextlib.suppress(TownhallError):
                await registry.leases.revoke(lease)


async def _acquire(registry: Registry, lease: str, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The lock, or None when it was not to be had in time; renews the lease while it waits."""
    from townhall.model.errors import Conflict  # noqa: PLC0415 - see commands

    loop = asyncio.get_running_loop()
    deadline = None if arguments.wait is None else loop.time() + arguments.wait / 1_000
    renewing = loop.create_task(_renew(registry, lease, arguments.ttl))
    value = f"{os.uname().nodename}:{os.getpid()}"
    try:
        while True:
            left_ms = _QUEUE_MS if deadline is None else min(_QUEUE_MS, int((deadline - loop.time()) * 1_000))
            try:
                return await registry.locks.acquire(arguments.name, lease, value=value, wait_ms=max(0, left_ms))
            except Conflict as error:
                if renewing.done():
                    renewing.result()
                if deadline is not None and loop.time() >= deadline:
                    complain(f"{arguments.name} is held by {_holder(error.fields.get('holder'))}", FAILED)
                    return None
    finally:
        await _end(renewing)


def _holder(holder: object) -> str:
    if isinstance(holder, dict):
        return str(holder.get("value") or holder.get("lease") or "somebody else")
    return str(holder or "somebody else")


async def _hold(registry: Registry, lease: str, arguments: argparse.Namespace, held: dict[str, Any]) -> int:
    """Run the command; returns its exit code, or 1 when the lock was lost meanwhile."""
    environ = {**os.environ, "TOWNHALL_FENCE": str(held.get("fence", "")), "TOWNHALL_LOCK": arguments.name}
    try:
        child = await asyncio.create_subprocess_exec(*arguments.trailing, env=environ)
    except OSError as error:
        return complain(f"{arguments.trailing[0]}: {error.strerror}", _COMMAND_NOT_FOUND)
    loop = asyncio.get_running_loop()
    with _signals_passed_on(child):
        waiting = loop.create_task(child.wait())
        renewing = loop.create_task(_renew(registry, lease, arguments.ttl))
        await asyncio.wait({waiting, renewing}, return_when=asyncio.FIRST_COMPLETED)
        lost = renewing.done()
        if lost and not waiting.done():
            complain(f"the lock {arguments.name} was lost; stopping the command", FAILED)
            child.terminate()
        code = await waiting
        await _end(renewing)
    if lost:
        return FAILED
    return code if code >= 0 else 128 - code


async def _renew(registry: Registry, lease: str, ttl_ms: int) -> None:
    """Keep the lease; returns when it has ended, or may have because nobody answered for a whole TTL."""
    from townhall.model.errors import LeaseNotFound, TownhallError  # noqa: PLC0415 - see commands

    loop = asyncio.get_running_loop()
    last = loop.time()
    while True:
        await asyncio.sleep(ttl_ms / 3_000)
        asked = loop.time()
        try:
            await registry.leases.renew(lease)
            last = asked
        except LeaseNotFound:
            return
        except TownhallError:
            if loop.time() - last > ttl_ms / 1_000:
                return


@contextlib.contextmanager
def _signals_passed_on(child: asyncio.subprocess.Process) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def pass_on(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    for number in _PASSED_ON:
        loop.add_signal_handler(number, pass_on, number)
    try:
        yield
    finally:
        for number in _PASSED_ON:
            loop.remove_signal_handler(number)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


COMMANDS: Final = {"lock": Command(_configure, _run)}
