"""``townhall status`` and ``townhall version``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from townhall.ops.commands import Command
from townhall.ops.table import table
from townhall.ops.target import Target, add_target, print_json

__all__ = ["COMMANDS"]

_FOR_PROGRAMS: Final = frozenset({"append_buckets", "append_sum_us"})
"""Of use to --json and metrics only; their quantiles are shown."""


def _configure_status(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def _status(arguments: argparse.Namespace) -> int:
    return asyncio.run(_show_status(Target.of(arguments)))


async def _show_status(target: Target) -> int:
    async with target.registry() as registry:
        found = await registry.status()
    if target.json:
        print_json(found)
    else:
        sys.stdout.write(table(("name", "value"), list(_flat("", found))) + "\n")
    return 0


def _flat(prefix: str, value: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, content in value.items():
        if name in _FOR_PROGRAMS:
            continue
        if isinstance(content, Mapping):
            yield from _flat(f"{prefix}{name}.", content)
        else:
            # Shown as text, so that one number does not set the whole column to the right.
            yield f"{prefix}{name}", content if isinstance(content, (bool, list)) else str(content)


def _configure_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _version(arguments: argparse.Namespace) -> int:
    from townhall.ops.version import version  # noqa: PLC0415 - reads the installed metadata

    if arguments.json:
        print_json({"version": version()})
    else:
        sys.stdout.write(f"townhall {version()}\n")
    return 0


COMMANDS: Final = {
    "status": Command(_configure_status, _status),
    "version": Command(_configure_version, _version),
}
