"""Stream and Duplex: answers that go on.

A stream is pulled, never pushed: at its start and after a wake-up, and only while the kernel has taken everything sent
before. So a peer that reads slowly gets one coalesced step when it is ready, and one that never reads holds one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from townhall.core.queries import Reader
from townhall.face import Duplex, EndOfStream, Pulled, Reply, Request, Step, Stream, Submit
from townhall.model.errors import TownhallError, Unauthenticated
from townhall.model.limits import DUPLEX_PENDING_MAX
from townhall.serve.answers import Answers, Place
from townhall.serve.run import Refusal, Run
from townhall.serve.waiting import give_up
from townhall.wire.http1 import LAST_CHUNK, chunk

if TYPE_CHECKING:
    from townhall.hub import Subscription, Ticket
    from townhall.serve.driver import Driver
    from townhall.serve.heads import Plan
    from townhall.serve.http1 import Connection

__all__ = ["DuplexRun", "StreamRun"]


class StreamRun(Run):
    """An endless answer."""

    __slots__ = ("_behind", "_stream", "_subscription", "_ticket", "_unsent", "_watched")

    def __init__(self, driver: Driver, peer: Connection, plan: Plan, request: Request, stream: Stream) -> None:
        super().__init__(driver, peer, plan, request)
        self._stream = stream
        self._ticket: Ticket | None = None
        self._subscription: Subscription | None = None
        self._behind = False
        """Woken while the kernel still held bytes."""
        self._watched = 0
        """Interests that the ticket covers; a session's grow while it runs."""
        self._unsent: dict[tuple[str, str, str], int] = {}
        """Revisions that the written bytes bring the peer to, once the kernel has taken them."""

    def start(self) -> None:
        """Pull first, so that an error can still be answered as one; then the head and what was pulled, together."""
        if self.plan.old:
            # HTTP/1.0 has no chunks: the end of the connection is the end of the answer.
            self.peer.close_after()
        try:
            pulled = self.driver.guard(self.request, self._begin)
        except EndOfStream as end:
            self.peer.finish(self._head() + (b"" if self.plan.method == "HEAD" else self._tail(end.data)))
            return
        if isinstance(pulled, Refusal):
            self._stop()
            self.driver.respond(self.peer, self.plan, self.request, pulled)
        elif self.plan.method == "HEAD":
            self._stop()
            self.peer.finish(self._head())
        else:
            self.peer.open(self, self._head() + self._frame(pulled.data))
            self._took(pulled)

    def _begin(self) -> Pulled:
        stream, driver = self._stream, self.driver
        pulled = stream.pull(self.reader()) or Pulled(b"")
        driver.peers.take_place(self.peer)
        driver.counters.streams += 1
        try:
            self._watch()
        except TownhallError:
            driver.peers.leave_place(self.peer)
            driver.counters.streams -= 1
            raise
        if stream.subscriber is not None:
            self._subscription = driver.hub.subscribe(stream.subscriber, stream.services)
        self._rest()
        return pulled

    def _watch(self) -> None:
        interests = self._stream.interests
        self._ticket = self.driver.hub.watch(interests, self._wake)
        self._watched = len(interests)

    def _wake(self) -> None:
        if self._ticket is None:
            return
        if self.peer.blocked:
            self._behind = True
        else:
            self._advance()

    def writable(self) -> None:
        self._confirm()
        if self._behind:
            self._behind = False
            self._advance()

    def _advance(self) -> None:
        try:
            pulled = self.driver.guard(self.request, self._pull)
        except EndOfStream as end:
            self.end(end.data)
            return
        if isinstance(pulled, Refusal):
            self.peer.abort()
            return
        if pulled is not None:
            self.peer.send(self._frame(pulled.data))
            self._took(pulled)
        if self._ticket is not None:
            self._ticket.arm()

    def _pull(self) -> Pulled | None:
        return self._stream.pull(self._present())

    def _present(self) -> Reader:
        """The present state; a stream whose credentials have expired ends properly, since its peer did nothing wrong."""
        try:
            return self.reader()
        except Unauthenticated as error:
            raise EndOfStream from error

    def _took(self, pulled: Pulled) -> None:
        self._unsent.update(pulled.revisions)
        self._confirm()
        self._rearm()
        if pulled.more:
            # In another turn, so that a long answer leaves room for others.
            self.driver.loop.call_soon(self._wake)

    def _confirm(self) -> None:
        if self._unsent and not self.peer.blocked:
            if self._subscription is not None:
                self._subscription.sent(self._unsent)
            self._unsent = {}

    def _rearm(self) -> None:
        """Something was sent: the next heartbeat is a whole interval away. Ticks come whatever is sent."""
        if self._stream.tick is None:
            self._rest()

    def _rest(self) -> None:
        if self._stream.heartbeat_ms and self._ticket is not None:
            self.driver.wheel.arm(self, self._stream.heartbeat_ms)

    def expired(self) -> None:
        if self._stream.tick is not None:
            self._stream.tick()
            self._wake()
        elif not self.peer.blocked:
            self.peer.send(self._frame(self._stream.heartbeat))
        self._rest()

    def leave(self) -> None:
        self.end(self._stream.leaving)

    def lost(self) -> None:
        self._stop()

    def end(self, data: bytes) -> None:
        """Send this as the last thing and end the answer properly."""
        self._stop()
        self.peer.finish(self._tail(data))

    def _stop(self) -> None:
        if self._ticket is None:
            return
        self._ticket.cancel()
        self._ticket = None
        if self._subscription is not None:
            self._subscription.close()
        self.driver.wheel.forget(self)
        self.driver.peers.leave_place(self.peer)
        self.driver.counters.streams -= 1

    def _head(self) -> bytes:
        stream = self._stream
        return self.driver.replies.stream_head(
            stream.content_type, stream.headers, self.plan, last=self.peer.closes(self.plan)
        )

    def _frame(self, data: bytes) -> bytes:
        return data if self.plan.old else chunk(data)

    def _tail(self, data: bytes) -> bytes:
        return data if self.plan.old else chunk(data) + LAST_CHUNK


class DuplexRun(StreamRun):
    """A stream whose request goes on beside it. What the input causes is answered in the order of the input."""

    __slots__ = ("_answers", "_duplex", "_finishing", "_told")

    def __init__(self, driver: Driver, peer: Connection, plan: Plan, request: Request, duplex: Duplex) -> None:
        super().__init__(driver, peer, plan, request, duplex.stream)
        self._duplex = duplex
        self._answers = Answers(driver, request)
        self._told = False
        """``closed`` has been called."""
        self._finishing = False

    @property
    def hungry(self) -> bool:
        """Input is left unread while too many answers wait."""
        return len(self._answers) < DUPLEX_PENDING_MAX and not self._finishing

    def start(self) -> None:
        super().start()
        if self.peer.run is not self:
            self._closed(clean=True)

    def received(self, data: bytes) -> None:
        try:
            steps = self.driver.guard(self.request, self._receive, data)
        except EndOfStream as end:
            self.end(end.data)
            return
        if isinstance(steps, Refusal):
            self.peer.abort()
            return
        for step in steps:
            if isinstance(step, Submit):
                self._answers.submit(step, waited_for=lambda: self.peer.run is self, settled=self._settled)
            elif isinstance(step, bytes):
                self._answers.add(step)
            else:
                error = TypeError(f"{type(step).__name__} is for gRPC; over HTTP append to the stream's interests")
                self.driver.refusal(error, self.request)
                self.peer.abort()
                return
        self._drain()

    def input_ended(self) -> None:
        if self._duplex.ended is not None:
            try:
                failure = self.driver.guard(self.request, self._duplex.ended)
            except EndOfStream as end:
                self.end(end.data)
                return
            if failure is not None:
                self.peer.abort()
                return
        if not self._duplex.outlives_input:
            self.end(b"")

    def end(self, data: bytes) -> None:
        self._closed(clean=True)
        self._answers.add(data)
        self._finishing = True
        self._drain()

    def lost(self) -> None:
        super().lost()
        self._closed(clean=False)

    def leave(self) -> None:
        # It is we who leave: what the face would do about a peer that has gone must not be done.
        self._told = True
        self._finishing = True
        super().end(self._stream.leaving)

    def _receive(self, data: bytes) -> Sequence[Step]:
        return self._duplex.receive(self._present(), data)

    def _settled(self, place: Place, verb: Reply) -> None:
        if isinstance(verb, Refusal):
            self.peer.abort()
            return
        place.data = verb.body
        full = not self.hungry
        self._drain()
        if full and self.hungry:
            self.peer.proceed()

    def _drain(self) -> None:
        """Send what is ready, up to the first answer that is not."""
        ready = [self._frame(data) for data in self._answers.ready()]
        if self._finishing and not self._answers:
            self._stop()
            self.peer.finish(b"".join(ready) + self._tail(b""))
            return
        if ready:
            self.peer.send(b"".join(ready))
            self._rearm()
        if not self._answers and len(self._stream.interests) != self._watched:
            self._watch_more()

    def _watch_more(self) -> None:
        """What came in added to the interests: watch them too, and look at what has happened to them so far."""
        before = self._ticket
        failure = self.driver.guard(self.request, self._watch)
        if before is None or failure is not None:
            self.peer.abort()
            return
        before.cancel()
        self._wake()

    def _closed(self, *, clean: bool) -> None:
        if self._told:
            return
        self._told = True
        give_up(self.driver, self.request, self._duplex.closed, clean)
