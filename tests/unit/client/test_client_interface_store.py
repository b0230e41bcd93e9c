"""Documents in the registry: stored once, renewed by whoever is left, put right, gone when nobody provides them."""

from __future__ import annotations

import asyncio

import pytest
from fake_registry import FakeRegistry, Refusal, until

from townhall.client.api import Registry
from townhall.client.interface_store import PREFIX, InterfaceStore, Publisher
from townhall.client.interfaces import Interfaces
from townhall.model import limits
from townhall.model.errors import NotFound, PeerMisbehaved

ONE = Interfaces(methods=["a"])
KEY = PREFIX + ONE.revision


def test_a_document_is_stored_once_on_a_lease_of_its_own() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry, Registry(fake.url) as other:
            store = InterfaceStore(registry)
            await store.keep(ONE)
            assert fake.keys[KEY]["value"] == ONE.data
            assert list(fake.leases.values()) == [limits.CLIENT_INTERFACES_TTL_MS]
            await store.keep(ONE)
            await InterfaceStore(other).keep(ONE)
            assert len(fake.leases) == 1
            lease = fake.keys[KEY]["lease"]
            renewals = [one for one in fake.asked if (one.method, one.path) == ("PUT", f"/leases/{lease}")]
            assert len(renewals) == 2
            # Its own bytes are not fetched again; the other provider looked once.
            assert sum(one.method == "GET" and one.all("raw") != [] for one in fake.asked) == 1
            assert await InterfaceStore(other).fetch(ONE.revision) == ONE

    asyncio.run(main())


def test_what_lies_there_wrongly_is_refused_and_put_right() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            store = InterfaceStore(registry)
            await store.keep(ONE)
            fake.position += 1
            fake.keys[KEY] = {"value": b'{"format":1,"methods":["evil"]}', "mod_revision": fake.position, "lease": None}
            with pytest.raises(PeerMisbehaved):
                await InterfaceStore(registry).fetch(ONE.revision)
            await store.keep(ONE)
            assert fake.keys[KEY]["value"] == ONE.data
            fake.keys[KEY]["value"] = b"x" * (limits.CLIENT_INTERFACES_SIZE_MAX + 1)
            with pytest.raises(PeerMisbehaved):
                await store.fetch(ONE.revision)

    asyncio.run(main())


def test_an_ended_lease_is_granted_anew() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            store = InterfaceStore(registry)
            await store.keep(ONE)
            fake.end_lease(fake.keys[KEY]["lease"])
            with pytest.raises(NotFound):
                await store.fetch(ONE.revision)
            await store.keep(ONE)
            assert await store.fetch(ONE.revision) == ONE
            # The key is there, and its lease ends between the two requests.
            fake.leases.clear()
            with_key = fake.keys.pop(KEY)
            fake.keys[KEY] = with_key
            fake.faults.refuse = lambda asked: fake.keys.pop(KEY, None) and None if asked.method == "PUT" else None
            await store.keep(ONE)
            fake.faults.refuse = lambda asked: None
            assert await store.fetch(ONE.revision) == ONE

    asyncio.run(main())


def test_of_two_that_store_at_once_one_gives_its_lease_back() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as one, Registry(fake.url) as two:
            await asyncio.gather(InterfaceStore(one).keep(ONE), InterfaceStore(two).keep(ONE))
            assert list(fake.leases) == [fake.keys[KEY]["lease"]]

    asyncio.run(main())


def test_a_key_that_an_operator_put_for_good_is_left() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            fake.keys[KEY] = {"value": ONE.data, "mod_revision": 7, "lease": None}
            await InterfaceStore(registry).keep(ONE)
            assert fake.leases == {}
            assert fake.keys[KEY]["mod_revision"] == 7

    asyncio.run(main())


def test_the_publisher_tries_for_ever_and_looks_again_when_woken(caplog) -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            fake.faults.refuse = lambda asked: Refusal(403, "denied") if asked.path.startswith("/kv") else None
            publisher = Publisher(InterfaceStore(registry), [ONE, ONE])
            task = asyncio.create_task(publisher.run())
            await until(lambda: len(fake.asked) >= 3)
            fake.faults.refuse = lambda asked: None
            await until(lambda: KEY in fake.keys)
            await fake.forget_everything()
            publisher.wake()
            await until(lambda: KEY in fake.keys)
            task.cancel()
            await asyncio.wait({task})

    asyncio.run(main())
    assert sum("cannot be stored" in one.message for one in caplog.records) == 1
