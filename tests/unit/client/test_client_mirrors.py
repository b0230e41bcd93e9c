"""Consumers of one registry share a mirror; it ends with the last of them, or with its loop."""

from __future__ import annotations

import asyncio
import os

import pytest
from fake_registry import FakeRegistry, until

from townhall.client import mirrors
from townhall.client.mirrors import MirrorKey, acquire
from townhall.model.instance import ServiceKey

USER = ServiceKey("default", "default", "user")


def test_shared_until_the_last_release() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            key = MirrorKey(fake.url, snapshot_directory=None)
            first, second = acquire(key), acquire(key)
            other = acquire(MirrorKey(fake.url, token="other", snapshot_directory=None))
            assert first is second
            assert first is not other
            await first.release()
            assert second.alive
            await second.release()
            assert not second.alive
            third = acquire(key)
            assert third is not first
            await third.release()
            await other.release()
            assert not mirrors._shared

    asyncio.run(main())


def test_a_loop_that_ends_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            await fake.put("user", "a")
            shared = acquire(MirrorKey(fake.url, snapshot_directory=None))
            shared.mirror.follow(USER)
            await shared.mirror.ready(USER, budget_s=10)
            await until(lambda: shared.mirror.state == "connected")
            left.append(shared)

    left: list[mirrors.SharedMirror] = []
    asyncio.run(main())
    assert not mirrors._shared
    assert left[0]._task.done()


def test_a_child_process_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        key = MirrorKey("http://127.0.0.1:1", snapshot_directory=None)
        parent = acquire(key)
        monkeypatch.setattr(os, "getpid", lambda: parent.pid + 1)
        child = acquire(key)
        assert child is not parent
        await child.release()
        await parent.release()

    asyncio.run(main())


def test_after_a_bug_it_begins_anew(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(mirrors, "_REVIVAL_PAUSE_S", 0.01)

    async def main() -> None:
        async with FakeRegistry() as fake:
            await fake.put("user", "a")
            shared = acquire(MirrorKey(fake.url, snapshot_directory=None, name="me"))
            shared.mirror.follow(USER)
            await shared.mirror.ready(USER, budget_s=10)
            await until(lambda: shared.mirror.state == "connected")

            def broken(_: object) -> None:
                raise RuntimeError("a bug")

            end = shared.mirror.listen(USER, broken)
            await fake.put("user", "b")
            await until(lambda: "a bug" in caplog.text)
            end()
            await fake.put("user", "c")
            await until(lambda: (picture := shared.mirror.picture(USER)) and "c" in picture.by_id)
            await shared.release()

    asyncio.run(main())


def test_processes_name_themselves() -> None:
    name = mirrors.own_name()
    assert name.endswith(f":{os.getpid()}")
    assert len(name) < 128
