"""Ten thousand parked reads of the Consul face on a whole hub: a change wakes those it concerns, and nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from townhall.engine.memory import MemoryEngine
from townhall.face.consul.routes import ConsulFace
from townhall.hub.hub import Hub, HubOptions
from townhall.serve.driver import Driver
from townhall.serve.http1 import Connection
from townhall.serve.options import HttpOptions

PARKED = 10_000
TURNS_MAX = 100_000


class Wire:
    """A transport that keeps what is written; no socket, so ten thousand of them are cheap."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 40_000) if name == "peername" else None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing to close."""

    abort = write_eof = close


class Client:
    """One connection."""

    def __init__(self, driver: Driver) -> None:
        self.wire = Wire()
        self.connection = Connection(driver)
        self.connection.connection_made(self.wire)  # type: ignore[arg-type]

    @property
    def answers(self) -> list[bytes]:
        return self.wire.written

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:8500\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.data_received(head.encode() + body)

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        before = len(self.answers)
        self.send(method, path, body)
        await turns(lambda: len(self.answers) > before)
        assert self.answers[-1].startswith(b"HTTP/1.1 200 "), self.answers[-1][:200]
        return self.answers[-1]


async def turns(condition: Callable[[], bool]) -> None:
    """Turns of the loop until it holds: counted, not timed."""
    for _ in range(TURNS_MAX):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


def running(test: Callable[[Hub, Driver], Awaitable[None]]) -> None:
    async def run() -> None:
        hub = Hub.open(MemoryEngine(), HubOptions())
        await hub.start()
        options = HttpOptions(connections_max=20_000, connections_per_address_max=20_000, parked_per_address_max=20_000)
        try:
            await test(hub, Driver(ConsulFace(), hub, options, asyncio.get_running_loop()))
        finally:
            await hub.stop()

    asyncio.run(run())


def index_of(answer: bytes) -> int:
    return int(answer.partition(b"X-Consul-Index: ")[2].partition(b"\r\n")[0])


def service(number: int, port: int) -> bytes:
    name = f"svc-{number}"
    return json.dumps(
        {"Node": f"node-{number % 50}", "Address": "127.0.0.9", "Service": {"Service": name, "ID": name, "Port": port}}
    ).encode()


def test_ten_thousand_blocking_queries_on_a_thousand_services() -> None:
    async def test(hub: Hub, driver: Driver) -> None:
        writer = Client(driver)
        for number in range(1_000):
            await writer.ask("PUT", "/v1/catalog/register", service(number, 80))
        index = {
            number: index_of(await writer.ask("GET", f"/v1/health/service/svc-{number}?passing"))
            for number in range(1_000)
        }
        clients = [Client(driver) for _ in range(PARKED)]
        for place, client in enumerate(clients):
            number = place % 1_000
            client.send("GET", f"/v1/health/service/svc-{number}?passing&index={index[number]}&wait=10m")
        assert driver.counters.parked == PARKED
        wakes = hub.cursors.wakes
        await writer.ask("PUT", "/v1/catalog/register", service(7, 81))
        await turns(lambda: hub.cursors.waiting == 0)
        told = [place for place, client in enumerate(clients) if client.answers]
        assert told == list(range(7, PARKED, 1_000))
        assert all(b'"Port":81' in clients[place].answers[0] for place in told)
        assert len({clients[place].answers[0] for place in told}) == 1, "one rendering for all"
        assert hub.cursors.wakes - wakes == len(told) == 10
        assert driver.counters.parked == PARKED - 10
        # Who asks again with the index of the answer waits again.
        again = f"/v1/health/service/svc-7?passing&index={index_of(clients[7].answers[0])}&wait=10m"
        clients[7].send("GET", again)
        assert driver.counters.parked == PARKED - 9
        assert len(clients[7].answers) == 1

    running(test)


def test_ten_thousand_parked_prefixes_of_keys() -> None:
    async def test(hub: Hub, driver: Driver) -> None:
        writer = Client(driver)
        await writer.ask("PUT", "/v1/kv/other", b"x")
        index = index_of(await writer.ask("GET", "/v1/kv/other"))
        clients = [Client(driver) for _ in range(PARKED)]
        for place, client in enumerate(clients):
            client.send("GET", f"/v1/kv/tree/{place}/?recurse&index={index}&wait=10m")
        assert driver.counters.parked == PARKED
        wakes = hub.cursors.wakes
        await writer.ask("PUT", "/v1/kv/tree/42/leaf", b"x")
        await writer.ask("PUT", "/v1/kv/elsewhere/42/leaf", b"x")
        await turns(lambda: hub.cursors.waiting == 0)
        assert [place for place, client in enumerate(clients) if client.answers] == [42]
        assert b"tree/42/leaf" in clients[42].answers[0]
        assert hub.cursors.wakes - wakes == 1
        assert driver.counters.parked == PARKED - 1

    running(test)
