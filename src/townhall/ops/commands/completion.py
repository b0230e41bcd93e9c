"""``townhall completion SHELL``."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from townhall.ops.commands import Command

__all__ = ["COMMANDS"]


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to write the script for")
    parser.epilog = "bash: source <(townhall completion bash)"


def _run(arguments: argparse.Namespace) -> int:
    from townhall.ops.completion import RENDERERS  # noqa: PLC0415 - it imports every command

    sys.stdout.write(RENDERERS[arguments.shell]())
    return 0


COMMANDS: Final = {"completion": Command(_configure, _run)}
