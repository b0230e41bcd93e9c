"""``townhall watch``: changes of services as they come, through restarts of the registry."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from townhall.ops.arguments import service
from townhall.ops.commands import Command
from townhall.ops.exits import complain
from townhall.ops.target import Target, add_target, print_json

if TYPE_CHECKING:
    from townhall.client.api import Registry
    from townhall.model.instance import ServiceKey

__all__ = ["COMMANDS"]

_RETRY_S: Final = 0.5
_SIGNS: Final = {"snapshot": "=", "delta": "~"}


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", type=service, nargs="+", metavar="SERVICE")
    add_target(parser)


def _run(arguments: argparse.Namespace) -> int:
    target = Target.of(arguments)
    return asyncio.run(_watch(target, [target.key(name) for name in arguments.service]))


async def _watch(target: Target, keys: list[ServiceKey]) -> int:
    """Never ends by itself. Raises ``Unreachable`` only when the registry was not there at the beginning."""
    from townhall.model.errors import Unavailable, Unreachable  # noqa: PLC0415 - see commands

    position: int | None = None
    async with target.registry() as registry:
        while True:
            try:
                position = await _follow(registry, target, keys, position)
            except (Unreachable, Unavailable):
                if position is None:
                    raise
            complain("the registry went away; watching on as soon as it answers", 0)
            while not await _answers(registry):  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(_RETRY_S)


async def _follow(registry: Registry, target: Target, keys: list[ServiceKey], position: int | None) -> int:
    """Print one stream to its end; returns the position to go on from."""
    from townhall.model.errors import Unreachable  # noqa: PLC0415 - see commands

    reached = position or 0
    stream = await registry.watch(keys, subscriber="townhall watch", resume_after=position)
    async with stream:
        try:
            async for event in stream.events():
                if event.id.isdecimal():
                    reached = int(event.id)
                _tell(target, event.name, event.data)
        except Unreachable:
            pass
    return reached


async def _answers(registry: Registry) -> bool:
    from townhall.model.errors import TownhallError  # noqa: PLC0415 - see commands

    try:
        return await registry.ready()
    except TownhallError:
        return False


def _tell(target: Target, name: str, data: bytes | str) -> None:
    import msgspec  # noqa: PLC0415 - see commands

    content: dict[str, Any] = msgspec.json.decode(data)
    if target.json:
        print_json({"event": name, **content}, lines=True)
        return
    now = time.strftime("%H:%M:%S")
    for one in content.get("instances" if name == "snapshot" else "changed", ()):
        held = " (held)" if one.get("held") else ""
        reason = f"  {one['reason']}" if one.get("reason") else ""
        sys.stdout.write(
            f"{now} {_SIGNS[name]} {content['service']} {one['id']} {one['address']}:{one['port']} "
            f"{one['verdict']}{held} weight {one['weight']:g}{reason}\n"
        )
    for gone in content.get("removed", ()):
        sys.stdout.write(f"{now} - {content['service']} {gone}\n")
    if name == "snapshot" and not content.get("instances"):
        sys.stdout.write(f"{now} = {content['service']} has no instances\n")
    sys.stdout.flush()


COMMANDS: Final = {"watch": Command(_configure, _run)}
