"""One HTTP/2 connection on a socket: ``wire.http2`` does the protocol, the driver of calls what is asked for.

What one turn of the loop has to say goes out in one write. While the socket does not take it, no data is given to it
(``blocked``), and nothing is read either, so that a peer that asks and does not read cannot make us hold its answers.
A silent connection is asked with a PING; one that does not answer, or takes nothing of what waits for it, is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from townhall.core.queries import Reader
from townhall.face.grpc import Code, Kind
from townhall.model.limits import (
    HTTP2_HELD_SIZE_MAX,
    HTTP2_PING_TIMEOUT_MS,
    READ_AHEAD_SIZE_MAX,
    STREAM_STALL_TIMEOUT_MS,
)
from townhall.serve.call_run import CallRun
from townhall.serve.calls import CallDriver
from townhall.serve.grpc_plans import CallPlan, HttpAnswer
from townhall.serve.run import Refusal
from townhall.serve.wheel import Timed
from townhall.wire.grpc import Deframer, GrpcFault
from townhall.wire.http2 import ErrorCode, Fault, frames
from townhall.wire.http2.connection import Connection
from townhall.wire.http2.heads import Head
from townhall.wire.http2.outbox import Stream

__all__ = ["Http2Peer"]

_PING: Final = frames.frame(frames.PING, 0, 0, b"townhall")
_GOODBYE_MS: Final = 100
"""Between the two GOAWAYs: what the peer opened before it read the first one is served."""


class _Incoming:
    """A call whose one message comes in pieces."""

    __slots__ = ("deframer", "message", "plan", "size")

    def __init__(self, plan: CallPlan) -> None:
        self.plan = plan
        self.message: bytes | None = None
        self.size = 0
        """Bytes that came."""
        self.deframer = Deframer(plan.size_max, gzip=plan.gzip)


class Http2Peer(Timed, asyncio.Protocol):
    """One peer: the sink of its ``wire.http2`` connection and the protocol of its transport."""

    __slots__ = (
        "_closing", "_going", "_leaving", "_pinged", "_resting", "_said", "_sent", "_stall", "_transport", "_wire",
        "address", "behind", "blocked", "certificate", "driver", "held", "name", "outbox", "reader", "reading", "secret",
    )  # fmt: skip

    def __init__(self, driver: CallDriver) -> None:
        super().__init__()
        self.driver = driver
        self._transport: asyncio.Transport | None = None
        self._wire = Connection(driver.options.http2, driver.memory, self, driver.options.write_buffer_size_max)
        self.outbox = self._wire.outbox
        self.reading = False
        """Input is being taken; what is said meanwhile goes out together."""
        self.secret = ""
        self.reader: Reader | None = None
        """Both for the driver: who asks, and what they may read, as long as it knows that."""
        self._said = False
        """What was said goes out at the end of this turn."""
        self._going = False
        """More input is taken in the next turn."""
        self._pinged = False
        self._leaving = False
        self._closing = False
        self._resting = False
        """Reading is paused."""
        self._sent = 0
        self.behind: dict[CallRun, None] = {}
        """Runs that wait for the socket to take what was written."""
        self._stall = _Stall(self)
        self.blocked = False
        self.held = 0
        """Bytes of requests that are not complete or not dealt with."""
        self.name = ""
        """The peer's ``host:port``."""
        self.address = ""
        self.certificate = ""
        """Common name of the client's certificate."""

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address, port = (str(peer[0]), peer[1]) if peer else ("", 0)
        self.name = f"[{self.address}]:{port}" if ":" in self.address else f"{self.address}:{port}"
        self.certificate = _common_name(transport.get_extra_info("peercert"))
        self._transport.set_write_buffer_limits(high=self.driver.options.write_buffer_size_max)
        counters = self.driver.counters
        counters.accepted += 1
        counters.open += 1
        if self.driver.peers.arrived(self):
            self.driver.wheel.arm(self, self.driver.http.header_timeout_ms)
        else:
            counters.turned_away += 1
            self._wire.fail(Fault(ErrorCode.ENHANCE_YOUR_CALM, "too many connections"))
        self.flush()

    def data_received(self, data: bytes) -> None:
        driver = self.driver
        driver.counters.received_bytes += len(data)
        self._wire.feed(data)
        if not self._going and not self.blocked:
            self._read()
        if self._wire.greeted and not self._leaving:
            # Moving it forward is one assignment, see ``wheel``; what was armed before its first SETTINGS is earlier.
            self._pinged = False
            self.due = driver.ping_due

    def eof_received(self) -> bool:
        # A client that says no more cannot open windows either: whatever waits could not be sent.
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        driver = self.driver
        self._transport = None
        driver.wheel.forget(self)
        driver.wheel.forget(self._stall)
        self._wire.lose()
        driver.peers.departed(self)
        driver.counters.open -= 1

    def pause_writing(self) -> None:
        self.blocked = True
        self.outbox.room = 0
        self._stall.watch()
        self._rest()

    def resume_writing(self) -> None:
        self.blocked = False
        self.outbox.room = self.driver.options.write_buffer_size_max
        behind, self.behind = self.behind, {}
        for run in behind:
            run.writable()
        self.outbox.pump()
        # What was held back is read now; this flushes as well.
        self._read()

    # --- wire.http2.Sink

    def request(self, stream: Stream, head: Head, varying: bytes, ended: bool) -> None:
        """See ``wire.http2``."""
        driver = self.driver
        if varying:
            try:
                stream.due = driver.due(varying)
            except GrpcFault as fault:
                driver.refuse(self, stream, driver.refusal(fault, None))
                return
        known = head.plan
        if type(known) is CallPlan and known.usual and not ended and not self.outbox.unsent:
            # The shortest path: its message is to come.
            stream.owner = known
            return
        plan = driver.begin(self, stream, head)
        if plan is None:
            return
        if plan.http is not None:
            # Not before the request is over: only then is it known to be well formed.
            stream.owner = plan.http
            if ended:
                self._plain(stream, plan.http)
            return
        if not self._wire.settled:
            self._wire.settle()
        if plan.kind == Kind.DUPLEX:
            driver.execute(self, stream, plan, b"")
            if ended and isinstance(stream.owner, CallRun):
                stream.owner.received(b"", ended)
        elif ended:
            driver.refuse(self, stream, Refusal(Code.INTERNAL, b"a call without a message"))
        else:
            stream.owner = plan

    def whole(self, stream: Stream, head: Head, data: bytes) -> None:
        """See ``wire.http2``."""
        plan = head.plan
        assert type(plan) is CallPlan
        if data[:1] == b"\0" and len(data) - 5 == int.from_bytes(data[1:5], "big") <= plan.size_max:
            self.driver.execute(self, stream, plan, data[5:])
        else:
            stream.owner = plan
            self.data(stream, data, True)

    def data(self, stream: Stream, data: bytes, ended: bool) -> None:
        """See ``wire.http2``."""
        owner = stream.owner
        if type(owner) is CallPlan:
            # The shortest path: the whole request in one frame.
            if ended and data[:1] == b"\0" and len(data) - 5 == int.from_bytes(data[1:5], "big") <= owner.size_max:
                stream.owner = None
                self.driver.execute(self, stream, owner, data[5:])
                return
            incoming = stream.owner = _Incoming(owner)
            self._gather(stream, incoming, data, ended)
        elif isinstance(owner, CallRun):
            owner.received(data, ended)
        elif isinstance(owner, _Incoming):
            self._gather(stream, owner, data, ended)
        elif ended and isinstance(owner, HttpAnswer):
            self._plain(stream, owner)
        if self.held > HTTP2_HELD_SIZE_MAX and not stream.finished:
            self._over_limit(stream)

    def answering(self, stream: Stream) -> Callable[[bytes], bytes | None] | None:
        """See ``wire.http2``."""
        owner = stream.owner
        return owner.answering() if isinstance(owner, CallRun) else None

    def lost(self, stream: Stream) -> None:
        """See ``wire.http2``."""
        self.driver.counters.cancelled += 1
        self._release(stream)

    def writable(self, stream: Stream) -> None:
        """See ``wire.http2``."""
        owner = stream.owner
        if isinstance(owner, CallRun):
            owner.writable()

    # --- for the driver and its runs

    def say(self) -> None:
        """Something was put into the outbox: it goes out with this turn of the loop."""
        if not self.reading and not self._said:
            self._said = True
            self.driver.flush_soon(self)

    def flush(self) -> None:
        """Give the socket what was said."""
        self._said = False
        transport, outbox = self._transport, self.outbox
        if transport is None or transport.is_closing():
            outbox.out.clear()
            return
        if outbox.out:
            data = outbox.take()
            self.driver.counters.sent_bytes += len(data)
            self._sent += len(data)
            transport.write(data)
        if not self.blocked:
            outbox.room = self.driver.options.write_buffer_size_max
            if outbox.unsent:
                outbox.pump()
                if outbox.out:
                    self.say()
        if outbox.unsent:
            self._stall.watch()
        if self._wire.over or (self._wire.leaving and not self._wire.streams):
            self._close()

    def resume(self, stream: Stream) -> None:
        """What came on a paused stream has been dealt with."""
        self._wire.resume(stream)
        self.say()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """The server is shutting down: end what waits for nothing, and let what is being answered be answered."""
        self._leaving = True
        self._wire.leave(last=False)
        for stream in list(self._wire.streams.values()):
            if isinstance(stream.owner, CallRun) and not stream.owner.patient:
                stream.owner.leave()
        self.driver.wheel.arm(self, _GOODBYE_MS)
        self.flush()

    def expired(self) -> None:
        if self._leaving:
            self._wire.leave(last=True)
            self.flush()
        elif not self._wire.greeted or self._pinged:
            self.driver.counters.timed_out += 1
            self.abort()
        else:
            self._pinged = True
            self.outbox.out.append(_PING)
            self.flush()
            self.driver.wheel.arm(self, HTTP2_PING_TIMEOUT_MS)

    @property
    def waits(self) -> bool:
        """Something waits to be taken by the peer."""
        return self.blocked or self.outbox.unsent > 0 or self._closing

    @property
    def progress(self) -> tuple[int, int]:
        """Changes with each byte that the peer takes."""
        left = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._sent - left, self.outbox.unsent

    def stalled(self) -> None:
        """For so long the peer took nothing of what waits for it."""
        self.driver.counters.timed_out += 1
        self.abort()

    # --- within

    def _read(self) -> None:
        self._wire.guard.tick = self.driver.wheel.tick
        self.reading = True
        try:
            more = self._wire.proceed()
        except Exception as error:
            # Handlers are guarded by the driver, so this is our own bug, and what the connection's state is nobody knows.
            self.driver.refusal(error, None)
            self.abort()
            return
        finally:
            self.reading = False
            self.reader = None
        if more and not self._going:
            self._going = True
            self.driver.loop.call_soon(self._go_on)
        self.flush()
        if self._resting or self._going or self.blocked:
            self._rest()

    def _go_on(self) -> None:
        self._going = False
        if not self.blocked:
            self._read()

    def _rest(self) -> None:
        """Read from the socket, or let the peer wait."""
        rest = self.blocked or (self._going and self._wire.held > READ_AHEAD_SIZE_MAX)
        transport = self._transport
        if rest != self._resting and transport is not None and not transport.is_closing():
            self._resting = rest
            if rest:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _close(self) -> None:
        if self._closing or self._transport is None:
            return
        self._closing = True
        self.driver.counters.malformed += self._wire.over
        self._transport.close()
        # A peer that does not read would keep it open for ever.
        self._stall.watch()

    def _gather(self, stream: Stream, incoming: _Incoming, data: bytes, ended: bool) -> None:
        deframer, driver = incoming.deframer, self.driver
        deframer.feed(data)
        incoming.size += len(data)
        self.held += len(data)
        try:
            if incoming.message is None:
                incoming.message = deframer.next()
            if (ended and incoming.message is None) or (incoming.message is not None and deframer.size):
                raise GrpcFault(Code.INTERNAL, "this call takes one message, and a whole one")
        except GrpcFault as fault:
            self._release(stream)
            driver.refuse(self, stream, driver.refusal(fault, None))
            return
        if ended and incoming.message is not None:
            self._release(stream)
            driver.execute(self, stream, incoming.plan, incoming.message)

    def _plain(self, stream: Stream, answer: HttpAnswer) -> None:
        stream.owner = None
        self.driver.counters.malformed += 1
        self.outbox.begin(stream, answer.head)
        self.outbox.send(stream, answer.body)
        self.outbox.end(stream, frames.END)

    def _release(self, stream: Stream) -> None:
        """Whoever had the stream has it no longer."""
        owner, stream.owner = stream.owner, None
        if type(owner) is _Incoming:
            self.held -= owner.size
        elif isinstance(owner, CallRun):
            owner.lost()

    def _over_limit(self, stream: Stream) -> None:
        self._release(stream)
        refusal = Refusal(Code.RESOURCE_EXHAUSTED, b"too many bytes of incomplete messages on this connection")
        self.driver.refuse(self, stream, refusal)


class _Stall(Timed):
    """Notices a peer that takes nothing of what waits for it."""

    __slots__ = ("_mark", "_peer")

    def __init__(self, peer: Http2Peer) -> None:
        super().__init__()
        self._peer = peer
        self._mark: tuple[int, int] | None = None

    def watch(self) -> None:
        """Something waits from now on, unless it did already."""
        if not self.due:
            self._mark = self._peer.progress
            self._peer.driver.wheel.arm(self, STREAM_STALL_TIMEOUT_MS)

    def expired(self) -> None:
        peer = self._peer
        if not peer.waits:
            return
        if peer.progress == self._mark:
            peer.stalled()
        else:
            self.watch()


def _common_name(certificate: object) -> str:
    """Of the subject of a verified certificate, as ``ssl`` gives it."""
    if not isinstance(certificate, dict):
        return ""
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return ""
