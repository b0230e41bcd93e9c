"""A provider's interfaces: in its metadata, in the registry, at its own port, and never in its way."""

from __future__ import annotations

import asyncio

import pytest
from fake_registry import FakeRegistry, Refusal, until

from townhall.client.connection import Origin
from townhall.client.http import HttpClient, Request
from townhall.client.interface_store import PREFIX
from townhall.client.interfaces import REVISION_KEY, Interfaces
from townhall.client.provider import Provider, Service
from townhall.client.well_known import PORT_NAME, WELL_KNOWN_PATH
from townhall.client.well_known_listener import WellKnownListener
from townhall.model.errors import InvalidField, Unreachable

ONE, TWO = Interfaces(methods=["a"]), Interfaces(methods=["b"])
KEY = ("default", "default", "user")


def test_the_registry_has_the_revision_in_the_metadata_and_the_document_once() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            async with Provider(fake.url, service="user", port=8, interfaces=ONE, metadata={"build": "1"}) as provider:
                (instance,) = fake.instances[KEY].values()
                assert instance["metadata"] == {"build": "1", REVISION_KEY: ONE.revision}
                assert instance.get("ports", {}) == {}
                assert fake.keys[PREFIX + ONE.revision]["value"] == ONE.data
                # It stays through changes and registrations anew.
                await provider.update(metadata={"build": "2"})
                await fake.forget_everything()
                fake.break_streams()
                await until(lambda: KEY in fake.instances and fake.instances[KEY])
                (instance,) = fake.instances[KEY].values()
                assert instance["metadata"] == {"build": "2", REVISION_KEY: ONE.revision}
                await until(lambda: PREFIX + ONE.revision in fake.keys)
            # Others may provide the same: the lease ends it, not we.
            assert PREFIX + ONE.revision in fake.keys

    asyncio.run(main())


def test_several_services_have_documents_of_their_own() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            services = [Service(name="user", port=8, interfaces=ONE), Service(name="order", port=9, interfaces=TWO)]
            async with Provider(fake.url, services=[*services, Service(name="plain", port=7)], interfaces_port=8):
                assert len(fake.keys) == 2
                shown = {key[2]: next(iter(rows.values())) for key, rows in fake.instances.items()}
                assert shown["order"]["metadata"][REVISION_KEY] == TWO.revision
                assert shown["order"]["ports"] == {PORT_NAME: 8}
                assert REVISION_KEY not in shown["plain"]["metadata"]
                assert shown["plain"].get("ports", {}) == {}

    asyncio.run(main())


def test_a_listener_of_its_own_serves_them_until_the_stop() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, HttpClient() as http:
            async with Provider(fake.url, service="user", port=8, interfaces=ONE, interfaces_port=0):
                (instance,) = fake.instances[KEY].values()
                origin = Origin("http", instance["address"], instance["ports"][PORT_NAME])
                request = Request(origin, "GET", f"{WELL_KNOWN_PATH}/{ONE.revision}")
                assert (await http.request(request)).body == ONE.data
            with pytest.raises(Unreachable):
                await http.request(request)

    asyncio.run(main())


def test_a_registry_that_refuses_keys_hinders_nobody() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            fake.faults.refuse = lambda asked: Refusal(403, "denied") if asked.path.startswith("/kv") else None
            async with Provider(fake.url, service="user", port=8, interfaces=ONE):
                assert fake.instances[KEY]
                fake.faults.refuse = lambda asked: None
                await until(lambda: fake.keys)

    asyncio.run(main())


def test_an_address_that_is_not_here_is_no_reason_to_fail(caplog, monkeypatch) -> None:
    async def refuse(self: WellKnownListener, host: str, port: int = 0) -> None:
        raise OSError("cannot assign requested address")

    monkeypatch.setattr(WellKnownListener, "open", refuse)

    async def main() -> None:
        async with (
            FakeRegistry() as fake,
            Provider(fake.url, service="user", port=8, interfaces=ONE, interfaces_port=0),
        ):
            (instance,) = fake.instances[KEY].values()
            assert instance.get("ports", {}) == {}

    asyncio.run(main())
    assert any("cannot be served" in one.message for one in caplog.records)


def test_a_refused_registration_leaves_no_listener() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            provider = Provider(fake.url, service="user", port=0, interfaces=ONE, interfaces_port=0)
            with pytest.raises(InvalidField):
                await provider.start()
            assert provider._offering is not None
            assert provider._offering._listener is not None
            assert provider._offering._listener._server is None

    asyncio.run(main())
