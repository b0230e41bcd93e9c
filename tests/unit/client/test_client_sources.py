"""Instances without a registry: lists of addresses, names in DNS, and services that are pointed elsewhere."""

from __future__ import annotations

import asyncio
import socket

import pytest
from backends import Backend
from fake_registry import FakeRegistry, until

from townhall.client import sources
from townhall.client.consumer import Consumer
from townhall.client.sources import Dns, SourceMirror, Static, parse_source, parse_sources
from townhall.model import limits
from townhall.model.errors import InvalidField, NoInstance
from townhall.model.instance import ServiceKey

KEY = ServiceKey("default", "source", "x")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("static://127.0.0.1:80", Static((("127.0.0.1", 80),))),
        ("static://127.0.0.1:80, [::1]:81", Static((("127.0.0.1", 80), ("::1", 81)))),
        ("dns://users.internal:8080", Dns("users.internal", 8080)),
    ],
)
def test_sources_are_read(text: str, source: Static | Dns) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text",
    ["", "http://x:1", "static://", "static://a", "static://a:b", "static://a:1,", "dns://a:1/p", "dns://[::1:2"],
)
def test_sources_that_are_none(text: str) -> None:
    with pytest.raises(InvalidField):
        parse_source(text)


def test_the_environments_list() -> None:
    assert parse_sources("") == {}
    assert parse_sources(" a=static://h:1 ; b=dns://c:2;") == {"a": "static://h:1", "b": "dns://c:2"}
    for bad in ("a", "=static://h:1", "a=tcp://h:1"):
        with pytest.raises(InvalidField):
            parse_sources(bad)


def test_calls_without_any_registry() -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(120),
            Backend("a") as a,
            Backend("b") as b,
            Consumer("http://127.0.0.1:1") as consumer,
        ):
            handle = consumer[f"static://127.0.0.1:{a.port},127.0.0.1:{b.port}"]
            assert handle is consumer[f"static://127.0.0.1:{a.port},127.0.0.1:{b.port}"]
            assert {(await handle.get("/")).body for _ in range(8)} == {b"a", b"b"}
            await a.die()
            assert {(await handle.get("/")).body for _ in range(8)} == {b"b"}
            assert not handle.stale

    asyncio.run(main())


def test_one_service_is_pointed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), FakeRegistry() as fake, Backend("mine") as mine:
            await fake.put("user", "theirs")
            await fake.put("order", "o")
            monkeypatch.setenv("TOWNHALL_SOURCES", f"user=static://127.0.0.1:{mine.port}")
            async with Consumer(fake.url, snapshot_directory=None) as consumer:
                assert (await consumer["user"].get("/")).body == b"mine"
                await consumer["order"].start()
                assert consumer["order"].pick().id == "o"

    asyncio.run(main())


def test_a_mistake_in_the_options_is_told_at_once() -> None:
    with pytest.raises(InvalidField):
        Consumer("http://127.0.0.1:1", sources={"user": "127.0.0.1:80"})
    with pytest.raises(InvalidField):
        Consumer("http://127.0.0.1:1")["file://x:1"]


def test_a_name_is_looked_up_again_and_goes_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[list[str] | None] = [["127.0.0.1", "127.0.0.2"]]

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        found = answers[-1]
        if found is None:
            raise socket.gaierror("no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
        mirror = SourceMirror(KEY, Dns("users.internal", 8080))
        changes = []
        mirror.listen(KEY, changes.append)
        await mirror.ready(KEY, budget_s=5)
        assert [one.id for one in changes[0].picture.instances] == ["127.0.0.1:8080", "127.0.0.2:8080"]
        answers.append(["127.0.0.2", "127.0.0.3"])
        await until(lambda: len(changes) == 2)
        assert ([one.id for one in changes[1].changed], changes[1].removed) == (["127.0.0.3:8080"], ("127.0.0.1:8080",))
        answers.append(None)
        await until(lambda: mirror.age_s(KEY) > 0)
        assert mirror.picture(KEY) is changes[1].picture, "what was known stays"
        answers.append(["127.0.0.2", "127.0.0.3"])
        await until(lambda: mirror.age_s(KEY) == 0)
        assert len(changes) == 2, "the same again is no change"
        await mirror.release()

    monkeypatch.setattr(sources.limits, "CLIENT_DNS_INTERVAL_MS", 5)
    assert limits.CLIENT_DNS_INTERVAL_MS == 5
    asyncio.run(main())


def test_a_name_that_does_not_exist() -> None:
    async def main() -> None:
        mirror = SourceMirror(KEY, Dns("users.invalid", 8080))
        with pytest.raises(NoInstance):
            await mirror.ready(KEY, budget_s=120)
        await mirror.release()

    asyncio.run(main())
