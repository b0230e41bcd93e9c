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

OPENAPI = {"openapi": "3.1.0", "paths": {"/users/{id}": {"get": {"responses": {"200": {"description": "one"}}}}}}
WITH_SEARCH = {**OPENAPI, "paths": {**OPENAPI["paths"], "/search": {"get": {"responses": {"200": {}}}}}}  # type: ignore[dict-item]


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await main

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


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
                    lease = (await api.kv.get(PREFIX + offered.revision)).lease
                    assert lease is not None
                # One of them is gone, whoever granted the lease; the other one renews it.
                before = after = await api.leases.get(lease)
                async with asyncio.timeout(30):
                    while after.remaining_ms <= before.remaining_ms:
                        before, after = after, await api.leases.get(lease)
                        await asyncio.sleep(0.02)
                assert await InterfaceStore(api).fetch(offered.revision) == offered
            async with asyncio.timeout(30):
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
            assert (await api.kv.get_raw(key)) == offered.data
            await api.kv.put(key, json.dumps({"format": 1, "methods": ["evil"]}))
            async with townhall.Consumer(url, snapshot_directory=None) as consumer:
                assert await consumer["served"].interfaces() == {offered.revision: offered}
            await api.kv.delete(key)

    run(main())
