"""What services offer, through a real registry: a roll-out, a document that outlives its first provider, and its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import townhall
from townhall.client.interface_store import PREFIX, InterfaceStore
from townhall.client.interfaces import revision_of
from townhall.model import limits
from townhall_process import TownhallProcess
from townhall_process import townhall as command

OPENAPI = {"openapi": "3.1.0", "paths": {"/users/{id}": {"get": {"responses": {"200": {"description": "one"}}}}}}
WITH_SEARCH = {**OPENAPI, "paths": {**OPENAPI["paths"], "/search": {"get": {"responses": {"200": {}}}}}}  # type: ignore[dict-item]


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(300):
            await main

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def offering(api: townhall.Registry, key: str) -> None:
    """Returns when the document is there: a provider that could not store it at its start tries again later."""
    async with asyncio.timeout(120):
        while not (await api.kv.list(key)).count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_a_rollout_is_told_apart_and_a_late_consumer_learns_it(registry: TownhallProcess) -> None:
    async def main() -> None:
        old, new = townhall.Interfaces(openapi=OPENAPI), townhall.Interfaces(openapi=WITH_SEARCH)
        url = registry.url
        first = townhall.Provider(url, service="rollout", id="one", port=9001, interfaces=old)
        second = townhall.Provider(url, service="rollout", id="two", port=9002, interfaces=new)
        async with first, second, townhall.Consumer(url, snapshot_directory=None) as consumer:
            service = consumer["rollout"]
            assert await service.interfaces() == {old.revision: old, new.revision: new}
            search = service.with_interface("GET /search")
            await search.start()
            assert {search.pick().id for _ in range(10)} == {"two"}
            assert {service.pick(supporting="GET /users/{id}").id for _ in range(10)} == {"one", "two"}
            assert [revision_of(one.metadata) for one in service.instances()].count(new.revision) == 1
            # The old half is replaced; nobody needs to do anything.
            await first.stop()
            async with townhall.Provider(url, service="rollout", id="one", port=9001, interfaces=new):
                await until(lambda: {search.pick().id for _ in range(10)} == {"one", "two"})
                assert list(await service.interfaces()) == [new.revision]

    run(main())


def test_the_document_lives_while_anybody_provides_it(registry: TownhallProcess, monkeypatch) -> None:
    # The real TTL is an hour; providers look three times as often.
    monkeypatch.setattr(limits, "CLIENT_INTERFACES_TTL_MS", 6_000)

    async def main() -> None:
        offered = townhall.Interfaces(methods=["short.Lived/Get"])
        async with townhall.Registry(registry.url) as api:
            one = townhall.Provider(registry.url, service="short", id="one", port=9001, interfaces=offered)
            two = townhall.Provider(registry.url, service="short", id="two", port=9002, interfaces=offered)
            async with two:
                async with one:
                    await offering(api, PREFIX + offered.revision)
                    lease = (await api.kv.get(PREFIX + offered.revision)).lease
                    assert lease is not None
                # One of them is gone, whoever granted the lease; the other one renews it.
                before = after = await api.leases.get(lease)
                async with asyncio.timeout(120):
                    while after.remaining_ms <= before.remaining_ms:
                        before, after = after, await api.leases.get(lease)
                        await asyncio.sleep(0.02)
                assert await InterfaceStore(api).fetch(offered.revision) == offered
            async with asyncio.timeout(120):
                while (await api.kv.list(PREFIX + offered.revision)).count:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    run(main())


def test_the_instance_serves_what_the_registry_lost(registry: TownhallProcess) -> None:
    async def main() -> None:
        offered = townhall.Interfaces(methods=["served.Here/Get"], schemas={"big": "x" * 900_000})
        url = registry.url
        provider = townhall.Provider(url, service="served", port=9001, interfaces=offered, interfaces_port=0)
        async with provider, townhall.Registry(url) as api:
            key = PREFIX + offered.revision
            await offering(api, key)
            assert (await api.kv.get_raw(key)) == offered.data
            await api.kv.put(key, json.dumps({"format": 1, "methods": ["evil"]}))
            async with townhall.Consumer(url, snapshot_directory=None) as consumer:
                assert await consumer["served"].interfaces() == {offered.revision: offered}
            await api.kv.delete(key)

    run(main())


def test_the_command_line_shows_who_has_which(registry: TownhallProcess) -> None:
    old, new = townhall.Interfaces(openapi=OPENAPI), townhall.Interfaces(openapi=WITH_SEARCH, methods=["x"])

    def shown(*arguments: str, code: int = 0) -> str:
        done = command("interfaces", *arguments, server=registry.url)
        assert done.returncode == code, done.stderr
        return done.stdout if not code else done.stderr

    async def main() -> None:
        url = registry.url
        first = townhall.Provider(url, service="shown", id="one", port=9001, interfaces=old)
        second = townhall.Provider(url, service="shown", id="two", port=9002, interfaces=new)
        plain = townhall.Provider(url, service="shown", id="plain", port=9003)
        async with first, second, plain:
            text = await asyncio.to_thread(shown, "shown")
            rows = {line.split()[-1]: line.split() for line in text.splitlines()[1:4]}
            assert rows["one"] == [old.revision, "1", "1", "1", "openapi", "one"]
            assert rows["two"] == [new.revision, "1", "1", "3", "openapi", "two"]
            assert rows["plain"] == ["-", "1", "1", "?", "-", "plain"]
            assert text.splitlines()[-3:] == ["+ GET /search", "+ x", "~ openapi differs"]
            found = json.loads(await asyncio.to_thread(shown, "shown", "--json"))
            assert [one["revision"] for one in found["revisions"]] == [old.revision, new.revision, None]
            assert found["revisions"][0]["methods"] == ["GET /users/{id}"]
            document = await asyncio.to_thread(shown, "shown", "--show", old.revision[:8])
            assert document == old.data.decode() + "\n"
            back = await asyncio.to_thread(shown, "shown", "--diff", new.revision, old.revision)
            assert back.splitlines() == ["- GET /search", "- x", "~ openapi differs"]
            same = await asyncio.to_thread(shown, "shown", "--diff", old.revision, old.revision[:9])
            assert same == "no difference in what is offered\n"
            changes = json.loads(
                await asyncio.to_thread(shown, "shown", "--diff", old.revision, new.revision, "--json")
            )
            assert changes == {"added": ["GET /search", "x"], "removed": [], "changed": ["openapi"]}
            assert "revision that begins" in shown("shown", "--show", "zz", code=4)
        assert "there is no service" in shown("never-was", code=4)

    run(main())
