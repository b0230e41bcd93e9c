"""A DNS server: one face on UDP and TCP at the same addresses."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from townhall.model.limits import DNS_FORWARDS_MAX, LISTEN_BACKLOG_COUNT, TIMER_TICK_MS
from townhall.serve.dns_answers import Answers, Forward
from townhall.serve.dns_options import DnsCounters, DnsServerOptions
from townhall.serve.dns_rate import RateLimit, Ruling
from townhall.serve.dns_recursors import Recursors
from townhall.serve.dns_tcp import StreamConnection
from townhall.serve.dns_udp import DatagramListener, Sender, open_socket
from townhall.serve.wheel import TimerWheel
from townhall.wire.dns import parse_message

if TYPE_CHECKING:
    from townhall.face.dns.answering import DnsFace
    from townhall.hub import Hub

__all__ = ["DnsServer"]

_log = logging.getLogger(__name__)
_PORT_ATTEMPTS: Final = 16
"""A port that is free for TCP may be taken for UDP; then another one is tried."""


class DnsServer:
    """Serves ``face`` over UDP and TCP. Made and used on the running loop, uvloop's or asyncio's own."""

    def __init__(self, face: DnsFace, hub: Hub, options: DnsServerOptions | None = None) -> None:
        self.options = options or DnsServerOptions()
        self.counters = DnsCounters()
        self.wheel = TimerWheel(tick_ms=TIMER_TICK_MS)
        self._loop = asyncio.get_running_loop()
        self._answers = Answers(face, hub, self.counters, token=self.options.token)
        self._recursors = Recursors(self.options.recursors, timeout_ms=self.options.recursor_timeout_ms)
        self._rate = RateLimit(self.options.rate, local=self.options.rate_local)
        self._listeners: list[asyncio.AbstractServer] = []
        self._datagrams: list[DatagramListener] = []
        self._connections: set[StreamConnection] = set()
        self._addresses: dict[str, int] = {}
        self._forwards: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0
        self._second = 0.0
        self._stopping = False

    # --- life

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen on one more address, over both; returns the host and port it has. Port 0 takes a free one.

        Raises ``OSError`` when the address cannot be resolved or bound.
        """
        family, _, _, _, address = (
            await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        )[0]
        streams, datagrams = _bind_both(family, address)
        try:
            bound = streams.getsockname()
            listener = await self._loop.create_server(
                lambda: StreamConnection(self), sock=streams, backlog=LISTEN_BACKLOG_COUNT
            )
        except BaseException:
            streams.close()
            datagrams.close()
            raise
        self._listeners.append(listener)
        self._datagrams.append(DatagramListener(self._loop, datagrams, self._datagram, self._dropped))
        if self._timer is None:
            self._ticked = self._loop.time()
            self._tick()
        return bound[0], bound[1]

    async def stop(self, grace_ms: int) -> None:
        """Stop accepting, let recursors answer what was passed on, ``grace_ms`` at most; then close. Idempotent."""
        self._stopping = True
        for listener in self._listeners:
            listener.close()
        if self._forwards:
            await asyncio.wait(self._forwards, timeout=grace_ms / 1000)
        for task in list(self._forwards):
            task.cancel()
        if self._forwards:
            await asyncio.wait(self._forwards)
        for datagrams in self._datagrams:
            datagrams.close()
        self._datagrams.clear()
        for connection in list(self._connections):
            connection.leave()
        # One turn lets the kernel take what was written; a client that takes nothing is not waited for.
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()

    # --- for connections

    def arrived(self, connection: StreamConnection) -> bool:
        """Count a connection in; False when it is one too many."""
        there = self._addresses.get(connection.address, 0)
        options = self.options
        crowded = len(self._connections) >= options.connections_max or there >= options.connections_per_address_max
        self._connections.add(connection)
        self._addresses[connection.address] = there + 1
        self.counters.accepted += 1
        self.counters.open += 1
        if crowded or self._stopping:
            self.counters.turned_away += 1
            return False
        self.wheel.arm(connection, options.idle_timeout_ms)
        return True

    def departed(self, connection: StreamConnection) -> None:
        """Count it out."""
        self._connections.discard(connection)
        self.wheel.forget(connection)
        self.counters.open -= 1
        left = self._addresses[connection.address] - 1
        if left:
            self._addresses[connection.address] = left
        else:
            del self._addresses[connection.address]

    def streamed(self, data: bytes, done: Callable[[bytes | None], None]) -> None:
        """A query over TCP; ``done`` is called once, perhaps later."""
        self.counters.tcp += 1
        answer = self._answers.reply(data, tcp=True)
        if isinstance(answer, Forward):
            self._forward(answer, done, tcp=True)
        else:
            done(answer)

    # --- inside

    def _datagram(self, data: bytes, sender: Sender) -> None:
        self.counters.udp += 1
        answer = self._answers.reply(data, tcp=False)
        if answer is None:
            return
        ruling = self._rate.judge(sender.address)
        if ruling is not Ruling.SEND:
            self.counters.limited += 1
            if ruling is Ruling.SHORTEN and not isinstance(answer, Forward):
                sender.send(self._answers.short(answer))
            return
        if isinstance(answer, Forward):
            self._forward(answer, lambda found: sender.send(found) if found is not None else None, tcp=False)
        else:
            sender.send(answer)

    def _dropped(self) -> None:
        self.counters.dropped += 1

    def _forward(self, forward: Forward, done: Callable[[bytes | None], None], *, tcp: bool) -> None:
        if len(self._forwards) >= DNS_FORWARDS_MAX or self._stopping:
            self.counters.unanswered += 1
            done(self._answers.failed(forward.query, tcp=tcp))
            return
        self.counters.forwarded += 1
        task = self._loop.create_task(self._ask(forward, done, tcp), name="dns forward")
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)

    async def _ask(self, forward: Forward, done: Callable[[bytes | None], None], tcp: bool) -> None:
        query, resolution = forward.query, forward.resolution
        try:
            found = await self._recursors.ask(forward.question, edns=query.edns, tcp=tcp)
            if found is None:
                self.counters.unanswered += 1
            if resolution is not None:
                # The alias is ours to tell, whatever became of what it leads to.
                if found is not None:
                    resolution.answers = [*resolution.answers, *parse_message(found).answers]
                    resolution.extras = ()
                answer = self._answers.rendered(query, resolution, tcp=tcp)
            elif found is None:
                answer = self._answers.failed(query, tcp=tcp)
            else:
                answer = self._answers.passed_on(query, found, tcp=tcp)
        except Exception:
            self.counters.errors += 1
            _log.exception("a DNS query could not be passed on")
            answer = self._answers.failed(query, tcp=tcp)
        done(answer)

    def _tick(self) -> None:
        now = self._loop.time()
        elapsed_ms, self._ticked = (now - self._ticked) * 1000, now
        self._timer = self._loop.call_later(TIMER_TICK_MS / 1000, self._tick)
        self.wheel.advance(elapsed_ms)
        if now - self._second >= 1:
            self._second = now
            self._rate.next_second()


def _bind_both(family: int, address: Any) -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket at the same address and port. Raises OSError."""
    attempts = 1 if address[1] else _PORT_ATTEMPTS
    for attempt in range(attempts):
        streams = socket.socket(family, socket.SOCK_STREAM)
        try:
            streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                streams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            streams.bind(address)
            return streams, open_socket(family, streams.getsockname())
        except OSError:
            streams.close()
            if attempt == attempts - 1:
                raise
    raise AssertionError("the last attempt returns or raises")
