from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from townhall.face import EndOfStream, Reply, Request, Route, Stream
from townhall.model.access import Actor
from townhall.model.errors import Conflict, Denied, EngineFailed, OverLimit
from townhall.ops import extension
from townhall.ops.extension import Backups, Extended


def request() -> Request:
    return Request("GET", "/", {}, {}, {}, b"", "127.0.0.1:1", Actor(), SimpleNamespace())  # type: ignore[arg-type]


class Readable:
    """A reader that may, or may not."""

    def __init__(self, *, allowed: bool = True) -> None:
        self.allowed = allowed

    def require(self, resource, level, name) -> None:
        if not self.allowed:
            raise Denied("no")


def face(handler) -> SimpleNamespace:
    return SimpleNamespace(
        name="native",
        routes=[Route("GET", "/metrics", handler), Route("POST", "/metrics", handler), Route("GET", "/other", handler)],
        credentials=lambda headers, query: "secret",
        error=lambda error, request: Reply(500),
        no_route=lambda method, path, allowed: Reply(404),
    )


def test_metrics_get_further_lines_and_nothing_else_changes():
    inner = face(lambda request, reader: Reply(200, b"a 1\n", ((b"x", b"y"),), b"text/plain"))
    extended = Extended(inner, lambda: ["b 2", "c 3"])
    first, second, third = (route.handler(request(), Readable()) for route in extended.routes)
    assert first == Reply(200, b"a 1\nb 2\nc 3\n", ((b"x", b"y"),), b"text/plain")
    assert second.body == third.body == b"a 1\n"
    assert extended.name == "native"
    assert extended.credentials({}, {}) == "secret"
    assert extended.error(Denied("x"), None).status == 500
    assert extended.no_route("GET", "/", ()).status == 404


def test_a_refusal_of_metrics_is_passed_on():
    extended = Extended(face(lambda request, reader: Reply(403, b"no")), lambda: ["b 2"])
    assert extended.routes[0].handler(request(), Readable()) == Reply(403, b"no")


def test_backup_needs_operator_rights_and_data(tmp_path):
    with pytest.raises(Denied):
        Backups(SimpleNamespace(), tmp_path).answer(request(), Readable(allowed=False))
    with pytest.raises(Conflict, match="memory"):
        Backups(SimpleNamespace(), None).answer(request(), Readable())
    operation = Backups(SimpleNamespace(), None).operation()
    assert (operation.method, operation.pattern) == ("GET", "/api/v1/backup")


def backups(tmp_path, make, monkeypatch) -> tuple[Backups, list[object]]:
    touched: list[object] = []
    monkeypatch.setattr(extension._Job, "_make", make)
    hub = SimpleNamespace(cursors=SimpleNamespace(touch=touched.extend))
    return Backups(hub, tmp_path), touched  # type: ignore[arg-type]


async def woken(touched: list[object]) -> None:
    while not touched:  # noqa: ASYNC110 - the job tells nobody else
        await asyncio.sleep(0)


def test_it_is_sent_in_pieces_and_nothing_stays_behind(tmp_path, monkeypatch):
    content = bytes(range(256)) * 3_000

    async def make(job, target: str) -> None:
        with open(target, "wb") as file:  # noqa: ASYNC230
            file.write(content)

    async def scenario():
        made, touched = backups(tmp_path, make, monkeypatch)
        stream = made.answer(request(), Readable())
        assert isinstance(stream, Stream)
        assert stream.pull(Readable()) is None
        await woken(touched)
        assert touched == list(stream.interests)
        assert list(tmp_path.iterdir()) == []
        received = stream.pull(Readable()).data + stream.pull(Readable()).data
        with pytest.raises(EndOfStream) as end:
            stream.pull(Readable())
        assert received + end.value.data == content
        assert len(touched) == 3

    asyncio.run(scenario())


def test_a_failed_backup_cuts_the_stream(tmp_path, monkeypatch):
    async def make(job, target: str) -> None:
        raise EngineFailed("the disk is gone")

    async def scenario():
        made, touched = backups(tmp_path, make, monkeypatch)
        stream = made.answer(request(), Readable())
        await woken(touched)
        with pytest.raises(EngineFailed, match="the disk is gone"):
            stream.pull(Readable())

    asyncio.run(scenario())


def test_only_so_many_at_once_and_stop_gives_them_up(tmp_path, monkeypatch):
    async def make(job, target: str) -> None:
        await asyncio.sleep(3_600)

    async def scenario():
        made, _ = backups(tmp_path, make, monkeypatch)
        for _ in range(2):
            made.answer(request(), Readable())
        with pytest.raises(OverLimit):
            made.answer(request(), Readable())
        await asyncio.sleep(0)
        await made.stop()
        assert list(tmp_path.iterdir()) == []
        made.answer(request(), Readable())
        await made.stop()

    asyncio.run(scenario())


def test_the_process_that_makes_it_reports_why_it_failed(tmp_path):
    async def scenario():
        woken: list[bool] = []
        job = extension._Job(tmp_path, lambda: woken.append(True))
        await job.run()
        assert woken
        with pytest.raises(EngineFailed):
            job.pull(Readable())

    asyncio.run(scenario())
