"""``townhall up``: run a registry."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Final

from townhall.ops import config, logging
from townhall.ops.commands import Command
from townhall.ops.commands.config import add_config_option, effective
from townhall.ops.exits import FAILED, USAGE, complain
from townhall.ops.loops import loop_factory, raise_file_limit
from townhall.ops.options import add_options

__all__ = ["COMMANDS"]


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "townhall up [--dev | --data DIR] [--consul] [--dns] [--etcd] [--native HOST:PORT] [any option below]"
    )
    add_config_option(parser)
    add_options(parser)
    parser.epilog = (
        "Every option is also a key of the TOML file and an environment variable: --log-level is log.level and "
        "TOWNHALL_LOG_LEVEL. Options win over the environment, and that over the file. SIGTERM stops gracefully, "
        "SIGHUP reloads certificates, tokens and the log level."
    )


def _run(arguments: argparse.Namespace) -> int:
    try:
        found = effective(arguments, os.environ)
    except config.BadConfig as error:
        for problem in error.problems:
            complain(problem, USAGE)
        return USAGE
    logging.configure(level=found.settings.log.level, form=found.settings.log.format)
    raise_file_limit()
    from townhall.ops.assembly import CouldNotStart  # noqa: PLC0415 - server code, after the settings are known good
    from townhall.ops.lifetime import Life, live  # noqa: PLC0415

    node = found.settings.node
    life = Life(
        effective=found,
        data=None if node.dev else Path(config.data_directory(found.settings, os.environ)),
        node=node.name or socket.gethostname(),
        environ=os.environ,
        reload=lambda: effective(arguments, os.environ),
        out=sys.stdout,
    )
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(live(life))
    except CouldNotStart as error:
        return complain(str(error), FAILED)
    except config.BadConfig as error:
        return complain(str(error), FAILED)


COMMANDS: Final = {"up": Command(_configure, _run)}
