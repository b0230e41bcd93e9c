"""What is handed to the Consul face: the log as a stream, a reload, metrics and snapshots."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from townhall.core.state import State
from townhall.face import EndOfStream, Reply, Request, Stream
from townhall.face.consul.site import Site
from townhall.model.access import Actor
from townhall.model.errors import Denied, EngineFailed, OverLimit
from townhall.ops.consul_agent import LINES_MAX, MONITORS_MAX, ConsulAgent
from townhall.wire.consul_snapshot import unpack

_log = logging.getLogger("townhall.test")


class Readable:
    """A reader that may, or may not."""

    def __init__(self, *, allowed: bool = True) -> None:
        self.allowed = allowed
        self.state = SimpleNamespace(access_enabled=False)
        self.actor = Actor()
        self.position = 0

    def require(self, resource, level, name) -> None:
        if not self.allowed:
            raise Denied("no")


def request(**query: str) -> Request:
    named = {name: [value] for name, value in query.items()}
    live = SimpleNamespace(status=lambda: {"up": 1}, now_ms=lambda: 0)
    return Request("GET", "/", {}, named, {}, b"", "127.0.0.1:1", Actor(), live)  # type: ignore[arg-type]


def agent(touched: list[Any], reloads: list[str], *, data: Any = None) -> ConsulAgent:
    hub: Any = SimpleNamespace(cursors=SimpleNamespace(touch=touched.extend), state=State())
    return ConsulAgent(
        hub, data, Site(), reload=lambda: reloads.append("now"), metrics=lambda: ["process_up 1"]
    )  # fmt: skip


def reader(**fields: Any) -> Any:
    return Readable(**fields)


async def lines(stream: Stream) -> str:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pulled = stream.pull(reader())
    return "" if pulled is None else pulled.data.decode()


def test_the_log_goes_to_who_follows_it():
    async def run() -> None:
        touched: list[Any] = []
        made = agent(touched, [])
        plain = made.monitor(request(loglevel="warn"), reader())
        machines = made.monitor(request(loglevel="warn", logjson=""), reader())
        assert isinstance(plain, Stream)
        assert isinstance(machines, Stream)
        _log.info("not this")
        _log.warning("a line\nof two")
        assert (await lines(plain)).endswith("[WARN]  test: a line\\nof two\n")
        assert (await lines(machines)).startswith('{"time"')
        assert set(touched) == {*plain.interests, *machines.interests}
        assert await lines(plain) == ""
        for number in range(LINES_MAX + 5):
            _log.error("%d", number)
        found = (await lines(plain)).splitlines()
        assert "5 lines were dropped" in found[0]
        assert len(found) == LINES_MAX + 1
        await made.stop()
        _log.error("after the end")
        assert await lines(plain) == ""

    asyncio.run(run())


def test_not_too_many_follow_it_and_who_is_gone_is_forgotten():
    async def run() -> None:
        made = agent([], [])
        streams = [made.monitor(request(), reader()) for _ in range(MONITORS_MAX)]
        with pytest.raises(OverLimit):
            made.monitor(request(), reader())
        streams.clear()
        gc.collect()
        assert isinstance(made.monitor(request(), reader()), Stream)
        await made.stop()

    asyncio.run(run())


def test_a_reload_is_the_process_own():
    async def run() -> None:
        reloads: list[str] = []
        made = agent([], reloads)
        answer = made.reload(request(), reader())
        assert isinstance(answer, Reply)
        assert (answer.status, reloads) == (200, ["now"])
        for handler in (made.reload, made.monitor, made.snapshot):
            with pytest.raises(Denied):
                handler(request(), reader(allowed=False))
        with pytest.raises(Denied):
            made.metrics(request(format="prometheus"), reader(allowed=False))
        await made.stop()

    asyncio.run(run())


def test_metrics_in_prometheus_form():
    async def run() -> None:
        made = agent([], [])
        answer = made.metrics(request(format="prometheus"), reader())
        assert isinstance(answer, Reply)
        assert answer.body.endswith(b"process_up 1\n")
        await made.stop()

    asyncio.run(run())


async def whole(stream: Stream) -> bytes:
    data = b""
    while True:
        try:
            pulled = stream.pull(reader())
        except EndOfStream as end:
            return data + end.data
        data += pulled.data if pulled is not None else b""
        await asyncio.sleep(0)


def test_a_snapshot_is_a_whole_archive(tmp_path):
    async def run() -> None:
        for data in (None, tmp_path):
            made = agent([], [], data=data)
            streams = [made.snapshot(request(), reader()) for _ in range(2)]
            with pytest.raises(OverLimit):
                made.snapshot(request(), reader())
            for stream in streams:
                assert isinstance(stream, Stream)
                archive = await whole(stream)
                assert gzip.decompress(archive)
                assert unpack(archive, size_max=100_000).last_index == 1
            await made.stop()
        assert list(tmp_path.iterdir()) == []

    asyncio.run(run())


def test_a_snapshot_that_cannot_be_written_has_no_end(tmp_path):
    async def run() -> None:
        made = agent([], [], data=tmp_path / "missing")
        stream = made.snapshot(request(), reader())
        assert isinstance(stream, Stream)
        with pytest.raises(EngineFailed):
            await whole(stream)
        await made.stop()

    asyncio.run(run())
