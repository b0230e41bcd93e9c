"""The order in which a gRPC server is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from counted_servers import answer, calls_to, counted
from fake_registry import FakeRegistry, Refusal
from threaded import registry_in_a_thread

import townhall
from townhall.client.grpc_counting import Counting
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


@pytest.mark.parametrize("kind", ["aio", "threads"])
def test_a_drain_refuses_late_calls_and_waits_for_counted_ones(kind: str) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(300),
            FakeRegistry(acknowledged=[{"user": 1_000_000}]) as fake,
            counted(kind) as one,
            calls_to(one.port) as begin,
        ):
            options: Any = {"handle_signals": False, "drain_deadline": 250.0, "jobs": lambda: 0}
            leave = await entered(kind, one.server, fake.url, port=one.port, counting=one.counting, **options)
            provider = leave.provider
            early = asyncio.ensure_future(answer(begin("Both")))
            await until(lambda: one.gate.begun == 1)
            assert provider.running == 1
            stopping = asyncio.ensure_future(leave())
            # Who comes while the others are told is served.
            while (code := await begin("Quick").code()) is grpc.StatusCode.OK:
                pass
            assert code is grpc.StatusCode.UNAVAILABLE
            (instance,) = fake.instances[KEY].values()
            assert (instance["verdict"], provider.running, early.done()) == ("draining", 1, False)
            one.gate.open = True
            assert await early == b"done"
            await stopping
            assert not fake.instances[KEY]
            assert provider.running == 0
        await asyncio.to_thread(townhall.blocking.close)

    asyncio.run(main())


def test_an_interceptor_that_the_server_has_not_shortens_no_grace() -> None:
    async def main() -> None:
        log: list[str] = []
        async with FakeRegistry(acknowledged=[{"user": 1_000_000}]) as fake:
            options: Any = {"handle_signals": False, "counting": Counting(), "jobs": lambda: 0}
            async with Registered(Server(log), fake.url, service="user", port=1, **options):
                pass
        assert log == ["start", "stop 30.0", "stop None"]

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Leave:
    """How a server of either kind is left without holding this loop up."""

    def __init__(self, registered: Any) -> None:
        self.registered = registered
        self.provider = registered.provider

    async def __call__(self) -> None:
        if isinstance(self.registered, Registered):
            await self.registered.stop()
        else:
            await asyncio.to_thread(self.registered.stop)


async def entered(kind: str, server: Any, url: str, **options: Any) -> Leave:
    if kind == "aio":
        return Leave(await Registered(server, url, service="user", **options).__aenter__())
    return Leave(await asyncio.to_thread(BlockingRegistered(server, url, service="user", **options).__enter__))
