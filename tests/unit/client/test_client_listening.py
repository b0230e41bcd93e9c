"""A service is called when its socket answers, and not before."""

from __future__ import annotations

import asyncio

import pytest
from fake_registry import FakeRegistry, until

import asyncio_servers
from free_ports import free_port
from townhall.client.listening import Listening, listening_provider
from townhall.model import limits

KEY = ("default", "default", "user")


def test_it_says_no_until_something_listens() -> None:
    async def main() -> None:
        port = free_port()
        answers = [True, False]
        health = Listening(lambda: [("127.0.0.1", free_port()), ("127.0.0.1", port)], lambda: answers.pop(0))
        with pytest.raises(ConnectionError, match="nothing listens at"):
            await health()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
        assert await health() is True
        await asyncio_servers.close(server)
        await server.wait_closed()
        assert await health() is False, "asked of the application alone, once it has listened"
        assert limits.CLIENT_LISTEN_PROBE_MS > 0

    asyncio.run(main())


def test_a_provider_is_registered_at_once_and_ready_when_it_listens() -> None:
    async def main() -> None:
        port = free_port()
        async with asyncio.timeout(120), FakeRegistry() as fake:
            provider = listening_provider(fake.url, {"service": "user", "port": port})
            async with provider:
                (instance,) = fake.instances[KEY].values()
                assert instance["verdict"] == "starting"
                assert provider.address == "127.0.0.1"
                server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
                await until(lambda: next(iter(fake.instances[KEY].values())).get("ready"))
                await asyncio_servers.close(server)
                await server.wait_closed()

    asyncio.run(main())
