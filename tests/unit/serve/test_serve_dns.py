"""The DNS server: both transports, caching, recursors, limits and its end."""

from __future__ import annotations

import asyncio
import socket

import pytest
from dns_serving import DEADLINE_S, WEB, addresses, dns_serving, query, until

from townhall.model import limits
from townhall.serve.dns import DnsServer
from townhall.serve.dns_options import DnsServerOptions, Recursor
from townhall.wire.dns import FORMERR, NOERROR, NXDOMAIN, REFUSED, SERVFAIL, Message, parse_message, parse_query, render
from townhall.wire.dns_names import name_of
from townhall.wire.dns_records import CNAME, A, Record


def test_udp_and_tcp_answer_at_the_same_port():
    async def test(world):
        await world.register("127.0.2.1")
        udp, tcp = await world.udp(), await world.tcp()
        for client in (udp, tcp):
            answer = await client.ask(query(id_=0x1234))
            assert parse_message(answer).id == 0x1234
            assert addresses(answer) == ["127.0.2.1"]
        assert (world.server.counters.udp, world.server.counters.tcp, world.server.counters.open) == (1, 1, 1)

    dns_serving(test)


def test_ipv6_is_served():
    async def test(world):
        try:
            await world.listen("::1")
        except OSError:
            pytest.skip("no IPv6 loopback here")
        await world.register("127.0.2.1")
        for client in (await world.udp(), await world.tcp()):
            assert addresses(await client.ask(query())) == ["127.0.2.1"]

    dns_serving(test)


def test_a_change_is_seen_by_the_next_query():
    async def test(world):
        await world.register("127.0.2.1")
        client = await world.udp()
        for _ in range(3):
            assert addresses(await client.ask(query())) == ["127.0.2.1"]
        assert world.server.counters.cached == 2
        await world.register("127.0.2.2")
        assert sorted(addresses(await client.ask(query()))) == ["127.0.2.1", "127.0.2.2"]
        await world.deregister("127.0.2.1")
        assert addresses(await client.ask(query())) == ["127.0.2.2"]
        await world.deregister("127.0.2.2")
        assert parse_message(await client.ask(query())).rcode == NXDOMAIN
        await world.register("127.0.2.3", service="Web")
        assert addresses(await client.ask(query())) == ["127.0.2.3"]

    dns_serving(test)


def test_pipelined_queries_over_tcp_come_in_pieces_and_are_all_answered():
    async def test(world):
        await world.register("127.0.2.1")
        client = await world.tcp()
        data = b"".join(len(m).to_bytes(2, "big") + m for m in (query(id_=n) for n in range(50)))
        for at in range(0, len(data), 7):
            client.writer.write(data[at : at + 7])
            await asyncio.sleep(0)
        assert [parse_message(await client.receive()).id for _ in range(50)] == list(range(50))

    dns_serving(test)


def test_bad_messages():
    async def test(world):
        client = await world.udp()
        client.transport.sendto(b"short")
        client.transport.sendto(query()[:2] + b"\x80" + query()[3:])  # an answer is never answered
        assert parse_message(await client.ask(query() + b"x")).rcode == FORMERR
        assert parse_message(await client.ask(query() + bytes(limits.DNS_QUERY_SIZE_MAX))).rcode == FORMERR
        assert client.received.empty()
        assert world.server.counters.malformed == 4
        for data in (b"\0\x03abc", b"\0\0", (limits.DNS_QUERY_SIZE_MAX + 1).to_bytes(2, "big")):
            stream = await world.tcp()
            stream.writer.write(data)
            assert await stream.end() == b""

    dns_serving(test)


def test_an_error_in_the_face_is_a_failure_of_that_query_alone(monkeypatch):
    async def test(world):
        client = await world.udp()
        face = world.server._answers.face
        with monkeypatch.context() as patch:
            patch.setattr(face, "resolve", lambda *arguments: 1 / 0)
            assert parse_message(await client.ask(query())).rcode == SERVFAIL
        assert world.server.counters.errors == 1
        assert parse_message(await client.ask(query())).rcode == NXDOMAIN

    dns_serving(test)


def test_idle_connections_are_closed_and_busy_ones_are_not():
    async def test(world):
        idle = await world.tcp()
        assert await idle.end() == b""
        assert world.server.counters.timed_out == 1

    dns_serving(test, idle_timeout_ms=100)


def test_connections_over_the_limits_are_turned_away():
    async def test(world):
        first = await world.tcp()
        assert await first.ask(query())
        assert await (await world.tcp()).end() == b""
        assert world.server.counters.turned_away == 1
        first.writer.close()
        await until(lambda: world.server.counters.open == 0)
        assert await (await world.tcp()).ask(query())

    dns_serving(test, connections_max=1)
    dns_serving(test, connections_per_address_max=1)


def test_a_client_that_asks_and_closes_its_side_is_answered():
    async def test(world):
        client = await world.tcp()
        client.send(query(), query(id_=8))
        client.writer.write_eof()
        assert len([await client.receive(), await client.receive()]) == 2
        assert await client.end() == b""

    dns_serving(test)


class FakeRecursor(asyncio.DatagramProtocol):
    """Answers with what ``make`` gives for a query's message; None is silence."""

    def __init__(self, make):
        self.make, self.asked = make, []

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        asked = parse_query(data)
        self.asked.append(asked)
        for answer in self.make(asked):
            self.transport.sendto(render(answer), addr)


async def recursor(world, make):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: FakeRecursor(make), local_addr=("127.0.0.1", 0))
    world.closing.append(transport)
    return protocol, Recursor(*transport.get_extra_info("sockname"))


def answer_to(asked, **fields):
    record = Record(asked.question.name, A, 60, b"\x7f\0\x09\1")
    fields = {"id": asked.header.id, "answers": (record,), "recursion_available": True} | fields
    return Message(question=asked.question, **fields)


def set_recursors(world, *recursors, timeout_ms=200):
    world.server._recursors = type(world.server._recursors)(recursors, timeout_ms=timeout_ms)


def test_other_names_are_asked_of_recursors_in_turn():
    async def test(world):
        silent, first = await recursor(world, lambda asked: [])
        failing, second = await recursor(world, lambda asked: [answer_to(asked, rcode=SERVFAIL, answers=())])
        forged = [lambda asked: answer_to(asked, id=asked.header.id ^ 1), answer_to]
        _, third = await recursor(world, lambda asked: [make(asked) for make in forged])
        set_recursors(world, first, second, third)
        client = await world.udp()
        found = parse_message(await client.ask(query("example.test", id_=99)))
        assert (found.id, found.rcode, found.recursion_available, len(found.answers)) == (99, NOERROR, True, 1)
        assert len(silent.asked) == len(failing.asked) == 1
        assert world.server.counters.forwarded == 1
        assert parse_message(await client.ask(query("example.test", flags_rd=False))).rcode == REFUSED

    dns_serving(test, face={"recursion": True})


def test_no_recursor_helps():
    async def test(world):
        _, silent = await recursor(world, lambda asked: [])
        set_recursors(world, silent, Recursor("127.0.0.1", 1), timeout_ms=50)
        for client in (await world.udp(), await world.tcp()):
            found = parse_message(await client.ask(query("example.test")))
            assert (found.rcode, found.recursion_available) == (SERVFAIL, True)
        assert world.server.counters.unanswered == 2

    dns_serving(test, face={"recursion": True})


def test_too_many_waiting_queries_fail_at_once(monkeypatch):
    async def test(world):
        _, silent = await recursor(world, lambda asked: [])
        set_recursors(world, silent, timeout_ms=10_000)
        monkeypatch.setattr("townhall.serve.dns.DNS_FORWARDS_MAX", 1)
        client = await world.udp()
        client.transport.sendto(query("a.test"))
        assert parse_message(await client.ask(query("b.test", id_=2))).rcode == SERVFAIL
        assert limits.DNS_FORWARDS_MAX > 1

    dns_serving(test, face={"recursion": True})


def test_an_alias_to_elsewhere_is_followed_through_a_recursor():
    async def test(world):
        _, known = await recursor(world, lambda asked: [answer_to(asked)])
        set_recursors(world, known)
        await world.register("svc.example.test")
        client = await world.udp()
        found = parse_message(await client.ask(query()))
        assert [(r.name, r.type) for r in found.answers] == [(name_of(WEB), CNAME), (name_of("svc.example.test"), A)]
        set_recursors(world, Recursor("127.0.0.1", 1), timeout_ms=50)
        assert [r.type for r in parse_message(await client.ask(query())).answers] == [CNAME]

    dns_serving(test, face={"recursion": True})


def test_an_answer_too_large_for_the_client_is_cut_short():
    async def test(world):
        def large(asked):
            return [answer_to(asked, answers=tuple(Record(asked.question.name, A, n, bytes(4)) for n in range(100)))]

        _, known = await recursor(world, large)
        set_recursors(world, known)
        client = await world.udp()
        found = parse_message(await client.ask(query("example.test")))
        assert (found.truncated, found.answers, found.question.name) == (True, (), name_of("example.test"))
        assert len(parse_message(await client.ask(query("example.test", edns=4096))).answers) == 100

    dns_serving(test, face={"recursion": True})


def test_answers_beyond_the_rate_are_dropped_or_cut_short():
    async def test(world):
        await world.register("127.0.2.1")
        world.server._second = float("inf")  # no second ends while we count
        client = await world.udp()
        for n in range(10):
            client.transport.sendto(query(id_=n))
        await until(lambda: world.server.counters.udp == 10)
        found = [parse_message(await asyncio.wait_for(client.received.get(), DEADLINE_S)) for _ in range(4 + 3)]
        assert [len(m.answers) for m in found] == [1] * 4 + [0] * 3
        assert all(m.truncated for m in found[4:])
        assert world.server.counters.limited == 6
        assert len(addresses(await (await world.tcp()).ask(query()))) == 1

    dns_serving(test, rate=4, rate_local=True)


def test_a_port_in_use_is_told():
    async def test(world):
        other = DnsServer(world.server._answers.face, world.hub, DnsServerOptions())
        with pytest.raises(OSError, match="in use"):
            await other.start(world.host, world.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(OSError, match="in use"):
                await other.start("127.0.0.1", taken.getsockname()[1])
        await other.stop(0)

    dns_serving(test)


def test_stop_ends_connections_and_waits_for_recursors():
    async def test(world):
        _, silent = await recursor(world, lambda asked: [])
        set_recursors(world, silent, timeout_ms=10_000)
        client, waiting = await world.tcp(), await world.udp()
        await client.ask(query())
        waiting.transport.sendto(query("example.test"))
        await until(lambda: world.server.counters.forwarded)
        await world.server.stop(20)
        assert await client.end() == b""
        assert waiting.received.empty()
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection(world.host, world.port)

    dns_serving(test, face={"recursion": True})
