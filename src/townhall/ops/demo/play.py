"""Puts the demo together: stage, callers, script and screen; and takes it apart again whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from townhall.client.api import Registry
from townhall.client.connection import parse_origin
from townhall.client.consumer import Consumer
from townhall.ops.demo.board import Board, ProviderRow
from townhall.ops.demo.caller import Callers
from townhall.ops.demo.provider import SERVICE
from townhall.ops.demo.screen import Plain, Screen, Terminal
from townhall.ops.demo.script import Play
from townhall.ops.demo.stage import Stage, StageFailed
from townhall.ops.exits import FAILED, INTERRUPTED, complain

__all__ = ["run_demo"]

_LENGTH_MAX_S: Final = 37.0
"""The demo ends by itself within 40 s, also when something is not seen."""
_FRAME_S: Final = 0.1
_FIRST: Final = ("alpha", "beta", "gamma")
_BEFORE: Final = f"""\
A registry, three providers of the service {SERVICE} ({", ".join(_FIRST)}) and a gateway start as processes of this machine.
A consumer calls {SERVICE} without pause, through the SDK and through the gateway. Meanwhile a provider is added, one is
killed, one hangs, one is drained, a program that knows nothing of all this comes and goes, and the registry is killed.
Look at the failed calls, which should stay 0, and at how soon the consumer has seen each event.
"""
_AFTER: Final = """
Do it yourself: townhall up --dev
and beside it:  townhall run --name web --port 8001 --check http:/ -- python3 -m http.server 8001
                townhall watch web
"""


def run_demo(*, pace: float, plain: bool) -> int:
    """Run it; 0 when no call failed and each event was seen, else 1. Children are gone when this returns."""
    sys.stdout.write(_BEFORE + "\n")
    sys.stdout.flush()
    screen: Screen = Plain(sys.stdout) if plain else Terminal(sys.stdout)
    board = Board()
    # What the SDK warns of is what the demo does on purpose, and it would tear the picture.
    sdk_log = logging.getLogger("townhall.client")
    level_before = sdk_log.level
    told = True
    sdk_log.setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="townhall-demo-") as directory:
            asyncio.run(_run(Path(directory), board, screen, pace))
    except StageFailed as error:
        told = board.calls > 0  # Without a call there is nothing to count.
        return complain(str(error), FAILED)
    except (asyncio.CancelledError, KeyboardInterrupt):
        board.interrupted = True
        complain("interrupted; all processes of the demo are stopped", INTERRUPTED)
        return INTERRUPTED
    finally:
        sdk_log.setLevel(level_before)
        if told:
            screen.close(board)
    if not board.good:
        return FAILED
    sys.stdout.write(_AFTER)
    return 0


async def _run(directory: Path, board: Board, screen: Screen, pace: float) -> None:
    task = asyncio.current_task()
    assert task is not None
    # SIGTERM and a closed terminal end it as Ctrl-C does: with all children.
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    stage = Stage(directory)
    try:
        await stage.start_registry()
        board.registry = stage.address
        async with asyncio.TaskGroup() as group:
            for name in _FIRST:
                board.providers[name] = ProviderRow()
                group.create_task(_start(stage, name))
            group.create_task(stage.start_gateway(SERVICE))
        await _perform(stage, board, screen, pace)
    finally:
        await stage.close()


async def _start(stage: Stage, name: str) -> None:
    await stage.start_provider(name)


async def _perform(stage: Stage, board: Board, screen: Screen, pace: float) -> None:
    consumer = Consumer(stage.url, name="demo", snapshot_directory=stage.directory / "cache")
    async with consumer, Registry(stage.url) as registry:
        handle = consumer[SERVICE]
        await handle.start()
        await handle.wait_callable(len(_FIRST))
        play = Play(stage=stage, board=board, consumer=consumer, registry=registry, pace=pace)
        assert stage.gateway is not None
        listen = next(iter(stage.gateway.ready["listen"].values()))
        callers = Callers(handle, parse_origin(listen), board)
        async with asyncio.TaskGroup() as group:
            showing = group.create_task(_show(play, board, screen))
            group.create_task(callers.run())
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LENGTH_MAX_S):
                        await play.run()
            finally:
                callers.stop()
                showing.cancel()
        play.refresh()


async def _show(play: Play, board: Board, screen: Screen) -> None:
    while True:
        play.refresh()
        screen.show(board)
        await asyncio.sleep(_FRAME_S)
