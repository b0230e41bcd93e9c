"""``townhall agent``: keeps registered what service files and containers' labels name."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from townhall.model import limits
from townhall.model.errors import InvalidField
from townhall.ops.commands import Command
from townhall.ops.commands.run import add_advertising, add_timing, choice_of, timing_given
from townhall.ops.exits import FAILED, USAGE, complain
from townhall.ops.target import Target, add_target

if TYPE_CHECKING:
    from townhall.agent import Tell
    from townhall.agent.agent import Agent
    from townhall.agent.docker import Docker
    from townhall.agent.docker_api import DockerApi
    from townhall.agent.folder import Folder
    from townhall.client.address import AddressChoice
    from townhall.model.check import CheckDefinition

__all__ = ["COMMANDS"]


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a service file (.toml, or .json as Consul has it) or a directory of them; repeat for more",
    )
    parser.add_argument(
        "--check-config", action="store_true", help="read the files, tell what is wrong with them, and end"
    )
    parser.add_argument(
        "--docker",
        nargs="?",
        const="",
        metavar="URL",
        help="register containers by their labels; default DOCKER_HOST of the environment, or "
        "unix:///var/run/docker.sock",
    )
    parser.add_argument(
        "--docker-address",
        choices=("published", "container"),
        default="published",
        help="register where ports are published on this machine (default), or the container's own address and port",
    )
    parser.add_argument("--host", default="", metavar="NAME", help="in the ids of containers; default: the hostname")
    parser.add_argument(
        "--enable-scripts",
        action="store_true",
        help="run checks that are commands, as this user; never those of labels",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave everything registered when stopped; a new agent takes it over, or the leases end it",
    )
    add_timing(parser)
    add_advertising(parser)
    parser.add_argument("--quiet", action="store_true", help="say nothing but warnings")
    add_target(parser)


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.config and arguments.docker is None:
        return complain("agent needs --config PATH or --docker", USAGE)
    from townhall.agent.docker_api import DOCKER_DEFAULT, DockerApi  # noqa: PLC0415 - see commands
    from townhall.agent.folder import Folder  # noqa: PLC0415
    from townhall.ops.notices import teller  # noqa: PLC0415

    target = Target.of(arguments)
    tell = teller(json=target.json, quiet=arguments.quiet)
    try:
        choice, timing = choice_of(arguments), timing_given(arguments)
        url = arguments.docker or os.environ.get("DOCKER_HOST") or DOCKER_DEFAULT
        engine = None if arguments.docker is None else DockerApi(url)
    except InvalidField as error:
        return complain(str(error), USAGE)
    for path in arguments.config:
        if not path.exists():
            return complain(f"--config {path}: there is no such file or directory", USAGE)
    folder = Folder(arguments.config, timing=timing, scripts=arguments.enable_scripts, tell=tell)
    if arguments.check_config:
        found = folder.look()
        count = f"{len(found)} service{'' if len(found) == 1 else 's'}"
        return FAILED if folder.broken else complain(f"{count}, nothing is wrong", 0)
    # What the SDK logs is told as notices; without a handler Python would write its warnings to stderr as well.
    logging.getLogger("townhall").addHandler(logging.NullHandler())
    return asyncio.run(_serve(target, arguments, choice, _Sources(folder, engine, timing, tell)))


class _Sources(NamedTuple):
    """Where definitions come from, and who is told about them."""

    folder: Folder
    engine: DockerApi | None
    timing: CheckDefinition
    tell: Tell


async def _serve(target: Target, arguments: argparse.Namespace, choice: AddressChoice, sources: _Sources) -> int:
    from townhall.agent.agent import Agent  # noqa: PLC0415 - see commands
    from townhall.agent.keeper import Keeper  # noqa: PLC0415
    from townhall.probe.ranges import Ranges  # noqa: PLC0415

    tell = sources.tell
    name = f"townhall agent {socket.gethostname()}:{os.getpid()}"
    keeper = Keeper(target.registry(), name=name, tell=tell, choice=choice, ttl_ms=arguments.ttl)
    agent = Agent(keeper, ranges=Ranges(), tell=tell)
    stop, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    keeper.start()
    tasks: list[asyncio.Task[None]] = []
    if arguments.config:
        tasks.append(loop.create_task(_follow_files(sources.folder, agent, again), name="files"))
    if sources.engine is not None:
        tasks.append(loop.create_task(_docker(sources, arguments, agent).run(), name="docker"))
    stopped = loop.create_task(stop.wait())
    try:
        # A source that ends has failed in an unforeseen way; that is the end of the agent, and the lease says so.
        await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        stopped.cancel()
        for task in tasks:
            task.cancel()
        agent.stop()
        await keeper.leave(keep=arguments.keep)
    return 0


async def _follow_files(folder: Folder, agent: Agent, again: asyncio.Event) -> None:
    """Look every two seconds, and at once on SIGHUP, which also confirms removals that are held back."""
    confirmed = False
    while True:
        agent.apply("files", folder.look(confirmed=confirmed))
        try:
            async with asyncio.timeout(limits.AGENT_FOLDER_INTERVAL_MS / 1000):
                await again.wait()
        except TimeoutError:
            pass
        confirmed = again.is_set()
        again.clear()


def _docker(sources: _Sources, arguments: argparse.Namespace, agent: Agent) -> Docker:
    from townhall.agent.docker import Docker  # noqa: PLC0415 - see commands
    from townhall.agent.docker_definitions import Containers  # noqa: PLC0415

    assert sources.engine is not None
    containers = Containers(
        host=arguments.host or socket.gethostname(),
        timing=sources.timing,
        by_container_address=arguments.docker_address == "container",
    )
    return Docker(sources.engine, containers, apply=lambda found: agent.apply("docker", found), tell=sources.tell)


COMMANDS: Final = {"agent": Command(_configure, _run)}
