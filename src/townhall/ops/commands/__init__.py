"""Sub-commands of ``townhall``: one literal table of names, and a module for each group of them.

A module is imported only when one of its commands runs, so that ``townhall --help`` and ``townhall up`` start fast.
It exposes ``COMMANDS``, a mapping from name to ``Command``.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = ["TABLE", "Command", "CommandRow", "load_command"]


class Command(NamedTuple):
    """``configure`` adds the arguments; ``run`` does it and returns the exit code."""

    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class CommandRow(NamedTuple):
    """One line of ``townhall --help``."""

    name: str
    module: str
    about: str
    trailing: bool = False
    """What follows ``--`` is a command of its own, handed over untouched as ``arguments.trailing``."""


TABLE: Final[tuple[CommandRow, ...]] = (
    CommandRow("up", "up", "run a registry"),
    CommandRow("gateway", "gateway", "route HTTP requests to services: server-side discovery"),
    CommandRow("demo", "demo", "watch a registry, four providers and a consumer live through kills and restarts"),
    CommandRow("register", "register", "register an instance and keep it alive until stopped"),
    CommandRow("deregister", "register", "remove an instance"),
    CommandRow("run", "run", "run a program and keep it registered while it serves", trailing=True),
    CommandRow("agent", "agent", "keep registered what service files and containers' labels name"),
    CommandRow("services", "catalogue", "list services"),
    CommandRow("instances", "catalogue", "list the instances of a service with their verdict"),
    CommandRow("watch", "watch", "print changes of a service as they come"),
    CommandRow("subscribers", "catalogue", "who watches a service, and which revision each has seen"),
    CommandRow("interfaces", "interfaces", "what a service offers, by revision, and what differs between two"),
    CommandRow("drain", "catalogue", "take an instance out of use without failing a call"),
    CommandRow("kv", "keys", "get, put, del, list and watch keys"),
    CommandRow("lock", "lock", "run a command while holding a lock", trailing=True),
    CommandRow("token", "token", "bootstrap, create, list and revoke access tokens"),
    CommandRow("status", "status", "state of the registry"),
    CommandRow("backup", "backup", "write a consistent copy of the registry's data to a file"),
    CommandRow("restore", "backup", "make a data directory from a backup"),
    CommandRow("inspect", "damage", "what a data directory holds, and what in it is damaged"),
    CommandRow("salvage", "damage", "make a data directory from what can be saved of a damaged one"),
    CommandRow("config", "config", "check a configuration file, show the effective settings"),
    CommandRow("completion", "completion", "print a completion script for bash, zsh or fish"),
    CommandRow("version", "status", "print the version"),
)


def load_command(row: CommandRow) -> Command:
    """Import the row's module and give its command."""
    module = importlib.import_module(f"townhall.ops.commands.{row.module}")
    command: Command = module.COMMANDS[row.name]
    return command
