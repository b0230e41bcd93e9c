"""``townhall services``, ``instances``, ``subscribers`` and ``drain``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

from townhall.ops.arguments import duration_ms, instance_id, pair, service
from townhall.ops.commands import Command
from townhall.ops.exits import NOT_FOUND, complain
from townhall.ops.table import ago, table
from townhall.ops.target import Target, add_target, print_json

if TYPE_CHECKING:
    from townhall.client.api import Filters
    from townhall.client.records import Drain

__all__ = ["COMMANDS"]

_DRAIN_POLL_MS: Final = 10_000
"""One long poll of a drain; its own deadline may be minutes away."""


# --- services


def _configure_services(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only services whose name begins so")
    add_target(parser)


def _services(arguments: argparse.Namespace) -> int:
    return asyncio.run(_show_services(Target.of(arguments), arguments.prefix))


async def _show_services(target: Target, prefix: str) -> int:
    async with target.registry() as registry:
        found = await registry.services(prefix)
    if target.json:
        print_json(found.services)
        return 0
    rows = [(str(one.key), one.callable, one.instances, one.tags, one.revision) for one in found.services]
    sys.stdout.write(table(("name", "callable", "instances", "tags", "revision"), rows) + "\n")
    return 0


# --- instances


def _configure_instances(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", type=service, metavar="SERVICE")
    parser.add_argument("--healthy", action="store_true", help="only those that may be called")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="only those with this tag; repeat for more"
    )
    parser.add_argument(
        "--meta", action="append", default=[], type=pair, metavar="KEY=VALUE", help="only those with this metadata"
    )
    parser.add_argument("--zone", default="", metavar="ZONE", help="only those of this zone")
    parser.add_argument("--filter", default="", metavar="EXPRESSION", help="such as '\"v2\" in tags and weight > 1'")
    add_target(parser)


def _instances(arguments: argparse.Namespace) -> int:
    filters: Filters = {"healthy": arguments.healthy, "tags": arguments.tag, "meta": dict(arguments.meta)}
    if arguments.zone:
        filters["zone"] = arguments.zone
    if arguments.filter:
        filters["filter"] = arguments.filter
    return asyncio.run(_show_instances(Target.of(arguments), arguments.service, filters))


async def _show_instances(target: Target, name: str, filters: Filters) -> int:
    async with target.registry() as registry:
        found = await registry.instances(target.key(name), **filters)
    if target.json:
        print_json(found.instances)
    elif found.revision:
        now_ms = int(time.time() * 1_000)
        rows = [
            (
                one.id,
                one.authority,
                _verdict(one.verdict, held=one.held),
                ago(one.since, now_ms=now_ms),
                one.weight,
                one.zone,
                one.tags,
                one.reason,
            )
            for one in found.instances
        ]
        sys.stdout.write(table(("id", "address", "verdict", "since", "weight", "zone", "tags", "reason"), rows) + "\n")
    if not found.revision:
        return complain(f"there is no service {target.key(name)}", NOT_FOUND)
    return 0


def _verdict(verdict: str, *, held: bool) -> str:
    return f"{verdict} (held)" if held else verdict


# --- subscribers


def _configure_subscribers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", type=service, metavar="SERVICE")
    add_target(parser)


def _subscribers(arguments: argparse.Namespace) -> int:
    return asyncio.run(_show_subscribers(Target.of(arguments), arguments.service))


async def _show_subscribers(target: Target, name: str) -> int:
    async with target.registry() as registry:
        found = await registry.subscribers(target.key(name))
    if target.json:
        print_json(found)
        return 0
    now_ms = int(time.time() * 1_000)
    rows = [
        (
            one.name or one.id,
            one.address,
            one.protocol,
            ago(one.since, now_ms=now_ms),
            one.sent,
            one.acked,
            "behind" if one.behind else "current",
        )
        for one in found.subscribers
    ]
    sys.stdout.write(f"{target.key(name)} is at revision {found.revision}\n")
    sys.stdout.write(
        table(("subscriber", "address", "protocol", "since", "sent", "acknowledged", "state"), rows) + "\n"
    )
    return 0


# --- drain


def _configure_drain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", type=service, metavar="SERVICE")
    parser.add_argument("id", type=instance_id, metavar="ID")
    parser.add_argument(
        "--deadline",
        type=duration_ms,
        metavar="TIME",
        help="longest wait for subscribers; default: the service's setting",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--no-wait", action="store_true", help="only begin; do not wait until every subscriber knows")
    choice.add_argument("--cancel", action="store_true", help="take the drain back")
    add_target(parser)


def _drain(arguments: argparse.Namespace) -> int:
    return asyncio.run(_run_drain(Target.of(arguments), arguments))


async def _run_drain(target: Target, arguments: argparse.Namespace) -> int:
    key, instance = target.key(arguments.service), arguments.id
    async with target.registry() as registry:
        if arguments.cancel:
            await registry.cancel_drain(key, instance)
            if target.json:
                print_json(await registry.drain_status(key, instance))
            else:
                sys.stdout.write(f"{key} {instance}: drain cancelled\n")
            return 0
        status = await registry.drain(key, instance, deadline_ms=arguments.deadline)
        while not status.over and not arguments.no_wait:
            if not target.json:
                _tell_drain(status)
            status = await registry.drain_status(key, instance, wait_ms=_DRAIN_POLL_MS)
    if target.json:
        print_json(status)
    else:
        _tell_drain(status)
    return 0


def _tell_drain(status: Drain) -> None:
    state, missing = status.state, ", ".join(status.waiting_for)
    if missing and status.over:
        state, missing = "complete, because its deadline has passed", f"; never heard from {missing}"
    elif missing:
        missing = f", waiting for {missing}"
    sys.stdout.write(
        f"{status.service} {status.id}: {state}; {status.acknowledged} of {status.subscribers} subscribers know{missing}\n"
    )
    sys.stdout.flush()


COMMANDS: Final = {
    "services": Command(_configure_services, _services),
    "instances": Command(_configure_instances, _instances),
    "subscribers": Command(_configure_subscribers, _subscribers),
    "drain": Command(_configure_drain, _drain),
}
