"""``townhall demo``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from townhall.ops.commands import Command

__all__ = ["COMMANDS"]

_PACE_RANGE: Final = (0.1, 1.2)
"""Below, events would run into each other; above, the demo would not end within its 40 s."""


def _pace(text: str) -> float:
    low, high = _PACE_RANGE
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from {low} to {high}")
    return value


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts a registry, providers and a consumer as real processes on loopback, kills, hangs and drains them while "
        "the consumer calls without pause, and ends by itself within 40 s. Exit code 0 when no call failed and the "
        "consumer saw every event."
    )
    parser.add_argument("--plain", action="store_true", help="plain lines, as without a terminal")
    parser.add_argument("--pace", type=_pace, default=1.0, metavar="N", help="stretch or shorten the pauses; default 1")


def _run(arguments: argparse.Namespace) -> int:
    from townhall.ops.demo.play import run_demo  # noqa: PLC0415 - the SDK is imported only when it is used

    plain = arguments.plain or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb"
    return run_demo(pace=arguments.pace, plain=plain)


COMMANDS: Final = {"demo": Command(_configure, _run)}
