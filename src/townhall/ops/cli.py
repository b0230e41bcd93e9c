"""The command line: finds the sub-command, parses its arguments, runs it, and turns errors into exit codes.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 registry not reachable, 4 not found, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from townhall.ops.commands import TABLE, CommandRow, load_command
from townhall.ops.exits import FAILED, INTERRUPTED, NOT_FOUND, UNREACHABLE, USAGE, complain
from townhall.ops.parser import Parser

__all__ = ["build_parser", "main", "run"]

SERVER_PACKAGES: Final = frozenset({"hpack", "httptools", "sortedcontainers"})
"""Imported by the server and brought by its extra alone. (uvloop is, too, but everything works without it.)"""
_LEADING_OPTIONS: Final = ("--server", "--token", "--namespace", "--group", "--timeout")


def main() -> NoReturn:
    """Entry point of the ``townhall`` script and of ``python -m townhall``."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Usage errors are reported here, and nothing is raised."""
    try:
        return _dispatch(list(argv))
    except SystemExit as exit_request:  # argparse reports usage errors and --help this way
        return exit_request.code if isinstance(exit_request.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in SERVER_PACKAGES:
            raise
        return complain(
            f"this needs the packages of the server ({package} is missing): pip install 'townhall[server]'", FAILED
        )
    except BrokenPipeError:
        # The reader of our output went away (`townhall watch web | head -1`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser(row: CommandRow) -> Parser:
    """The complete parser of one command."""
    parser = Parser(prog=f"townhall {row.name}", description=row.about[0].upper() + row.about[1:] + ".")
    command = load_command(row)
    command.configure(parser)
    return parser


def _dispatch(argv: list[str]) -> int:
    leading, argv = _split_leading(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        if len(argv) > 1 and argv[0] == "help":
            return _dispatch([argv[1], "--help"])
        sys.stdout.write(_help())
        return 0 if argv else USAGE
    name = "version" if argv[0] in ("-V", "--version") else argv[0]
    row = next((row for row in TABLE if row.name == name), None)
    if row is None:
        return _unknown(name)
    own, trailing = argv[1:], []
    if row.trailing and "--" in own:
        own, trailing = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = build_parser(row)
    parser.runs_commands = row.trailing
    arguments = parser.parse_args([*leading, *own])
    arguments.trailing = trailing
    return _guarded(row, arguments)


def _guarded(row: CommandRow, arguments: argparse.Namespace) -> int:
    from townhall.model.errors import (  # noqa: PLC0415 - see commands
        LeaseNotFound,
        NotFound,
        PeerMisbehaved,
        TownhallError,
        Unauthenticated,
        Unreachable,
    )

    try:
        return load_command(row).run(arguments)
    except Unreachable as error:
        return complain(f"{error}{_reach(str(error))}", UNREACHABLE)
    except PeerMisbehaved as error:
        return complain(str(error), UNREACHABLE)
    except Unauthenticated as error:
        return complain(f"{error.message} (give one with --token or TOWNHALL_TOKEN)", FAILED)
    except (NotFound, LeaseNotFound) as error:
        return complain(str(error), NOT_FOUND)
    except TownhallError as error:
        return complain(str(error), FAILED)


def _reach(message: str) -> str:
    """What to do about a registry that cannot be reached."""
    if "certificate" in message:
        return "; SSL_CERT_FILE names the authorities to trust"
    if "does not speak TLS" in message:
        return "; its URL begins with http://"
    if "closed the connection" in message:
        return "; does it expect https, or a client certificate?"
    return "; 'townhall up' starts a registry, --server or TOWNHALL_SERVER names another"


def _split_leading(argv: list[str]) -> tuple[list[str], list[str]]:
    """Client options may stand before the command, too: ``townhall --server URL services``."""
    leading: list[str] = []
    while argv and argv[0].startswith("--"):
        name, separator, _ = argv[0].partition("=")
        if name == "--json" or (name in _LEADING_OPTIONS and separator):
            count = 1
        elif name in _LEADING_OPTIONS and len(argv) > 1:
            count = 2
        else:
            break
        leading, argv = leading + argv[:count], argv[count:]
    return leading, argv


def _unknown(name: str) -> int:
    import difflib  # noqa: PLC0415 - only for a mistake

    near = difflib.get_close_matches(name, [row.name for row in TABLE], 1)
    hint = f"; did you mean {near[0]!r}?" if near else "; 'townhall --help' lists all commands"
    return complain(f"unknown command {name!r}{hint}", USAGE)


def _help() -> str:
    lines = [
        "usage: townhall COMMAND [options]",
        "",
        "A service registry in which the clients of many registries meet.",
        "",
        "commands:",
    ]
    lines += [f"  {row.name:<13}{row.about}" for row in TABLE]
    lines += [
        "",
        "'townhall COMMAND --help' tells more. Client commands find the registry by --server or TOWNHALL_SERVER",
        "(default http://127.0.0.1:7500). Exit codes: 0 done, 1 refused or failed, 2 usage, 3 registry not reachable,",
        "4 not found.",
        "",
    ]
    return "\n".join(lines)
