"""Watches and sessions as the API gives them."""

from __future__ import annotations

import asyncio

import pytest
from fake_registry import FakeRegistry, until
from raw_server import answering, serving

from townhall.client.api import Registry
from townhall.client.streams import SessionLine, WatchEvent
from townhall.model import limits
from townhall.model.errors import Denied, PeerMisbehaved, Unreachable

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_watch_gives_typed_events() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            await fake.put("user", "a")
            async with await registry.watch(["user", "n/g/none"], subscriber="me", explicit=True) as stream:
                events = aiter(stream)
                first = await anext(events)
                assert (first.kind, first.position, first.revision, first.key.name) == ("snapshot", 1, 1, "user")
                assert [one.id for one in first.instances] == ["a"]
                assert (await anext(events)).key == ("n", "g", "none")
                ready = await anext(events)
                assert (ready.kind, ready.revision) == ("ready", 1)
                assert ready.subscriber
                await fake.remove("user", "a")
                await fake.put("user", "b")
                delta = await anext(events)
                assert (delta.kind, [one.id for one in delta.changed], delta.removed) == ("delta", ["b"], ("a",))
            asked = fake.asked[-1]
            assert (asked.one("subscriber"), asked.one("ack"), asked.all("service")) == (
                "me",
                "explicit",
                ["user", "n/g/none"],
            )

    asyncio.run(main())


def test_a_watch_resumes() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            await fake.put("user", "a")
            await fake.put("other", "b")
            async with await registry.watch(["user", "other"], resume_after=1) as stream:
                kinds = []
                async for event in stream:
                    kinds.append((event.kind, event.service))
                    if event.kind == "ready":
                        break
            assert kinds == [("snapshot", "other"), ("ready", "")]
            assert fake.asked[-1].headers["last-event-id"] == "1"

    asyncio.run(main())


@pytest.mark.parametrize(
    "event",
    [
        b"event: delta\ndata: {\n\n",
        b'event: delta\ndata: {"revision":"x"}\n\n',
        b"id: -1\ndata: {}\n\n",
        b"data: []\n\n",
    ],
)
def test_garbage_in_a_watch_is_the_registry_s_fault(event: bytes) -> None:
    async def main() -> None:
        async with (
            serving(answering(CHUNKED + chunk(event), close=False)) as origin,
            Registry(str(origin)) as registry,
            await registry.watch(["user"]) as stream,
        ):
            with pytest.raises(PeerMisbehaved):
                await anext(aiter(stream))

    asyncio.run(main())


def test_silence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.CLIENT_STREAM_SILENCE_MS >= 2 * limits.STREAM_HEARTBEAT_MS

    async def main() -> None:
        async with (
            serving(answering(CHUNKED, close=False)) as origin,
            Registry(str(origin)) as registry,
            await registry.watch(["user"]) as stream,
        ):
            stream._silence_s = 0.05
            with pytest.raises(Unreachable):
                await anext(aiter(stream))

    asyncio.run(main())


def test_a_session_talks_both_ways() -> None:
    async def main() -> None:
        async with FakeRegistry(leases={"7": 1_000}) as fake, Registry(fake.url) as registry:
            async with await registry.session("me", ["7", "8"]) as session:
                lines = aiter(session)
                welcome = await anext(lines)
                assert welcome.welcome == {"ttl_ms_min": 1, "unknown": ["8"]}
                await session.renew(budget_s=5)
                assert (await anext(lines)).renewed == 1
                await session.renew(["7"], budget_s=5)
                assert (await anext(lines)).renewed == 1
                await session.attach(["9"], budget_s=5)
                await session.bye(budget_s=5)
                await until(lambda: {"bye": True} in fake.session_lines)
            assert fake.session_lines == [
                {"hello": {"name": "me", "leases": ["7", "8"]}},
                {"renew": True},
                {"renew": ["7"]},
                {"attach": ["9"]},
                {"bye": True},
            ]
            await until(lambda: not fake.sessions)
            assert fake.broken_sessions == 0

    asyncio.run(main())


def test_a_session_ends_with_a_reason() -> None:
    async def main() -> None:
        lines = (
            CHUNKED
            + chunk(b'{"welcome":{}}\n\n{"err')
            + chunk(b'or":{"code":"denied","status":403,"detail":"no more"}}\n')
        )
        async with (
            serving(answering(lines, close=False)) as origin,
            Registry(str(origin)) as registry,
            await registry.session("me", []) as session,
        ):
            found = aiter(session)
            assert (await anext(found)).welcome == {}
            with pytest.raises(Denied, match="no more"):
                await anext(found)

    asyncio.run(main())


def test_lines_have_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_LINE_SIZE_MAX", 100)

    async def main() -> None:
        async with (
            serving(answering(CHUNKED + chunk(b"x" * 101), close=False)) as origin,
            Registry(str(origin)) as registry,
            await registry.session("me", []) as session,
        ):
            with pytest.raises(PeerMisbehaved):
                await anext(aiter(session))

    asyncio.run(main())


def test_events_have_quiet_defaults() -> None:
    assert WatchEvent(kind="leaving").key == ("default", "default", "")
    assert SessionLine().leaving is False
