"""Keys: what is asked, and what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fake_registry import Asked, FakeRegistry, Refusal
from raw_server import answering, serving

from townhall.client.api import Registry
from townhall.client.keys import KeySpace
from townhall.model.errors import Conflict, Unreachable

KEY = {"key": "a/b", "value": "v", "value_base64": "dg==", "mod_revision": 3}
Answers = dict[tuple[str, str], Any]


def asked_for(call: Callable[[KeySpace], Awaitable[Any]], answers: Answers, space: str = "") -> tuple[Any, Asked]:
    async def main() -> tuple[Any, Asked]:
        async with FakeRegistry(canned=answers) as fake, Registry(fake.url) as registry:
            result = await call(registry.kv.space(space) if space else registry.kv)
            return result, fake.asked[-1]

    return asyncio.run(main())


def test_one_key() -> None:
    key, asked = asked_for(lambda kv: kv.get("a/b c", revision=2), {("GET", "/kv/a/b%20c"): KEY})
    assert (key.value, key.mod_revision, asked.one("revision")) == ("v", 3, "2")
    raw, asked = asked_for(lambda kv: kv.get_raw("a"), {("GET", "/kv/a"): "v"}, "etcd")
    assert (raw, asked.query) == (b'"v"', [("space", "etcd"), ("raw", "")])
    _, asked = asked_for(lambda kv: kv.wait("a", after=5, wait_ms=10), {("GET", "/kv/a"): KEY})
    assert asked.query == [("after", "5"), ("wait", "10")]


def test_ranges() -> None:
    answer = {"revision": 9, "count": 2, "more": True, "keys": [KEY]}
    keys, asked = asked_for(lambda kv: kv.list("a/", limit=1, start="a/b", keys_only=True), {("GET", "/kv"): answer})
    assert (keys.revision, keys.more, keys.keys[0].key) == (9, True, "a/b")
    assert asked.query == [("prefix", "a/"), ("limit", "1"), ("start", "a/b"), ("keys_only", "1")]
    assert asked_for(lambda kv: kv.list(), {("GET", "/kv"): answer})[1].query == [("prefix", "")]


def test_writes() -> None:
    answers: Answers = {("PUT", "/kv/a"): {"revision": 4, "created": True}}
    written, asked = asked_for(lambda kv: kv.put("a", "ü", lease="7"), answers)
    assert (written.revision, written.created, asked.body, asked.one("lease")) == (4, True, "ü".encode(), "7")
    assert asked.headers["content-type"] == "application/octet-stream"
    _, asked = asked_for(lambda kv: kv.put("a", b"", cas=0), answers)
    assert (asked.body, asked.one("cas"), asked.headers["content-length"]) == (b"", "0", "0")
    gone, asked = asked_for(lambda kv: kv.delete("a", cas=3), {("DELETE", "/kv/a"): {"deleted": 1, "revision": 5}})
    assert (gone.deleted, asked.one("cas")) == (1, "3")
    _, asked = asked_for(lambda kv: kv.delete_prefix("a/"), {("DELETE", "/kv"): {"deleted": 2}})
    assert asked.query == [("prefix", "a/")]
    with pytest.raises(Conflict):
        asked_for(lambda kv: kv.put("a", b"", create=True), {("PUT", "/kv/a"): Refusal(409, "conflict")})


def test_a_conditional_write_is_not_made_twice() -> None:
    async def main() -> None:
        canned: Answers = {("PUT", "/kv/a"): {"revision": 1}}
        async with FakeRegistry(canned=canned) as first, FakeRegistry(canned=canned) as second:
            first.faults.swallow = lambda asked: True
            async with Registry([first.url, second.url]) as registry:
                with pytest.raises(Unreachable, match="closed the connection"):
                    await registry.kv.put("a", b"x", create=True)
                assert not second.asked
                await registry.kv.put("a", b"x")
                assert len(second.asked) == 1

    asyncio.run(main())


def test_transactions_and_compaction() -> None:
    compare = {"key": "a", "target": "version", "relation": "=", "value": 0}
    get = {"get": {"key": "a"}}
    answers: Answers = {("POST", "/txn"): {"succeeded": True, "responses": []}, ("POST", "/kv-compact"): {}}
    result, asked = asked_for(lambda kv: kv.transaction(compares=[compare], success=[get]), answers, "etcd")
    assert result["succeeded"] is True
    assert json.loads(asked.body) == {"compares": [compare], "success": [get], "failure": [], "space": "etcd"}
    assert json.loads(asked_for(lambda kv: kv.compact(7), answers)[1].body) == {"revision": 7}
    assert json.loads(asked_for(lambda kv: kv.compact(7), answers, "etcd")[1].body) == {"revision": 7, "space": "etcd"}


def test_a_watch_gives_objects() -> None:
    events = b'id: 5\nevent: put\ndata: {"key":"a"}\n\nid: 6\nevent: delete\ndata: {"key":"a"}\n\n'
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(events), events)

    async def main() -> None:
        async with (
            serving(answering(answer)) as origin,
            Registry(str(origin)) as registry,
            await registry.kv.watch("a", after=4) as stream,
        ):
            assert [one async for one in stream.objects()] == [("put", {"key": "a"}), ("delete", {"key": "a"})]

    asyncio.run(main())
