"""``townhall run -- COMMAND``: runs a program that knows nothing of the registry, and keeps it registered."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Final

from townhall.model.errors import InvalidField
from townhall.ops.arguments import duration_ms, instance_id, pair, service, tag, weight
from townhall.ops.commands import Command
from townhall.ops.exits import USAGE, complain
from townhall.ops.target import Target, add_target

if TYPE_CHECKING:
    from townhall.agent.definitions import Definition
    from townhall.agent.supervisor import Plan, Supervisor
    from townhall.client.address import AddressChoice
    from townhall.model.check import CheckDefinition

__all__ = ["COMMANDS", "add_advertising", "add_timing", "choice_of", "timing_given"]

_DRAIN_DEFAULT_MS: Final = 30_000
_INTERVAL_DEFAULT_MS: Final = 5_000
_FAILURES_DEFAULT: Final = 2


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "townhall run --name SERVICE [--port PORT] [--check CHECK] [options] -- COMMAND [ARGUMENT …]"
    parser.add_argument("--name", type=service, required=True, metavar="SERVICE")
    parser.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="PORT",
        help="where the program listens; it finds the number in PORT, too. 'auto' picks a free one for it",
    )
    parser.add_argument(
        "--check",
        action="append",
        default=[],
        metavar="CHECK",
        help="http:/path, https:/path, http://host:port/path, tcp, tcp:port, grpc, grpc:name or script:command; repeat "
        "for more. Without one the program counts as well for as long as its process lives",
    )
    add_timing(parser)
    parser.add_argument("--id", type=instance_id, metavar="ID", help="default SERVICE-ADDRESS-PORT")
    parser.add_argument("--tag", type=tag, action="append", default=[], metavar="TAG", help="repeat for more")
    parser.add_argument(
        "--meta", type=pair, action="append", default=[], metavar="KEY=VALUE", help="metadata; repeat for more"
    )
    parser.add_argument("--weight", type=weight, default=1.0, metavar="N", help="share of the calls; default 1")
    for name in ("region", "zone", "cluster"):
        parser.add_argument(f"--{name}", default="", metavar="NAME")
    add_advertising(parser)
    parser.add_argument(
        "--drain",
        type=duration_ms,
        nargs="?",
        const=_DRAIN_DEFAULT_MS,
        default=0,
        metavar="TIME",
        help="on SIGTERM and SIGINT, tell the callers first and wait for them, at most this long (30s)",
    )
    parser.add_argument(
        "--stop-timeout",
        type=duration_ms,
        default=30_000,
        metavar="TIME",
        help="kill the program when it has not ended so long after the signal; default 30s",
    )
    parser.add_argument(
        "--restart",
        nargs="?",
        choices=("on-failure", "always"),
        const="on-failure",
        default="never",
        help="start it again when it has failed, or always, after 1, 2, 4 … up to 60 s",
    )
    parser.add_argument(
        "--restart-max", type=_count, default=0, metavar="N", help="give up after so many in a row; default never"
    )
    parser.add_argument(
        "--init", action="store_true", help="reap orphans, as is done in any case when this is process 1 of a container"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but warnings")
    parser.epilog = (
        "Exit code: that of COMMAND (128 + N when signal N ended it), 126 or 127 when it cannot be started, 2 for a "
        "wrong option. The registry may be away: COMMAND is started all the same and registered when it answers."
    )
    add_target(parser)


def add_timing(parser: argparse.ArgumentParser) -> None:
    """How checks are made that say nothing else."""
    parser.add_argument(
        "--check-interval", type=duration_ms, default=_INTERVAL_DEFAULT_MS, metavar="TIME", help="default 5s"
    )
    parser.add_argument("--check-timeout", type=duration_ms, metavar="TIME", help="default: the interval, at most 5s")
    parser.add_argument(
        "--check-failures",
        type=_count,
        default=_FAILURES_DEFAULT,
        metavar="N",
        help="out of use after so many failures in a row, a second apart; default 2",
    )
    parser.add_argument(
        "--check-successes", type=_count, default=1, metavar="N", help="back after so many in a row; default 1"
    )


def add_advertising(parser: argparse.ArgumentParser) -> None:
    """Which address is registered, and for how long the registry waits for us."""
    parser.add_argument(
        "--address",
        default="",
        metavar="ADDRESS",
        help="to register; default: the one by which the registry is reached",
    )
    parser.add_argument("--interface", default="", metavar="NAME", help="register an address of this interface")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="CIDR",
        help="register an address in this network; repeat for more",
    )
    parser.add_argument(
        "--ttl",
        type=duration_ms,
        metavar="TIME",
        help="how long the registry waits for a heartbeat; default: the registry's",
    )


def timing_given(arguments: argparse.Namespace) -> CheckDefinition:
    """Interval, timeout and thresholds that the options give. Raises InvalidField."""
    from townhall.agent.checks import timing_of  # noqa: PLC0415 - see commands

    return timing_of(
        interval_ms=arguments.check_interval,
        timeout_ms=arguments.check_timeout,
        failures=arguments.check_failures,
        successes=arguments.check_successes,
    )


def choice_of(arguments: argparse.Namespace) -> AddressChoice:
    """The choice of an address that the options make."""
    from townhall.client.address import AddressChoice  # noqa: PLC0415 - see commands
    from townhall.model import names  # noqa: PLC0415

    if arguments.address:
        names.address(arguments.address)
    return AddressChoice(arguments.address, arguments.interface, tuple(arguments.network))


def _port(text: str) -> int:
    if text == "auto":
        with socket.socket() as probe:
            # Free now; the program may still lose it to another one, and then fails as with any port that is taken.
            probe.bind(("", 0))
            return int(probe.getsockname()[1])
    if text.isascii() and text.isdecimal() and 0 < int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} must be a port from 1 to 65535, or auto")


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) <= 1_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to 1000")


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.trailing:
        return complain("run needs a command: townhall run --name SERVICE -- COMMAND", USAGE)
    target = Target.of(arguments)
    try:
        plan = _plan(target, arguments)
        choice = choice_of(arguments)
    except InvalidField as error:
        return complain(str(error), USAGE)
    if arguments.init or os.getpid() == 1:
        from townhall.agent.init import become_init, take_orphans  # noqa: PLC0415 - few need it

        if os.getpid() != 1:
            try:
                take_orphans()
            except OSError as error:
                return complain(f"--init: {error}", USAGE)
        become_init()
    return asyncio.run(_supervise(target, arguments, plan, choice))


def _plan(target: Target, arguments: argparse.Namespace) -> Plan:
    from townhall.agent.restarts import RestartPolicy, When  # noqa: PLC0415
    from townhall.agent.supervisor import Plan  # noqa: PLC0415

    environ = dict(os.environ)
    if arguments.port:
        environ["PORT"] = str(arguments.port)
    return Plan(
        command=arguments.trailing,
        environ=environ,
        definition=_definition(target, arguments),
        restart=RestartPolicy(When(arguments.restart), arguments.restart_max),
        drain_s=arguments.drain / 1_000,
        stop_s=arguments.stop_timeout / 1_000,
    )


def _definition(target: Target, arguments: argparse.Namespace) -> Definition:
    from townhall.agent.checks import check_of  # noqa: PLC0415
    from townhall.agent.definitions import Definition  # noqa: PLC0415
    from townhall.client.definitions import Service  # noqa: PLC0415

    key = target.key(arguments.name)
    timing = timing_given(arguments)
    texts = dict.fromkeys(arguments.check)
    # The command line is the user's own: whoever writes it may run the command anyway.
    checks = {text: check_of(text, port=arguments.port, timing=timing, scripts=True) for text in texts}
    service = Service(
        name=key.name, namespace=key.namespace, group=key.group, port=arguments.port, id=arguments.id or "",
        address=arguments.address or None, tags=tuple(arguments.tag), metadata=dict(arguments.meta), weight=arguments.weight,
        region=arguments.region, zone=arguments.zone, cluster=arguments.cluster,
    )  # fmt: skip
    return Definition(service=service, checks=checks)


async def _supervise(target: Target, arguments: argparse.Namespace, plan: Plan, choice: AddressChoice) -> int:
    from townhall.agent.keeper import Keeper  # noqa: PLC0415
    from townhall.agent.supervisor import Supervisor  # noqa: PLC0415
    from townhall.ops.notices import teller  # noqa: PLC0415

    # What the SDK logs is told as notices; without a handler Python would write its warnings to stderr as well.
    logging.getLogger("townhall").addHandler(logging.NullHandler())
    tell = teller(json=target.json, quiet=arguments.quiet)
    name = f"townhall run {plan.definition.service.name}@{socket.gethostname()}:{os.getpid()}"
    keeper = Keeper(target.registry(), name=name, tell=tell, choice=choice, ttl_ms=arguments.ttl)
    supervisor = Supervisor(plan, keeper, tell)
    _take_signals(supervisor)
    return await supervisor.run()


def _take_signals(supervisor: Supervisor) -> None:
    from townhall.agent.supervisor import PASSED_ON, STOP_SIGNALS, SUSPEND_SIGNAL, WITHOUT_TERMINAL  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    # A terminal stops with these who writes to it from the background. Who catches them there tries for ever.
    more = (SUSPEND_SIGNAL,) if any(os.isatty(stream) for stream in (0, 1, 2)) else WITHOUT_TERMINAL
    for number in (*STOP_SIGNALS, *PASSED_ON, *more):
        loop.add_signal_handler(number, supervisor.receive, number)


COMMANDS: Final = {"run": Command(_configure, _run)}
