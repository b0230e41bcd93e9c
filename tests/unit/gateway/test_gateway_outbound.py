"""Connections to an instance, and the limits of services and clients, without a gateway around them."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from gateway_support import Instance, Stand, get, read_message, run, until

from townhall.gateway.alarm import Alarm
from townhall.gateway.contracts import Carrier
from townhall.gateway.endpoint import EndpointHttp1
from townhall.gateway.options import GatewayOptions
from townhall.gateway.plane import Way
from townhall.gateway.routes import Route
from townhall.gateway.trace import Trace
from townhall.model import limits


class Asker:
    def __init__(self) -> None:
        self.got: list[Carrier] = []
        self.errors: list[OSError] = []

    def connected(self, carrier: Carrier) -> bool:
        self.got.append(carrier)
        return True

    def not_connected(self, error: OSError) -> None:
        self.errors.append(error)


def test_defaults_are_the_limits() -> None:
    route, options = Route(name="r", service="s"), GatewayOptions()
    assert route.timeout * 1000 == limits.PROXY_TIMEOUT_MS
    assert route.connect_timeout * 1000 == limits.PROXY_CONNECT_TIMEOUT_MS
    assert route.first_byte_timeout * 1000 == limits.PROXY_FIRST_BYTE_TIMEOUT_MS
    assert route.idle_timeout * 1000 == limits.PROXY_IDLE_TIMEOUT_MS
    assert route.body_size_max == limits.PROXY_BODY_SIZE_MAX
    assert route.max_connections == limits.PROXY_CONNECTIONS_PER_INSTANCE_MAX
    assert (route.max_pending, route.max_requests) == (limits.PROXY_PENDING_MAX, limits.PROXY_REQUESTS_MAX)
    assert route.failures == limits.PROXY_FAILURES_MAX
    assert options.client_idle * 1000 == limits.PROXY_CLIENT_IDLE_MS
    assert options.connections_max == limits.PROXY_CONNECTIONS_MAX
    assert options.stop_timeout * 1000 == limits.PROXY_STOP_TIMEOUT_MS


def test_connections_are_kept_for_a_while_and_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROXY_IDLE_PER_INSTANCE_MAX", 4)

    async def main() -> None:
        instance = await Instance().start()
        endpoint = EndpointHttp1("127.0.0.1", instance.port, GatewayOptions())
        asker = Asker()
        many = limits.PROXY_IDLE_PER_INSTANCE_MAX + 2
        while len(asker.got) < many:
            # Fewer at once than the instance's backlog holds.
            wanted = min(many, len(asker.got) + 50)
            for _ in range(wanted - len(asker.got)):
                assert endpoint.ask(asker, pending_max=0)
            await until(lambda count=wanted: len(asker.got) == count)
        assert endpoint.busy
        for one in asker.got:
            endpoint.release(one)
        assert len(endpoint.all) == limits.PROXY_IDLE_PER_INSTANCE_MAX
        await until(lambda: not endpoint.busy)
        kept = endpoint.take(unsafe=True)
        assert kept is not None
        assert kept.reused
        endpoint.release(kept)
        kept.idle_since -= limits.CLIENT_REUSE_UNSAFE_MS / 1000 + 1
        assert endpoint.take(unsafe=True) is None
        assert endpoint.take(unsafe=False) is kept
        endpoint.release(kept)
        kept.idle_since -= limits.PROXY_INSTANCE_IDLE_MS / 1000 + 1
        assert endpoint.take(unsafe=False) is None
        assert not endpoint.all
        await instance.stop()

    run(main())


def test_who_waits_gets_what_becomes_free() -> None:
    async def main() -> None:
        instance = await Instance().start()
        endpoint = EndpointHttp1("127.0.0.1", instance.port, GatewayOptions())
        endpoint.connections_max = 1
        first, second = Asker(), Asker()
        assert endpoint.ask(first, pending_max=1)
        assert endpoint.ask(second, pending_max=1)
        assert not endpoint.ask(second, pending_max=1)
        await until(lambda: first.got)
        endpoint.release(first.got[0])
        assert second.got == first.got
        assert endpoint.ask(first, pending_max=1)
        second.got[0].close()
        await until(lambda: len(first.got) == 2)
        endpoint.close()
        await instance.stop()
        asker = Asker()
        endpoint.ask(asker, pending_max=1)
        await until(lambda: asker.errors)

    run(main())


def test_who_has_given_up_keeps_nobody_waiting() -> None:
    class Gone(Asker):
        def connected(self, carrier: Carrier) -> bool:
            super().connected(carrier)
            return False

    async def main() -> None:
        instance = await Instance().start()
        endpoint = EndpointHttp1("127.0.0.1", instance.port, GatewayOptions())
        endpoint.connections_max = 1
        first, last, many = Asker(), Asker(), [Gone() for _ in range(limits.PROXY_PENDING_MAX - 1)]
        for one in (first, *many, last):
            assert endpoint.ask(one, pending_max=limits.PROXY_PENDING_MAX)
        await until(lambda: first.got)
        # As many as may wait, each of which wants it no more: without going deeper each time.
        endpoint.release(first.got[0])
        assert last.got == first.got
        assert all(one.got == first.got for one in many)
        endpoint.ask(first, pending_max=1)
        assert not endpoint.ask(last, pending_max=1)
        endpoint.forgo(first)
        assert endpoint.ask(last, pending_max=1)
        endpoint.close()
        await instance.stop()

    run(main())


def test_a_name_that_is_none_is_not_connected_to() -> None:
    async def main() -> None:
        endpoint, asker = EndpointHttp1("a" * 300 + "..b", 80, GatewayOptions()), Asker()
        endpoint.ask(asker, pending_max=1)
        await until(lambda: asker.errors)
        assert "is no host's name" in str(asker.errors[0])

    run(main())


def test_an_alarm_is_moved() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        rung: list[float] = []
        alarm = Alarm(loop, lambda: rung.append(loop.time()))
        due = loop.time() + 0.05
        alarm.set(due - 0.04)
        alarm.set(due)
        await until(lambda: rung)
        assert rung[0] >= due
        alarm.set(loop.time() + 60)
        alarm.set(loop.time())
        await until(lambda: len(rung) == 2)
        alarm.set(loop.time())
        alarm.cancel()
        await asyncio.sleep(0.01)
        assert len(rung) == 2

    run(main())


def test_words_that_nobody_asked_for_end_the_connection() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in count():
            await read_message(reader)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
            )
            if number:
                return

    async def main() -> None:
        instance = Instance(script=babble)
        async with Stand('[[route]]\nservice = "static://{a}"\n', a=instance) as stand:
            for _ in range(3):
                assert (await stand.ask(get())).endswith(b"\r\n\r\nok")
            assert instance.connections == 3

    run(main())


def test_a_slow_client_slows_the_instance_down() -> None:
    size = 64 * limits.PROXY_BUFFER_SIZE_MAX
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_message(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(65_536))
            sent += 65_536
            await writer.drain()

    async def main() -> None:
        async with Stand('[[route]]\nservice = "static://{a}"\n', a=Instance(script=pour)) as stand:
            reader, writer = await stand.connect()
            writer.write(get())
            await reader.readuntil(b"\r\n\r\n")
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < size
            assert len(await reader.readexactly(size)) == size
            writer.close()

    run(main())


def test_services_found_by_name_alone_are_bounded() -> None:
    async def main() -> None:
        async with Stand("auto = true\nservice_wait = 0.01\n") as stand:
            assert b'"code":"no_route"' in await stand.ask(get("/"))
            assert b'"code":"no_instance"' in await stand.ask(get("/user/1"))
            plane = stand.gateway.plane
            while len(plane.automatic) < limits.PROXY_AUTO_SERVICES_MAX:
                plane.automatic[str(len(plane.automatic))] = Route(name="x", service="x")
            assert b'"code":"no_route"' in await stand.ask(get("/another/1"))

    run(main())


def test_the_way_of_a_head_is_remembered_until_the_routes_change() -> None:
    async def main() -> None:
        async with Stand("auto = true\nservice_wait = 0.01\n") as stand:
            plane = stand.gateway.plane
            head = plane.heads.read(get("/user/1"))
            first, trace = plane.find(head, Trace(head, "", 0.0)), Trace(head, "", 0.0)
            assert isinstance(first, Way)
            assert plane.find(head, trace) is first
            assert (trace.route, trace.service) == ("auto:user", "user")
            plane.forget("user")
            again = plane.find(head, trace)
            assert isinstance(again, Way)
            assert again.route is not first.route

    run(main())
