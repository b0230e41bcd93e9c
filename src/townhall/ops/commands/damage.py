"""``townhall inspect --data DIR`` and ``townhall salvage --data DIR TARGET``: what to do when a journal is damaged."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from townhall.ops.commands import Command
from townhall.ops.exits import FAILED
from townhall.ops.target import print_json

if TYPE_CHECKING:
    from townhall.engine.inspection import Report

__all__ = ["COMMANDS"]


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", required=True, help="the data directory; it is not changed")


def _configure_inspect(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _inspect(arguments: argparse.Namespace) -> int:
    from townhall.engine.inspection import inspect  # noqa: PLC0415 - server code

    report = inspect(Path(arguments.data))
    found = _found(report)
    if arguments.json:
        print_json(found)
    else:
        for name, value in found.items():
            if name != "damages":
                sys.stdout.write(f"{name.replace('_', ' ')}: {value}\n")
        for damage in report.damages:
            sys.stdout.write(f"DAMAGED at position {damage.position}: {damage.file}: {damage.reason}\n")
        if report.damages and report.reach >= 0:
            sys.stdout.write(f"what can be saved: townhall salvage --data {arguments.data} NEW-DIR\n")
    return FAILED if report.damages else 0


def _found(report: Report) -> Mapping[str, object]:
    return {
        "snapshot": report.snapshot,
        "oldest": report.oldest,
        "tail": report.tail,
        "state_reaches": report.reach,
        "salvageable_entries": report.salvageable,
        "unfinished_bytes": report.torn_size,
        "damages": [{"position": d.position, "file": str(d.file), "reason": d.reason} for d in report.damages],
    }


def _configure_salvage(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument("target", metavar="NEW-DIR", help="the data directory to make; must be absent or empty")


def _salvage(arguments: argparse.Namespace) -> int:
    from townhall.engine.inspection import salvage  # noqa: PLC0415 - server code

    stock = salvage(Path(arguments.data), Path(arguments.target))
    sys.stdout.write(
        f"{arguments.target}: saved up to position {stock.tail}; start it with: townhall up --data {arguments.target}\n"
    )
    return 0


COMMANDS: Final = {
    "inspect": Command(_configure_inspect, _inspect),
    "salvage": Command(_configure_salvage, _salvage),
}
