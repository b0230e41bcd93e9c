"""``townhall gateway``: server-side discovery, an HTTP proxy whose upstreams are services."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from townhall.ops import logging
from townhall.ops.commands import Command
from townhall.ops.exits import FAILED, USAGE, complain
from townhall.ops.loops import loop_factory, raise_file_limit
from townhall.ops.target import Target, add_target

__all__ = ["COMMANDS"]


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("check", nargs="?", choices=("check",), help="check FILE and end, instead of serving")
    parser.add_argument("file", nargs="?", metavar="FILE", type=Path, help="what to check")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML with routes; followed when it changes")
    parser.add_argument("--listen", metavar="HOST:PORT", action="append", default=[], help="default 127.0.0.1:7080")
    parser.add_argument("--admin", metavar="HOST:PORT", default="", help="where /metrics and /health are; default off")
    parser.add_argument(
        "--route", metavar="[HOST][/PATH]=SERVICE", action="append", default=[], help="as in /users=user; repeatable"
    )
    parser.add_argument(
        "--auto", action="store_true", help="also /SERVICE/... and the host SERVICE.service.townhall, without a route"
    )
    parser.add_argument("--tls-cert", metavar="FILE", default="", help="serve TLS with this certificate")
    parser.add_argument("--tls-key", metavar="FILE", default="", help="and this key")
    parser.add_argument("--access-log", metavar="FILE", default="", help="one line a request; - is standard output")
    parser.add_argument("--access-log-format", choices=("text", "json"), default="", help="default text")
    parser.add_argument("--zone", default="", help="where this runs: calls stay in the zone while enough is healthy")
    parser.add_argument("--region", default="")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--ready-json", action="store_true", help="say with one JSON object that it is ready")
    add_target(parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.check:
        return _check(arguments.file)
    from townhall.gateway.config import read_route  # noqa: PLC0415 - server code, only when it is needed
    from townhall.model.errors import InvalidField  # noqa: PLC0415
    from townhall.ops.gateway import CouldNotServe, GatewayLife, serve_gateway  # noqa: PLC0415

    if bool(arguments.tls_cert) != bool(arguments.tls_key):
        return complain("--tls-cert and --tls-key belong together", USAGE)
    try:
        life = GatewayLife(
            file=arguments.config,
            routes=tuple(read_route(text) for text in arguments.route),
            listen=tuple(arguments.listen),
            admin=arguments.admin,
            auto=arguments.auto,
            tls_cert=arguments.tls_cert,
            tls_key=arguments.tls_key,
            access_log=arguments.access_log,
            access_log_format=arguments.access_log_format,
            target=Target.of(arguments),
            zone=arguments.zone,
            region=arguments.region,
            environ=os.environ,
            ready_json=arguments.ready_json,
        )
    except InvalidField as error:
        return complain(str(error), USAGE)
    try:
        config = life.read()
    except InvalidField as error:
        return complain(f"--config {arguments.config}: {error}", USAGE)
    except OSError as error:
        return complain(f"--config {arguments.config}: {error.strerror}", USAGE)
    if not config.routes and not config.options.auto:
        return complain("no routes: give --route /users=user, a file with --config, or --auto", USAGE)
    logging.configure(level=arguments.log_level, form=arguments.log_format)
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(serve_gateway(life, config))
    except CouldNotServe as error:
        return complain(str(error), FAILED)


def _check(file: Path | None) -> int:
    from townhall.gateway.config import read_config  # noqa: PLC0415 - as above
    from townhall.model.errors import InvalidField  # noqa: PLC0415

    if file is None:
        return complain("which file? townhall gateway check FILE", USAGE)
    try:
        found = read_config(file.read_text(encoding="utf-8"))
    except InvalidField as error:
        return complain(f"{file}: {error}", USAGE)
    except OSError as error:
        return complain(f"{file}: {error.strerror or error}", USAGE)
    except UnicodeDecodeError as error:
        return complain(f"{file} is not UTF-8: {error}", USAGE)
    for route in found.routes:
        more = " ".join([*route.methods, *(f"{name}={value}" for name, value in route.headers.items())])
        sys.stdout.write(f"{route.host or '*'}{route.path}{more and f' ({more})'} -> {route.service}\n")
    sys.stdout.write(f"{file}: {len(found.routes)} routes, no mistakes\n")
    return 0


COMMANDS: Final = {"gateway": Command(_configure, _run)}
