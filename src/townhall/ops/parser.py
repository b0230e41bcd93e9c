"""An argument parser whose errors are one line with the nearest option, instead of pages of usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import NoReturn

from townhall.ops.exits import USAGE

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """Exits with 2 and one line: what is wrong, the nearest option if one was mistyped, and where help is."""

    runs_commands = False
    """Whether what stands behind '--' is a command to run."""

    def __init__(self, **keywords: object) -> None:
        keywords.setdefault("allow_abbrev", False)
        super().__init__(**keywords)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Report a usage error. Raises SystemExit(2)."""
        hint = _hint(self, message)
        sys.stderr.write(f"townhall: {message}{hint} ('{self.prog} --help' shows how it is used)\n")
        sys.exit(USAGE)


def option_names(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All long options of a parser and its sub-commands."""
    for action in parser._actions:  # argparse shows its tree nowhere else
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from option_names(child)


def _hint(parser: Parser, message: str) -> str:
    prefix = "unrecognized arguments: "
    if not message.startswith(prefix):
        return ""
    import difflib  # noqa: PLC0415 - only for a mistake

    wrong = message.removeprefix(prefix).split()[0].partition("=")[0]
    if parser.runs_commands and not wrong.startswith("-"):
        return "; the command to run stands behind '--'"
    near = difflib.get_close_matches(wrong, sorted(set(option_names(parser))), 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""
