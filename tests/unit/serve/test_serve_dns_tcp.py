"""TCP connections of the DNS server: a client that does not take its answers is not read from."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from dns_serving import dns_serving, query

from townhall.model import limits
from townhall.serve.dns_tcp import StreamConnection


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.calls: list[str] = []

    def get_extra_info(self, name, default=None):
        return ("127.0.0.1", 1)

    def set_write_buffer_limits(self, high=None, low=None):
        assert high == limits.DNS_WRITE_BUFFER_SIZE_MAX

    def write(self, data):
        self.written.append(bytes(data))

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def abort(self):
        self.calls.append("abort")

    def close(self):
        self.calls.append("close")


def connection(asked: list) -> tuple[StreamConnection, FakeTransport]:
    server = SimpleNamespace(
        arrived=lambda _: True,
        departed=lambda _: None,
        counters=SimpleNamespace(malformed=0, dropped=0, timed_out=0),
        wheel=SimpleNamespace(arm=lambda *_: None),
        options=SimpleNamespace(idle_timeout_ms=limits.DNS_IDLE_TIMEOUT_MS),
        streamed=lambda data, done: asked.append((data, done)),
    )
    found = StreamConnection(server)  # type: ignore[arg-type]
    transport = FakeTransport()
    found.connection_made(transport)
    return found, transport


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def test_nothing_is_read_while_answers_are_not_taken():
    asked: list = []
    peer, transport = connection(asked)
    peer.pause_writing()
    peer.data_received(framed(b"one") + framed(b"two"))
    assert (asked, transport.calls) == ([], ["pause"])
    peer.resume_writing()
    assert [data for data, _ in asked] == [b"one", b"two"]


def test_answers_come_as_they_are_ready_and_a_late_one_is_counted():
    asked: list = []
    peer, transport = connection(asked)
    peer.data_received(framed(b"one") + framed(b"two") + framed(b"three"))
    asked[1][1](b"2")
    asked[0][1](b"1")
    assert transport.written == [framed(b"2"), framed(b"1")]
    assert peer.eof_received()
    peer.connection_lost(None)
    asked[2][1](b"3")
    assert peer._server.counters.dropped == 1


def test_many_connections_have_their_limits():
    async def test(world):
        assert world.server.options.connections_max == limits.DNS_CONNECTIONS_MAX
        assert world.server.options.connections_per_address_max == limits.DNS_CONNECTIONS_PER_ADDRESS_MAX
        assert await (await world.tcp()).ask(query())

    dns_serving(test)
