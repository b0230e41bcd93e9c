"""One HTTP/1.1 connection: bytes in, plans out; answers in, bytes out.

Requests are answered one after the other: while one is unanswered, what follows stays in the reader as bytes, and when
too many wait there, reading stops. So answers are in order by themselves, and a request never overtakes a write before
it. The shortest path is the first thing ``data_received`` looks at: a whole head that was seen before, with a
remembered answer that still holds, is one dictionary look-up and one write.

States: HEAD (a request is to come, or ``run`` is answering one), BODY (its body is coming), DUPLEX (a run takes the
body as it comes), LINGER (an early answer is sent; input is dropped so that the answer is not lost), CLOSED.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from townhall.model.errors import Misuse, Unavailable
from townhall.serve.driver import Driver
from townhall.serve.heads import Plan
from townhall.serve.run import Run
from townhall.serve.wheel import Timed
from townhall.wire.http1 import CONTINUE, refusal
from townhall.wire.http1_reader import RequestReader

__all__ = ["Connection"]

HEAD: Final = 0
BODY: Final = 1
DUPLEX: Final = 2
LINGER: Final = 3
CLOSED: Final = 4
_CR: Final = 13


class Connection(Timed, asyncio.Protocol):
    """One peer. ``run`` is what answers its present request; ``blocked`` says that the kernel takes no more for now."""

    __slots__ = (
        "_begun", "_driver", "_ended", "_gathered", "_last", "_out", "_plan", "_reader", "_ready", "_resting", "_running", "_state", "_stuck",
        "_tight", "_transport", "_waits", "address", "blocked", "name", "run",
    )  # fmt: skip

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(driver.options)
        self._plan: Plan | None = None
        self._out: list[bytes] = []
        self._gathered = 0
        """Bytes in ``_out`` that end an answer."""
        self._state = HEAD
        self._ready = False
        """Nothing is going on: the next bytes begin a request."""
        self._running = False
        """Input is being taken; what is answered meanwhile goes out together."""
        self._begun = False
        """A head has begun and its timeout runs."""
        self._waits = False
        """It has had its share of this turn of the loop and goes on in the next."""
        self._resting = False
        """Reading is paused."""
        self._ended = False
        """The peer sends nothing more."""
        self._stuck = 0
        """Unsent bytes when a stall was last looked for."""
        self.run: Run | None = None
        self.blocked = False
        self._last = False
        """The connection ends after the present answer."""
        self._tight = False
        """The kernel must take everything before ``blocked`` ends: a stream."""
        self.name = ""
        """The peer's ``host:port``."""
        self.address = ""

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        driver = self._driver
        peer = transport.get_extra_info("peername")
        self.address, port = (str(peer[0]), peer[1]) if peer else ("", 0)
        self.name = f"[{self.address}]:{port}" if ":" in self.address else f"{self.address}:{port}"
        self._transport.set_write_buffer_limits(high=driver.options.write_buffer_size_max)
        if driver.arrived(self):
            self._settle()
        else:
            self._reject(Unavailable("too many connections", advice="try again later", http_status=503))

    def data_received(self, data: bytes) -> None:
        driver = self._driver
        driver.counters.received_bytes += len(data)
        if self._ready:
            plan = driver.heads.young.get(data)
            if plan is not None and plan.keep_alive and not plan.old:
                rendered = plan.rendered
                if rendered is not None and rendered.view.fresh and (not plan.secret or driver.known(plan, self)):
                    rendered.used = True
                    replies, counters = driver.replies, driver.counters
                    wire = rendered.wire if rendered.date is replies.date else replies.stamp(rendered)
                    counters.answered(rendered.status)
                    counters.cached += 1
                    counters.sent_bytes += len(wire)
                    self.due = driver.idle_due
                    self._transport.write(wire)  # type: ignore[union-attr]  # ready means that it is open
                    return
            if self._take_whole(data):
                return
        elif self._state >= LINGER:
            return
        self._reader.feed(data)
        self.proceed()

    def eof_received(self) -> bool:
        transport = self._transport
        if transport is None or transport.get_extra_info("sslcontext") is not None or self._state >= LINGER:
            return False
        self._ended = True
        # Half closed: whoever waits for an answer that is on its way still gets it. A parked read or a stream would
        # keep its place for a peer that is most likely gone.
        if self.run is not None:
            return self.run.patient
        return self._waits or self.blocked

    def connection_lost(self, exc: Exception | None) -> None:
        driver = self._driver
        self._state = CLOSED
        self._ready = False
        self._transport = None
        self._out.clear()
        self._reader.drop()
        driver.wheel.forget(self)
        run, self.run = self.run, None
        if run is not None:
            run.lost()
        driver.departed(self)

    def pause_writing(self) -> None:
        self.blocked = True
        self._ready = False
        if self._transport is not None:
            self._stuck = self._transport.get_write_buffer_size()
            self._driver.wheel.arm(self, self._driver.options.stream_stall_timeout_ms)

    def resume_writing(self) -> None:
        self.blocked = False
        if self._state >= LINGER:
            return
        if self.run is not None:
            self.run.writable()
        self.proceed()

    # --- for the driver and its runs

    def closes(self, plan: Plan) -> bool:
        """Whether the connection ends after the answer to this plan, as far as is known at its start."""
        return not plan.keep_alive or self._driver.stopping

    @property
    def ends(self) -> bool:
        """Whether the connection ends after an answer that is complete now: an unread body cannot be skipped."""
        return self._last or self._driver.stopping or not self._reader.ended

    @property
    def half_closed(self) -> bool:
        """The peer sends nothing more; an answer may still reach it."""
        return self._ended

    def hang_up(self) -> None:
        """End the connection in the middle of an answer, after what is written."""
        self._flush()
        self._close()

    def close_after(self) -> None:
        """End the connection after the present answer."""
        self._last = True

    def finish(self, data: bytes) -> None:
        """The end of the present answer, or all of it."""
        self.run = None
        self._plan = None
        if self._transport is None or self._state >= LINGER:
            self._driver.counters.dropped += 1
            return
        if self._tight:
            self._tight = False
            self._transport.set_write_buffer_limits(high=self._driver.options.write_buffer_size_max)
        if not (self._running or self._out or self._reader.size or self._state != HEAD or self.ends):
            # Nearly always: nothing else is to be sent or there to be taken.
            self._write(data)
            self._settle()
            return
        self._out.append(data)
        self._gathered += len(data)
        if self.ends:
            self._flush()
            self._close()
            return
        if self._gathered > self._driver.options.write_buffer_size_max:
            # Now rather than at the end of the turn, so that ``blocked`` stops a peer that asks and does not read.
            self._flush()
        if self._running:
            return
        if self._reader.size:
            # We may be within the writer's round of answers: what is pipelined takes its turn after the others'.
            self._flush()
            self._take_turn()
        else:
            self.proceed()

    def open(self, run: Run, data: bytes) -> None:
        """The beginning of an answer that goes on. From now on ``blocked`` means that the kernel has not taken all."""
        assert self.run is None, "a connection answers one request at a time"
        self.run = run
        if self._transport is not None:
            self._tight = True
            self._transport.set_write_buffer_limits(high=0)
            self._out.append(data)
            self._flush()
            if not self._running:
                # It began later than its head was read, after a Submit; its body waits to be taken.
                self._driver.loop.call_soon(self.proceed)

    def send(self, data: bytes) -> None:
        """A part of an answer that goes on."""
        if self._transport is not None and data:
            self._out.append(data)
            self._flush()

    def abort(self) -> None:
        """Cut the connection: the answer cannot be completed."""
        self._ready = False
        self._state = CLOSED
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """The server is shutting down: end what waits for nothing, and let what is being answered be answered."""
        if self._state >= LINGER:
            return
        self._last = True
        if self.run is not None:
            self.run.leave()
        elif self._state == HEAD and not self._reader.size:
            self._close()

    def proceed(self) -> None:
        """Take from the input as much as may be taken now."""
        if self._running or self._waits or self._state >= LINGER:
            return
        self._running = True
        budget = self._driver.options.pipeline_count_max
        try:
            while self._step():
                budget -= 1
                if not budget:
                    self._take_turn()
                    break
        except Misuse as error:
            self._reject(error)
        self._running = False
        self._flush()
        self._settle()

    # --- within

    def _take_whole(self, data: bytes) -> bool:
        """Take a request that arrived in one piece and alone, as most do; False when it is not just that."""
        driver = self._driver
        end = data.find(b"\r\n\r\n") + 4
        plan = driver.heads.young.get(data[:end])
        if plan is None and 4 <= end <= self._reader.small and data[0] != _CR:
            try:
                plan = driver.heads.plan(data[:end])
            except Misuse as error:
                self._reject(error)
                return True
        if plan is None or plan.length != len(data) - end or plan.length > plan.size_max or plan.duplex:
            return False
        self._ready = False
        self._last = self.closes(plan)
        driver.execute(self, plan, data[end:])
        if self.run is not None:
            self._settle()
        return True

    def _take_turn(self) -> None:
        self._waits = True
        self._driver.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._waits = False
        self.proceed()

    def _step(self) -> bool:
        """Take one request, or a part of one; False when there is nothing to take."""
        if self.blocked or self._state >= LINGER:
            return False
        if self._state == DUPLEX:
            return self._take_part()
        if self.run is not None:
            return False
        if self._state == HEAD:
            raw = self._reader.head()
            if raw is None:
                return False
            self._begin(self._driver.heads.plan(raw))
            return self._reader.size > 0 or self._state != HEAD
        body = self._reader.body()
        if body is None:
            return False
        self._state = HEAD
        assert self._plan is not None
        self._driver.execute(self, self._plan, body)
        return self._reader.size > 0

    def _begin(self, plan: Plan) -> None:
        self._begun = False
        self._plan = plan
        self._last = self.closes(plan)
        length = plan.length
        if not length and not plan.duplex:
            self._driver.execute(self, plan, b"")
            return
        self._reader.begin_body(length, size_max=None if plan.duplex else plan.size_max)
        if plan.expects_continue and not self._reader.size and length:
            self._out.append(CONTINUE)
        if not plan.duplex:
            self._state = BODY
            return
        self._state = DUPLEX
        self._driver.execute(self, plan, b"")
        if self._state == DUPLEX and self.run is None:
            self._state = HEAD

    def _take_part(self) -> bool:
        run = self.run
        if run is None or not run.hungry:
            return False
        data = self._reader.part()
        if data:
            run.received(data)
        if self._reader.ended and self.run is run:
            self._state = HEAD
            run.input_ended()
            return True
        return bool(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._gathered = 0
            self._write(data)

    def _write(self, data: bytes) -> None:
        transport = self._transport
        # A closing transport has lost its peer, and connection_lost is on its way.
        if transport is not None and not transport.is_closing():
            self._driver.counters.sent_bytes += len(data)
            transport.write(data)

    def _settle(self) -> None:
        """After anything has happened: which timeout runs, and whether reading goes on."""
        if self._state >= LINGER or self._transport is None:
            return
        options, wheel, held = self._driver.options, self._driver.wheel, self._reader.size
        self._ready = False
        waiting = self.run is not None or self.blocked or self._waits
        rest = waiting and held > options.read_ahead_size_max
        if rest is not self._resting:
            self._rest(rest)
        if waiting:
            if not self.blocked:
                self.due = 0
        elif self._ended:
            self._close()
        elif self._state == BODY:
            wheel.arm(self, options.body_timeout_ms)
        elif not held:
            self._ready = True
            wheel.arm_at(self, self._driver.idle_due)
        elif not self._begun:
            self._begun = True
            wheel.arm(self, options.header_timeout_ms)

    def _rest(self, rest: bool) -> None:
        if rest != self._resting and self._transport is not None and not self._transport.is_closing():
            self._resting = rest
            if rest:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _reject(self, error: Misuse | Unavailable) -> None:
        """Answer what cannot be read, and end: nothing that follows can be understood (RFC 9112 §11.2)."""
        if self.run is not None:
            self.abort()
            return
        self._out.append(self._driver.refuse(error))
        self._flush()
        self._close(linger=True)

    def _close(self, *, linger: bool = False) -> None:
        """Send what is written, then end. ``linger``: the peer may still be sending, see LINGER_TIMEOUT_MS."""
        transport, driver = self._transport, self._driver
        self._ready = False
        if transport is None or self._state >= LINGER:
            return
        self._stuck = transport.get_write_buffer_size() + 1
        if (linger or not self._reader.ended or self._reader.size) and not self._ended and _can_half_close(transport):
            self._state = LINGER
            self._reader.drop()
            self._rest(False)
            transport.write_eof()
            driver.wheel.arm(self, driver.options.linger_timeout_ms)
        else:
            self._state = CLOSED
            transport.close()
            # A peer that does not read would keep it open for ever.
            driver.wheel.arm(self, driver.options.stream_stall_timeout_ms)

    def expired(self) -> None:
        transport, driver = self._transport, self._driver
        if transport is None:
            return
        if self._state >= LINGER or self.blocked:
            unsent = transport.get_write_buffer_size()
            if 0 < unsent < self._stuck:
                # It is slow, but it reads.
                self._stuck = unsent
                driver.wheel.arm(self, driver.options.stream_stall_timeout_ms)
            else:
                driver.counters.timed_out += self._state < LINGER
                self.abort()
        elif self._state == BODY or self._begun:
            driver.counters.timed_out += 1
            self._reject(refusal(408, "the request did not come to its end in time"))
        elif transport.get_write_buffer_size():
            driver.counters.timed_out += 1
            self.abort()
        else:
            self._close()


def _can_half_close(transport: asyncio.Transport) -> bool:
    return not transport.is_closing() and transport.can_write_eof() and transport.get_extra_info("sslcontext") is None
