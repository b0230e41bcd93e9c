from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest

from townhall.client.connection import Origin
from townhall.client.records import Instance
from townhall.model.errors import Unreachable
from townhall.ops.commands.demo import _pace
from townhall.ops.demo import play as play_module
from townhall.ops.demo.board import Board, ProviderRow
from townhall.ops.demo.caller import Callers
from townhall.ops.demo.play import run_demo
from townhall.ops.demo.provider import NameServer
from townhall.ops.demo.script import Play
from townhall.ops.demo.stage import Stage, StageFailed
from townhall.ops.exits import FAILED, INTERRUPTED


class Tracked:
    """A provider as far as the name server needs it."""

    def __init__(self) -> None:
        self.running = 0

    def track(self) -> Tracked:
        return self

    def __enter__(self) -> None:
        self.running += 1

    def __exit__(self, *error: object) -> None:
        self.running -= 1


def test_the_name_server_answers_its_name_again_and_again():
    async def scenario():
        server = NameServer("alpha", work_s=0)
        server.provider = Tracked()  # type: ignore[assignment]
        port = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head
            assert await reader.readexactly(6) == b"alpha\n"
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await server.finish()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    asyncio.run(scenario())


class Handle:
    """Gives one instance to every call; fails over once when asked to."""

    def __init__(self, port: int, outcomes: list[str]) -> None:
        self.instance = Instance(id="alpha", service="greeter", address="127.0.0.1", port=port)
        self.outcomes = outcomes

    async def call(self, attempt, **options):
        outcome = self.outcomes.pop(0)
        if outcome == "fail":
            raise Unreachable("nobody there")
        if outcome == "again":
            await attempt(self.instance)
        return await attempt(self.instance)


def test_callers_keep_the_score():
    async def scenario():
        server = NameServer("alpha", work_s=0)
        server.provider = Tracked()  # type: ignore[assignment]
        board = Board()
        port = await server.start()
        handle = Handle(port, ["good", "again", "fail"])
        callers = Callers(handle, Origin("http", "127.0.0.1", port), board)  # type: ignore[arg-type]
        for _ in range(3):
            await callers._call_once()
        await callers._call_gateway()
        unreachable = Callers(handle, Origin("http", "127.0.0.1", 1), board)  # type: ignore[arg-type]
        await unreachable._call_gateway()
        callers.stop()
        await callers.run()
        server.close()
        await server.finish()
        return board

    board = asyncio.run(scenario())
    assert (board.calls, board.failed, board.failed_over, board.answers["alpha"]) == (3, 1, 1, 2)
    assert "nobody there" in board.failures[0]
    assert (board.gateway_calls, board.gateway_failed) == (2, 1)
    assert "through the gateway" in board.failures[1]


def scripted(instances: list[Instance]) -> tuple[Play, Board]:
    handle = SimpleNamespace(instances=lambda: tuple(instances))
    board = Board()
    holder = type("Consumer", (), {"__getitem__": lambda self, name: handle, "state": "connected"})()
    return Play(stage=Stage(None), board=board, consumer=holder, registry=None, pace=0.1), board  # type: ignore[arg-type]


def test_an_event_is_seen_when_the_picture_says_so():
    async def scenario():
        instances: list[Instance] = []
        play, board = scripted(instances)
        event, seen = play._expect("add alpha", "it may be called", lambda: play._callable("alpha"))
        play._look()
        assert event.seen_at is None
        instances.append(Instance(id="alpha", service="greeter", address="127.0.0.1", callable=False))
        play._look()
        assert event.seen_at is None
        instances[:] = [Instance(id="alpha", service="greeter", address="127.0.0.1", weight=3.0)]
        await play._seen(seen)
        assert event.seen_at is not None
        assert event.seen_ms is not None
        assert (play._weight("alpha"), play._verdict("alpha"), play._verdict("beta")) == (3.0, "up", "gone")
        board.providers.update({"alpha": ProviderRow(), "beta": ProviderRow()})
        play.refresh()
        assert [row.verdict for row in board.providers.values()] == ["up", "gone"]

    asyncio.run(scenario())


def test_an_event_that_is_never_seen_does_not_stop_the_play(monkeypatch):
    monkeypatch.setattr("townhall.ops.demo.script._SEEN_TIMEOUT_S", 0.01)

    async def scenario():
        play, board = scripted([])
        _, seen = play._expect("add alpha", "it may be called", lambda: False)
        await play._seen(seen)
        assert board.events[0].seen_at is None

    asyncio.run(scenario())


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_stage_starts_real_processes_and_ends_all_of_them(tmp_path):
    async def scenario():
        stage = Stage(tmp_path)
        try:
            await stage.start_registry()
            child = await stage.start_provider("alpha")
            assert child.ready["name"] == "alpha"
            pids = [stage.registry.process.pid, child.process.pid]
            child.signal(19)  # a stopped process is ended, too
        finally:
            await stage.close()
        await stage.close()
        return pids

    assert all(gone(pid) for pid in asyncio.run(scenario()))


def test_a_process_that_does_not_come_up_is_named_with_what_it_said(tmp_path):
    async def scenario():
        stage = Stage(tmp_path, address="127.0.0.1:9")
        with pytest.raises(StageFailed, match="alpha did not come up"):
            await stage.start_provider("alpha")
        await stage.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "code"), [(StageFailed("x did not come up"), FAILED), (KeyboardInterrupt(), INTERRUPTED)]
)
def test_what_stops_the_demo_is_its_exit_code(error, code, monkeypatch, capsys):
    async def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(play_module, "_run", fail)
    assert run_demo(pace=1.0, plain=True) == code
    said = capsys.readouterr()
    assert "townhall: " in said.err
    assert "NOT GOOD" not in said.out, "there was no call to count"


def test_the_pace_has_bounds():
    assert _pace("0.5") == 0.5
    for text in ("0", "9", "fast", "nan"):
        with pytest.raises(Exception, match="must be a number"):
            _pace(text)
