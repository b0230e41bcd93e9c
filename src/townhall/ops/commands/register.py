"""``townhall register`` and ``townhall deregister``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from townhall.ops.arguments import address_port, duration_ms, instance_id, pair, service, tag, weight
from townhall.ops.commands import Command
from townhall.ops.exits import USAGE, complain
from townhall.ops.target import Target, add_target, print_json

if TYPE_CHECKING:
    from townhall.client.api import Registry
    from townhall.client.provider import Alarm
    from townhall.client.records import Registered
    from townhall.model.instance import ServiceKey

__all__ = ["COMMANDS"]


def _configure_register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", type=service, metavar="SERVICE")
    parser.add_argument("address", type=address_port, metavar="ADDR:PORT")
    parser.add_argument("--id", type=instance_id, metavar="ID", help="default SERVICE-ADDR-PORT")
    parser.add_argument("--tag", type=tag, action="append", default=[], metavar="TAG", help="repeat for more")
    parser.add_argument(
        "--meta", type=pair, action="append", default=[], metavar="KEY=VALUE", help="metadata; repeat for more"
    )
    parser.add_argument(
        "--port",
        type=_named_port,
        action="append",
        default=[],
        metavar="NAME=PORT",
        help="a further, named port; repeat for more",
    )
    parser.add_argument(
        "--weight", type=weight, default=1.0, metavar="N", help="share of the calls relative to others; default 1"
    )
    for name in ("region", "zone", "cluster"):
        parser.add_argument(f"--{name}", default="", metavar="NAME")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--ttl",
        type=duration_ms,
        metavar="TIME",
        help="how long the registry waits for a heartbeat; default: the registry's",
    )
    choice.add_argument(
        "--once", action="store_true", help="leave a persistent entry and end, instead of keeping it alive"
    )
    add_target(parser)


def _named_port(text: str) -> tuple[str, int]:
    name, port = pair(text)
    return name, address_port(f"127.0.0.1:{port}")[1]


def _register(arguments: argparse.Namespace) -> int:
    target = Target.of(arguments)
    return asyncio.run(_register_once(target, arguments) if arguments.once else _keep(target, arguments))


def _fields(target: Target, arguments: argparse.Namespace) -> dict[str, Any]:
    key = target.key(arguments.service)
    address, port = arguments.address
    return {
        "service": key.name, "namespace": key.namespace, "group": key.group, "address": address, "port": port,
        "id": arguments.id or "", "tags": tuple(arguments.tag), "metadata": dict(arguments.meta), "ports": dict(arguments.port),
        "weight": arguments.weight, "region": arguments.region, "zone": arguments.zone, "cluster": arguments.cluster,
    }  # fmt: skip


async def _register_once(target: Target, arguments: argparse.Namespace) -> int:
    from townhall.client.records import Registration  # noqa: PLC0415 - see commands

    async with target.registry() as registry:
        made = await registry.register(Registration(**_fields(target, arguments), persistent=True))
    _tell(target, made, "registered for good; 'townhall deregister' removes it")
    return 0


async def _keep(target: Target, arguments: argparse.Namespace) -> int:
    """Stays until SIGTERM or SIGINT, then deregisters; through everything that happens to the registry meanwhile."""
    from townhall.client.provider import Provider  # noqa: PLC0415 - see commands

    # Alarms are printed below; without a handler Python would write their log lines to stderr as well.
    logging.getLogger("townhall").addHandler(logging.NullHandler())
    ttl = None if arguments.ttl is None else arguments.ttl / 1_000
    provider = Provider(
        target.server, **_fields(target, arguments), ttl=ttl, token=target.token, on_alarm=_alarm, handle_signals=True
    )
    await provider.start()
    made = provider.instances[0]
    ttl_text = f", TTL {made.ttl_ms / 1_000:g} s" if made.ttl_ms else ""
    _tell(target, made, f"registered{ttl_text}; renewing until Ctrl-C or SIGTERM, then deregistered")
    await provider.wait_stopped()
    if not target.json:
        sys.stdout.write(f"{made.instance.key} {made.instance.id}: deregistered\n")
    return 0


def _tell(target: Target, made: Registered, text: str) -> None:
    if target.json:
        print_json(made)
    else:
        sys.stdout.write(f"{made.instance.key} {made.instance.id} at {made.instance.authority}: {text}\n")
        sys.stdout.flush()


def _alarm(alarm: Alarm) -> None:
    complain(alarm.message, 0)


# --- deregister


def _configure_deregister(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", type=service, metavar="SERVICE")
    parser.add_argument("id", type=instance_id, nargs="+", metavar="ID", help="the instance's id, or its ADDR:PORT")
    parser.add_argument("--incarnation", type=int, metavar="N", help="only if it is still this incarnation")
    add_target(parser)


def _deregister(arguments: argparse.Namespace) -> int:
    if arguments.incarnation is not None and len(arguments.id) > 1:
        return complain("--incarnation is for one ID only", USAGE)
    return asyncio.run(_remove(Target.of(arguments), arguments))


async def _remove(target: Target, arguments: argparse.Namespace) -> int:
    key = target.key(arguments.service)
    async with target.registry() as registry:
        for asked in arguments.id:
            for found in await _meant(registry, key, asked):
                await registry.deregister(key, found, incarnation=arguments.incarnation)
                if target.json:
                    print_json({"service": key.name, "id": found, "removed": True}, lines=True)
                else:
                    sys.stdout.write(f"{key} {found}: deregistered\n")
    return 0


async def _meant(registry: Registry, key: ServiceKey, asked: str) -> list[str]:
    """Ids that are meant: that one, or those at this ADDR:PORT. One that does not exist is left to the registry."""
    instances = (await registry.instances(key)).instances
    if any(one.id == asked for one in instances):
        return [asked]
    return [one.id for one in instances if one.authority == asked] or [asked]


COMMANDS: Final = {
    "register": Command(_configure_register, _register),
    "deregister": Command(_configure_deregister, _deregister),
}
