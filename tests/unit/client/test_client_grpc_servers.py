"""The order in which a gRPC server is left."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import grpc.aio
import pytest
from fake_registry import FakeRegistry, Refusal
from threaded import registry_in_a_thread

import townhall
from townhall.client.grpc_servers import BlockingRegistered, Registered
from townhall.model.errors import Denied

KEY = ("default", "default", "user")


class Server:
    """What of a server is called, and when."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def start(self) -> None:
        self.log.append("start")

    async def stop(self, grace: float | None) -> None:
        self.log.append(f"stop {grace}")


class ThreadedServer:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def start(self) -> None:
        self.log.append("start")

    def stop(self, grace: float | None) -> threading.Event:
        self.log.append(f"stop {grace}")
        done = threading.Event()
        done.set()
        return done


class Servicer:
    def __init__(self, log: list[str], fake: FakeRegistry) -> None:
        self.log = log
        self.fake = fake

    async def enter_graceful_shutdown(self) -> None:
        (instance,) = self.fake.instances[KEY].values()
        self.log.append(f"not serving while {instance['verdict']}")


def test_health_then_drain_then_server_then_registry() -> None:
    async def main() -> None:
        log: list[str] = []
        async with asyncio.timeout(120), FakeRegistry(acknowledged=[{"user": 1_000_000}]) as fake:

            async def on_stop() -> None:
                (instance,) = fake.instances[KEY].values()
                log.append(f"application while {instance['verdict']}")

            options: Any = {"handle_signals": False, "on_stop": on_stop, "drain_deadline": 20.0}
            servicer = Servicer(log, fake)
            registered = Registered(Server(log), fake.url, service="user", port=1, servicer=servicer, **options)
            async with registered:
                assert len(fake.instances[KEY]) == 1
            await registered.wait_stopped()
            assert not fake.instances[KEY]
            assert log == ["start", "not serving while up", "application while draining", "stop 20.0", "stop None"]

    asyncio.run(main())


def test_a_start_that_cannot_register_stops_the_server() -> None:
    async def main() -> None:
        log: list[str] = []
        async with FakeRegistry() as fake:
            fake.faults.refuse = lambda asked: Refusal(403, "denied")
            with pytest.raises(Denied):
                await Registered(Server(log), fake.url, service="user", port=1).__aenter__()
        assert log == ["start", "stop None"]

    asyncio.run(main())


def test_with_threads() -> None:
    log: list[str] = []
    with registry_in_a_thread() as (url, _), townhall.blocking.Registry(url) as registry:
        options: Any = {"handle_signals": False, "drain_on_stop": False, "on_stop": lambda: log.append("application")}
        with BlockingRegistered(ThreadedServer(log), url, service="user", port=1, **options):
            assert len(registry.instances("user").instances) == 1
        assert not registry.instances("user").instances
    assert log == ["start", "application", "stop 30.0", "stop None"]
    with pytest.raises(townhall.Unreachable):
        BlockingRegistered(ThreadedServer(log), "http://127.0.0.1:1", service="user", port=1).__enter__()
    assert log[-2:] == ["start", "stop None"]
    townhall.blocking.close()


def test_a_real_server_is_found() -> None:
    async def main() -> None:
        async with FakeRegistry(acknowledged=[{"user": 1_000_000}]) as fake:
            server = grpc.aio.server()
            port = server.add_insecure_port("127.0.0.1:0")
            async with townhall.grpc.Registered(server, fake.url, service="user", port=port, handle_signals=False):
                (instance,) = fake.instances[KEY].values()
                assert instance["port"] == port

    asyncio.run(main())
