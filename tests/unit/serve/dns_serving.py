"""A DNS server on loopback before a real hub in memory, with clients of both transports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from townhall.core.commands import Deregister, Register
from townhall.engine.memory import MemoryEngine
from townhall.face.dns import DnsOptions
from townhall.face.dns.answering import DnsFace
from townhall.hub.hub import INTERNAL, Hub
from townhall.model.instance import ServiceKey
from townhall.serve.dns import DnsServer
from townhall.serve.dns_options import DnsServerOptions
from townhall.wire.dns import Edns, Message, Question, parse_message, render
from townhall.wire.dns_names import name_of
from townhall.wire.dns_records import A

WEB = "web.service.consul"
DEADLINE_S = 120.0


def query(name: str = WEB, type_: int = A, *, id_: int = 7, edns: int = 0, flags_rd: bool = True) -> bytes:
    return render(
        Message(
            id=id_, question=Question(name_of(name), type_), response=False, recursion_desired=flags_rd,
            edns=Edns(edns) if edns else None,
        )
    )  # fmt: skip


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait(data)

    async def ask(self, data: bytes) -> bytes:
        self.transport.sendto(data)
        return await asyncio.wait_for(self.received.get(), DEADLINE_S)


class Streams:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *messages: bytes) -> None:
        self.writer.write(b"".join(len(data).to_bytes(2, "big") + data for data in messages))

    async def receive(self) -> bytes:
        size = int.from_bytes(await asyncio.wait_for(self.reader.readexactly(2), DEADLINE_S), "big")
        return await asyncio.wait_for(self.reader.readexactly(size), DEADLINE_S)

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.receive()

    async def end(self) -> bytes:
        """What comes until the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), DEADLINE_S)
        except ConnectionResetError:
            return b""


class DnsServing:
    """The server of one test."""

    def __init__(self, hub: Hub, server: DnsServer) -> None:
        self.hub, self.server = hub, server
        self.host, self.port = "", 0
        self.closing: list[Any] = []

    async def listen(self, host: str = "127.0.0.1") -> None:
        self.host, self.port = await self.server.start(host, 0)

    async def submit(self, command: Any) -> Any:
        found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.hub.submit(command, INTERNAL, found.set_result)
        return await found

    async def register(self, *addresses: str, service: str = "web") -> None:
        key = ServiceKey("default", "default", service)
        for address in addresses:
            await self.submit(Register(key=key, id=address, address=address, port=80, persistent=True))

    async def deregister(self, address: str, service: str = "web") -> None:
        await self.submit(Deregister(key=ServiceKey("default", "default", service), id=address))

    async def udp(self, host: str = "") -> Datagrams:
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_datagram_endpoint(Datagrams, remote_addr=(host or self.host, self.port))
        self.closing.append(transport)
        return client

    async def tcp(self) -> Streams:
        client = Streams(*await asyncio.open_connection(self.host, self.port))
        self.closing.append(client.writer)
        return client


def dns_serving(
    test: Callable[[DnsServing], Awaitable[None]], *, face: dict[str, Any] | None = None, **options: Any
) -> None:
    """Run a test against a server that is up on 127.0.0.1."""

    async def run() -> None:
        hub = Hub.open(MemoryEngine())
        await hub.start()
        server = DnsServer(DnsFace(DnsOptions(**(face or {}))), hub, DnsServerOptions(**options))
        world = DnsServing(hub, server)
        try:
            await world.listen()
            await test(world)
        finally:
            for closing in world.closing:
                closing.close()
            await server.stop(0)
            await hub.stop()

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - polled on purpose
            await asyncio.sleep(0.01)


def addresses(data: bytes) -> list[str]:
    return [".".join(map(str, record.data)) for record in parse_message(data).answers]  # type: ignore[arg-type]
