"""Who asks for a lock or an election and is cut off exactly while its key is with the writer leaves no key."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence

import hpack
import pytest

from townhall.engine.memory import MemoryEngine
from townhall.face.etcd.member import SPACE, identity
from townhall.face.etcd.routes import etcd_faces
from townhall.face.grpc import framed
from townhall.face.native.routes import NativeFace
from townhall.hub.hub import INTERNAL, Hub
from townhall.serve.server import HttpServer
from townhall.wire.etcd import concurrency
from townhall.wire.http2 import PREFACE, frames
from townhall.wire.protobuf_encode import encode

DEADLINE_S = 120.0
LOCK, CAMPAIGN = "/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign"


class HeldEngine(MemoryEngine):
    """Appends reach the disk when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()
        self.waiting = 0

    async def append(self, blobs: Sequence[bytes], expect: int) -> int:
        self.waiting += 1
        await self.free.wait()
        self.waiting -= 1
        return await super().append(blobs, expect)


async def until(condition: Callable[[], object]) -> None:
    end = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not become so"
        await asyncio.sleep(0.002)


class Registry:
    def __init__(self, engine: HeldEngine, hub: Hub, server: HttpServer, port: int) -> None:
        self.engine, self.hub, self.server, self.port = engine, hub, server, port

    def keys(self, space: str = SPACE) -> list[bytes]:
        return [kv.key for kv in self.hub.reader(INTERNAL).range(space, b"\0", b"\0").kvs]

    @property
    def open(self) -> int:
        grpc = self.server.grpc_counters
        return int(self.server.counters.open + (grpc.open if grpc is not None else 0))

    async def connect(self) -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return writer


def grpc_call(path: str, message: bytes) -> bytes:
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "127.0.0.1")]
    headers: bytes = hpack.Encoder().encode([*fields, ("content-type", "application/grpc"), ("te", "trailers")])
    head = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, headers)
    return PREFACE + frames.settings({}) + head + frames.frame(frames.DATA, frames.END_STREAM, 1, framed(message))


def native_call(path: str, body: bytes) -> bytes:
    return gateway_call("/api/v1" + path, body)


def gateway_call(path: str, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


def cut(writer: asyncio.StreamWriter) -> None:
    """As a peer that crashed."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def closed(writer: asyncio.StreamWriter) -> None:
    """As a process that ended: an orderly end of what it sends."""
    writer.close()


def registry(test: Callable[[Registry], Awaitable[None]], *, native: bool = False) -> None:
    async def run() -> None:
        engine = HeldEngine()
        hub = Hub.open(engine)
        await hub.start()
        faces = etcd_faces(identity(name="n1", datacenter="dc1", client_url="http://127.0.0.1:2379"))
        server = HttpServer(NativeFace(), hub) if native else HttpServer(faces.http, hub, grpc=faces.grpc)
        _, port = await server.start("127.0.0.1", 0)
        try:
            await test(Registry(engine, hub, server, port))
        finally:
            engine.free.set()
            await server.stop(0)
            await hub.stop()

    asyncio.run(run())


CALLS = [
    pytest.param(grpc_call(LOCK, encode(concurrency.LockRequest(b"lk"))), id="lock"),
    pytest.param(grpc_call(CAMPAIGN, encode(concurrency.CampaignRequest(b"lk", 0, b"v"))), id="campaign"),
    pytest.param(gateway_call("/v3/lock/lock", b'{"name":"bGs="}'), id="gateway-lock"),
    pytest.param(gateway_call("/v3/election/campaign", b'{"name":"bGs=","value":"dg=="}'), id="gateway-campaign"),
]


@pytest.mark.parametrize("leave", [cut, closed])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("appends", [0, 1])
def test_the_key_is_gone(call: bytes, leave: Callable[[asyncio.StreamWriter], None], appends: int) -> None:
    """``appends`` 0: cut off while its lease is granted; 1: while its key is put. Somebody else has the lock."""

    async def test(one: Registry) -> None:
        first = await one.connect()
        first.write(gateway_call("/v3/lock/lock", b'{"name":"bGs="}'))
        await until(lambda: len(one.keys()) == 1)
        (held,) = one.keys()
        leases, position = len(one.hub.state.leases), one.hub.state.position
        one.engine.free.clear()
        peer = await one.connect()
        peer.write(call)
        await until(lambda: one.engine.waiting)
        if appends:
            # The grant passes, and what it brings about is held.
            one.engine.free.set()
            one.engine.free.clear()
            await until(lambda: one.hub.state.position == position + 1 and one.engine.waiting)
        before = one.hub.state.position
        there = one.open
        leave(peer)
        await until(lambda: one.open < there or half_closed(one))
        one.engine.free.set()
        await until(lambda: one.hub.state.position >= before + 2)
        await until(lambda: one.keys() == [held] and len(one.hub.state.leases) == leases)
        first.close()

    registry(test)


@pytest.mark.parametrize("leave", [cut, closed])
@pytest.mark.parametrize("queue", ["locks", "elections"])
def test_a_native_key_is_gone(queue: str, leave: Callable[[asyncio.StreamWriter], None]) -> None:
    async def test(one: Registry) -> None:
        leases = await one.connect()
        for _ in range(2):
            leases.write(native_call("/leases", b'{"kind":"keys"}'))
        await until(lambda: len(one.hub.state.leases) == 2)
        mine, theirs = (b'{"lease":"%d","wait_ms":60000}' % lease for lease in one.hub.state.leases)
        leases.write(native_call(f"/{queue}/lk", mine))
        await until(lambda: len(one.keys("native")) == 1)
        (held,) = one.keys("native")
        position = one.hub.state.position
        one.engine.free.clear()
        peer = await one.connect()
        peer.write(native_call(f"/{queue}/lk", theirs))
        await until(lambda: one.engine.waiting)
        there = one.open
        leave(peer)
        await until(lambda: one.open < there or half_closed(one))
        one.engine.free.set()
        await until(lambda: one.hub.state.position >= position + 2)
        await until(lambda: one.keys("native") == [held])
        leases.close()

    registry(test, native=True)


def half_closed(one: Registry) -> bool:
    return any(getattr(peer, "half_closed", False) for peer in one.server._driver.peers.connections)
