"""A source of containers against recorded answers over a Unix socket; no Docker engine runs here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from docker_answers import container, event

import asyncio_servers
from townhall.agent import Notice
from townhall.agent.checks import timing_of
from townhall.agent.definitions import Definition
from townhall.agent.docker import Docker
from townhall.agent.docker_api import DOCKER_DEFAULT, DockerApi
from townhall.agent.docker_definitions import Containers
from townhall.model import limits
from townhall.model.errors import InvalidField, Unreachable

TIMING = timing_of(interval_ms=5_000, timeout_ms=None, failures=2, successes=1)


class Engine:
    """Speaks enough HTTP to be taken for Docker."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.containers: dict[str, dict[str, Any]] = {}
        self.streams: list[asyncio.StreamWriter] = []
        self.writers: list[asyncio.StreamWriter] = []
        """All that were ever accepted: a client may go in the middle of its question."""
        self.asked: list[str] = []
        self.broken = ""
        self.status = "200 OK"
        self.version = "1.41"
        self._server: asyncio.Server | None = None

    def put(self, name: str, **given: Any) -> None:
        self.containers[f"id-{name}"] = container(name, **{"labels": {"townhall.name": name}} | given)

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        assert self._server is not None
        await asyncio_servers.close(self._server)
        for writer in self.writers:
            writer.close()
        self.streams.clear()
        self.writers.clear()
        await asyncio.sleep(0)

    def happen(self, name: str, action: str, *, split: bool = False) -> None:
        line = json.dumps(event(name, action)).encode() + b"\n"
        self.write(*([line[:10], line[10:]] if split else [line]))

    def write(self, *pieces: bytes) -> None:
        """To everybody who follows events, a chunk for each."""
        for writer in self.streams:
            for piece in pieces:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except EOFError:
            return
        target = head.split(" ")[1]
        self.asked.append(target)
        prefix = f"/v{self.version}" if self.version else ""
        if target == "/_ping":
            told = f"Api-Version: {self.version}\r\n" if self.version else ""
            writer.write(f"HTTP/1.1 {self.status}\r\n{told}Content-Length: 2\r\n\r\nOK".encode())
            writer.close()
            return
        assert target.startswith(prefix), "the engine's own version"
        target = target.removeprefix(prefix)
        if target.startswith("/events"):
            head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(f"HTTP/1.1 {self.status}\r\n{head}".encode())
            self.streams.append(writer)
            return
        status, body = "200 OK", self.broken.encode()
        if not body:
            if target == "/containers/json":
                body = json.dumps(
                    [{"Id": id_, "Names": ["/x"], "State": "running"} for id_ in self.containers]
                ).encode()
            else:
                one = self.containers.get(target.split("/")[2])
                status = "200 OK" if one else "404 Not Found"
                body = json.dumps(one or {"message": "No such container"}).encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


class Stage:
    def __init__(self, path: str) -> None:
        self.engine = Engine(path)
        self.notices: list[Notice] = []
        self.found: Mapping[str, Definition] = {}
        self.api = DockerApi(f"unix://{path}")
        self.docker = Docker(
            self.api, Containers(host="h1", timing=TIMING), apply=self._apply, tell=self.notices.append
        )

    def _apply(self, found: Mapping[str, Definition]) -> None:
        self.found = found

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(120):
            while {one.service.name for one in self.found.values()} != set(names):  # noqa: ASYNC110 - a task is waited for
                await asyncio.sleep(0.005)

    async def until_told(self, event: str) -> None:
        async with asyncio.timeout(120):
            while event not in [notice.event for notice in self.notices]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


def play(script: Callable[[Stage], Awaitable[None]]) -> Stage:
    async def main(folder: str) -> Stage:
        stage = Stage(str(Path(folder) / "docker.sock"))
        await stage.engine.start()
        running = asyncio.create_task(stage.docker.run())
        try:
            await script(stage)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await stage.engine.stop()
        return stage

    with tempfile.TemporaryDirectory() as folder:  # A socket's path must be short.
        return asyncio.run(main(folder))


def test_containers_come_and_go_with_events() -> None:
    async def script(stage: Stage) -> None:
        stage.engine.put("first")
        await stage.until("first")
        stage.engine.put("second")
        stage.engine.put("silent", labels={})
        stage.engine.happen("second", "start", split=True)
        stage.engine.happen("silent", "start")
        await stage.until("first", "second")
        stage.engine.put("first", Health={"Status": "unhealthy", "Log": []})
        stage.engine.happen("first", "health_status: unhealthy")
        async with asyncio.timeout(120):
            while stage.found["docker-h1-first-80"].health is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        stage.engine.put("second", Running=False)
        stage.engine.happen("second", "die")
        await stage.until("first")
        del stage.engine.containers["id-first"]
        stage.engine.happen("first", "destroy")
        await stage.until()

    stage = play(script)
    assert stage.notices == []
    assert "health_status" in stage.engine.asked[1], "events are followed before the list is read"
    assert (stage.engine.asked[0], stage.engine.asked[2]) == ("/_ping", "/v1.41/containers/json")


def test_a_network_that_a_container_joins_and_a_network_that_it_shares() -> None:
    async def script(stage: Stage) -> None:
        stage.engine.put("first")
        shared = container("second", labels={"townhall.name": "second", "townhall.port": "80"}, ports={})
        stage.engine.containers["id-second"] = shared
        await stage.until("first")
        shared["HostConfig"]["NetworkMode"] = "container:id-first"
        joined = {
            "Type": "network",
            "Action": "connect",
            "Actor": {"ID": "n", "Attributes": {"container": "id-second"}},
        }
        stage.engine.write(json.dumps(joined).encode() + b"\n")
        await stage.until("first", "second")
        assert stage.found["docker-h1-second-80"].service.port == stage.found["docker-h1-first-80"].service.port

    (notice,) = play(script).notices
    assert "second: port 80: is not published" in notice.text


def test_an_engine_that_went_changes_nothing_and_is_read_anew_when_it_is_back() -> None:
    async def script(stage: Stage) -> None:
        stage.engine.put("a")
        stage.engine.put("b")
        await stage.until("a", "b")
        await stage.engine.stop()
        await stage.until_told("away")
        await stage.until("a", "b")
        del stage.engine.containers["id-a"]
        stage.engine.put("c")
        await stage.engine.start()
        await stage.until("b", "c")
        await stage.until_told("back")

    assert [notice.event for notice in play(script).notices] == ["away", "back"]


def test_a_lost_event_is_made_good_by_the_next_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AGENT_DOCKER_LIST_MS", 20)

    async def script(stage: Stage) -> None:
        await stage.until()
        stage.engine.put("quiet")
        await stage.until("quiet")

    play(script)


def test_a_container_that_is_labelled_badly_is_told_once_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AGENT_DOCKER_LIST_MS", 20)

    async def script(stage: Stage) -> None:
        stage.engine.put("bad", labels={"townhall.name": "bad", "townhall.check": "script:true"})
        stage.engine.put("good")
        await stage.until("good")
        asked = len(stage.engine.asked)
        async with asyncio.timeout(120):
            while len(stage.engine.asked) < asked + 6:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    (notice,) = play(script).notices
    assert "container bad: check: a label may not run commands" in notice.text


def test_what_is_no_docker() -> None:
    async def main() -> None:
        with pytest.raises(Unreachable, match="no such socket; does Docker run here"):
            await DockerApi("unix:///nowhere/docker.sock").running()
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(str(Path(folder) / "docker.sock"))
            engine.version = ""  # Told by none of them; nor is it asked for before the events.
            await engine.start()
            api = DockerApi(f"unix://{engine.path}")
            for answer in ("{", "{}"):
                engine.broken = answer
                with pytest.raises(Unreachable):
                    await api.running()
            engine.broken = ""
            assert await api.inspect("id-nobody") is None
            engine.status = "500 Internal Server Error"
            with pytest.raises(Unreachable, match="status 500: OK"):
                async with api.events():
                    pass
            engine.status = "200 OK"
            async with api.events() as events:
                while not engine.streams:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                engine.streams[0].write(b"4\r\nfoo\n\r\n")
                with pytest.raises(Unreachable):
                    await anext(events)
            await engine.stop()
            with pytest.raises(Unreachable, match="nothing listens"):
                await api.running()

    asyncio.run(main())
    assert limits.AGENT_DOCKER_EVENT_SIZE_MAX <= limits.AGENT_DOCKER_ANSWER_SIZE_MAX
    assert limits.AGENT_DOCKER_TIMEOUT_MS < limits.AGENT_DOCKER_LIST_MS


@pytest.mark.parametrize("url", ["", "unix://", "ftp://x", "tcp://", "tcp://127.0.0.1:x", "/var/run/docker.sock"])
def test_urls_that_name_no_engine(url: str) -> None:
    with pytest.raises(InvalidField, match="docker"):
        DockerApi(url)


def test_urls_that_do() -> None:
    for url in (DOCKER_DEFAULT, "tcp://127.0.0.1:2375", "http://127.0.0.1"):
        assert DockerApi(url).url == url
