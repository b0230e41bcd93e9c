"""``townhall config check FILE`` and ``townhall config show``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from townhall.ops import config
from townhall.ops.commands import Command
from townhall.ops.exits import FAILED, USAGE, complain
from townhall.ops.options import add_options, settings_table
from townhall.ops.table import table

__all__ = ["COMMANDS", "add_config_option", "effective"]


def effective(arguments: argparse.Namespace, environ: Mapping[str, str]) -> config.Effective:
    """The settings of a command that takes every option and ``--config``. Raises ``BadConfig``."""
    path = getattr(arguments, "config", None) or environ.get("TOWNHALL_CONFIG", "")
    content = config.read_file(path) if path else {}
    return config.load(vars(arguments), environ, content, path=path)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """``--config FILE``."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings (TOWNHALL_CONFIG)")


def _configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="check|show")
    check = commands.add_parser("check", help="check a configuration file and say all that is wrong with it")
    check.add_argument("file", metavar="FILE", help="the TOML file")
    show = commands.add_parser(
        "show",
        help="show the effective settings and where each comes from",
        usage="townhall config show [--json] [--config FILE] [any option of townhall up]",
    )
    show.add_argument("--json", action="store_true", help="print JSON")
    add_config_option(show)
    add_options(show)


def _run(arguments: argparse.Namespace) -> int:
    try:
        return _check(arguments.file) if arguments.action == "check" else _show(arguments)
    except config.BadConfig as error:
        for problem in error.problems:
            complain(problem, FAILED)
        return FAILED if arguments.action == "check" else USAGE


def _check(path: str) -> int:
    found = config.load({}, {}, config.read_file(path), path=path)
    listeners = ", ".join(f"{name} on {where}" for name, where in found.listeners.items())
    sys.stdout.write(f"{path}: good; listens: {listeners}\n")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    found = effective(arguments, os.environ)
    rows = {setting.key: _row(found, setting.key, setting.room, setting.name) for setting in settings_table()}
    rows["data"]["value"] = "" if found.settings.node.dev else config.data_directory(found.settings, os.environ)
    for warning in found.warnings:
        complain(warning, 0)
    if arguments.json:
        listen = {name: str(where) for name, where in found.listeners.items()}
        sys.stdout.write(json.dumps({"settings": rows, "listen": listen}, indent=2) + "\n")
        return 0
    sys.stdout.write(
        table(("key", "value", "source"), [(key, row["value"], row["source"]) for key, row in rows.items()]) + "\n"
    )
    sys.stdout.write("\nlistens: " + ", ".join(f"{name} on {where}" for name, where in found.listeners.items()) + "\n")
    return 0


def _row(found: config.Effective, key: str, room: str, name: str) -> dict[str, Any]:
    where = found.listeners.get(name) if room == "listen" else None
    value = getattr(getattr(found.settings, room), name)
    if room == "listen" and isinstance(value, str):
        # Faces that this version does not have are off, whatever --all says.
        value = str(where) if where else "off"
    return {"value": value, "source": found.sources[key].text}


COMMANDS: Final = {"config": Command(_configure, _run)}
