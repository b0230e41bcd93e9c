"""Stream and Duplex over gRPC: answers that go on.

A stream is pulled, never pushed: at its start and after a wake-up, and only while the peer's windows and the socket have
taken everything sent before. So a peer that reads slowly gets one coalesced step when it is ready, and one that never
reads holds one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from townhall.core.queries import Reader
from townhall.face import Duplex, EndOfStream, Follow, Pulled, Reply, Step, Stream, Submit, Unfollow
from townhall.face.grpc import Code
from townhall.model.errors import Stopping
from townhall.model.limits import DUPLEX_PENDING_MAX
from townhall.serve.answers import Answers, Place
from townhall.serve.call_run import CallRun
from townhall.serve.follows import Follows
from townhall.serve.run import Refusal
from townhall.serve.waiting import give_up
from townhall.wire.grpc import OK_HEAD, OK_TRAILERS, PREFIX_SIZE, Deframer
from townhall.wire.http2.frames import block

if TYPE_CHECKING:
    from townhall.face.grpc import Call
    from townhall.hub import Subscription, Ticket
    from townhall.serve.calls import CallDriver
    from townhall.serve.grpc_plans import CallPlan
    from townhall.serve.http2 import Http2Peer
    from townhall.wire.http2.outbox import Stream as Exchange

__all__ = ["DuplexCall", "StreamCall"]


class StreamCall(CallRun):
    """An endless answer."""

    __slots__ = ("_behind", "_open", "_scheduled", "_stream", "_subscription", "_ticket", "_unsent")

    def __init__(
        self, driver: CallDriver, peer: Http2Peer, exchange: Exchange, plan: CallPlan, call: Call, stream: Stream
    ) -> None:
        super().__init__(driver, peer, exchange, plan, call)
        self._stream = stream
        self._open = False
        """Counted, watching, and not at its end."""
        self._ticket: Ticket | None = None
        self._subscription: Subscription | None = None
        self._behind = False
        """Woken while the peer still had bytes to take."""
        self._scheduled = False
        """A pull comes in the next turn of the loop."""
        self._unsent: dict[tuple[str, str, str], int] = {}
        """Revisions that the written bytes bring the peer to, once they are taken."""

    def start(self) -> None:
        """Pull first, so that an error can still be answered as one; then the head and what was pulled."""
        try:
            pulled = self.driver.guard(self.call, self._begin)
        except EndOfStream as end:
            self._head()
            self._finish(end.data)
            return
        if isinstance(pulled, Refusal):
            self._stop()
            self.driver.refuse(self.peer, self.exchange, pulled)
            return
        self.take()
        self._head()
        self._took(pulled)
        if self.driver.stopping:
            self.leave()

    def _begin(self) -> Pulled:
        stream, driver = self._stream, self.driver
        pulled = stream.pull(self.reader()) or Pulled(b"")
        driver.peers.take_place(self.peer)
        driver.counters.streams += 1
        self._open = True
        self._rest()
        if stream.interests:
            self._ticket = driver.hub.watch(stream.interests, self._wake)
        if stream.subscriber is not None:
            self._subscription = driver.hub.subscribe(stream.subscriber, stream.services)
        return pulled

    # --- pulling

    @property
    def _clogged(self) -> bool:
        return self.exchange.pending is not None or self.peer.blocked

    def _wake(self) -> None:
        """A cursor's turn, one of a slice: what there is is told in it."""
        if self._scheduled or not self._open:
            return
        if self._clogged:
            self._fall_behind()
        else:
            self._behind = False
            self._advance()

    def schedule(self) -> None:
        """Pull once in the next turn, however often this is called until then."""
        if not self._scheduled and self._open:
            self._scheduled = True
            self.driver.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if not self._open:
            return
        if self._clogged:
            self._fall_behind()
        else:
            self._behind = False
            self._advance()

    def _fall_behind(self) -> None:
        self._behind = True
        if self.exchange.pending is None:
            self.peer.behind[self] = None

    def writable(self) -> None:
        self._confirm()
        if self._behind:
            self.schedule()

    def _advance(self) -> None:
        try:
            pulled = self._stream.pull(self._present())
        except EndOfStream as end:
            self._end(end.data)
            return
        except Exception as error:
            self._break(self.driver.refusal(error, self.call))
            return
        if pulled is not None:
            self._took(pulled)
        self._arm()

    def _arm(self) -> None:
        if self._ticket is not None:
            self._ticket.arm()

    def _present(self) -> Reader:
        """The present state; a stream whose credentials have expired ends with what its face says to that."""
        return self.reader()

    def _took(self, pulled: Pulled) -> None:
        if pulled.data:
            self.peer.outbox.send(self.exchange, pulled.data)
            self.peer.say()
        if pulled.revisions or self._unsent:
            self._unsent.update(pulled.revisions)
            self._confirm()
        self._rearm()
        if pulled.more:
            if self._clogged:
                self._fall_behind()
            else:
                self.schedule()

    def _confirm(self) -> None:
        if not self._unsent:
            return
        if self._clogged:
            if self.exchange.pending is None:
                self.peer.behind[self] = None
            return
        if self._subscription is not None:
            self._subscription.sent(self._unsent)
        self._unsent = {}

    # --- time

    def _rearm(self) -> None:
        """Something was sent: the next heartbeat is a whole interval away. Ticks come whatever is sent."""
        if self._stream.tick is None:
            self._rest()

    def _rest(self) -> None:
        if self._stream.heartbeat_ms and self._open:
            self.wait(self._stream.heartbeat_ms)

    def waited(self) -> None:
        if self._stream.tick is not None:
            self._stream.tick()
            self.schedule()
        elif not self._clogged:
            self.peer.outbox.send(self.exchange, self._stream.heartbeat)
            self.peer.say()
        self._rest()

    # --- ends

    def leave(self) -> None:
        if self._open and self._stream.leaving:
            self.peer.outbox.send(self.exchange, self._stream.leaving)
        stopping = Stopping("the server is shutting down", advice="try another one")
        self._break(self.driver.refusal(stopping, self.call))

    def lost(self) -> None:
        self._stop()

    def _end(self, data: bytes) -> None:
        """Send this as the last thing and end the call with OK."""
        self._stop()
        self._finish(data)

    def _break(self, refusal: Reply) -> None:
        """End the call with an error, after what was sent already."""
        self.lost()
        self.driver.refuse(self.peer, self.exchange, refusal)

    def _head(self) -> None:
        head = OK_HEAD
        if self._stream.headers:
            head = block(
                [(b":status", b"200"), (b"content-type", b"application/grpc"), *self._stream.headers], ends=False
            )
        self.peer.outbox.begin(self.exchange, head)
        self.peer.say()

    def _finish(self, data: bytes) -> None:
        self.exchange.owner = None
        if self.exchange.finished:
            return
        self.peer.outbox.send(self.exchange, data)
        self.peer.outbox.end(self.exchange, OK_TRAILERS)
        self.driver.counters.answered(Code.OK)
        self.peer.say()

    def _stop(self) -> None:
        if not self._open:
            return
        self._open = False
        self.exchange.owner = None
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None
        if self._subscription is not None:
            self._subscription.close()
        self.peer.behind.pop(self, None)
        self.driver.wheel.forget(self)
        self.driver.peers.leave_place(self.peer)
        self.driver.counters.streams -= 1


class DuplexCall(StreamCall):
    """A call whose request goes on beside it. What the input causes is answered in the order of the input."""

    __slots__ = ("_answers", "_deframer", "_duplex", "_finishing", "_follows", "_pull_due", "_told")

    def __init__(
        self, driver: CallDriver, peer: Http2Peer, exchange: Exchange, plan: CallPlan, call: Call, duplex: Duplex
    ) -> None:
        super().__init__(driver, peer, exchange, plan, call, duplex.stream)
        self._duplex = duplex
        self._deframer = Deframer(plan.size_max, gzip=plan.gzip)
        self._answers = Answers(driver, call)
        self._follows = Follows(driver.hub, self._heard)
        self._pull_due = False
        """Something was followed, and what has happened to it so far is to be looked at."""
        self._told = False
        """``closed`` has been called."""
        self._finishing = False

    # --- input

    def received(self, data: bytes, ended: bool) -> None:
        if not (ended or self._answers.places) and self._open and self._deframer.is_one(data):
            # The shortest path: one message, and nothing waits before it.
            self._message(data[PREFIX_SIZE:])
        else:
            self.peer.held += len(data)
            self._deframer.feed(data)
            self._take_messages()
        if self._duplex.again is not None:
            quiet = self._open and self._deframer.empty and not (ended or self._answers.places or self._pull_due)
            # Whole frames may be answered beside this, until one is not.
            self.exchange.again = self.plan if quiet and not self._stream.heartbeat_ms else None

    def answering(self) -> Callable[[bytes], bytes | None] | None:
        if self._duplex.again is None:
            return None
        try:
            return self._duplex.again(self.reader())
        except Exception:
            return None  # What is wrong is said when it is asked again, message by message.

    def _take_messages(self) -> None:
        """As many as may be taken now; the rest waits, and with it the peer."""
        deframer, before = self._deframer, self._deframer.size
        while self._open and not self._finishing:
            if len(self._answers) >= DUPLEX_PENDING_MAX:
                self.exchange.paused = True
                break
            message = self.driver.guard(self.call, deframer.next)
            if message is None:
                if self.exchange.ended:
                    self._input_ended()
                break
            if isinstance(message, Refusal):
                self._break(message)
                break
            self._message(message)
        self.peer.held -= before - deframer.size

    def _message(self, message: bytes) -> None:
        peer = self.peer
        try:
            steps = self._duplex.receive(self.driver.reader(self.plan, peer), message)
            if len(steps) == 1 and type(steps[0]) is bytes and not self._answers.places:
                # Answered at once, and in its turn.
                peer.outbox.send(self.exchange, steps[0])
                if not peer.reading:
                    peer.say()
                if self._stream.heartbeat_ms:
                    self._rearm()
                return
            self._steps(steps)
        except EndOfStream as end:
            self._end(end.data)
        except Exception as error:
            self._break(self.driver.refusal(error, self.call))
        else:
            self._drain()

    def _steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, bytes):
                self._answers.add(step)
            elif isinstance(step, Submit):
                self._answers.submit(step, waited_for=lambda: self._open, settled=self._settled)
            elif isinstance(step, Follow):
                self._follows.add(step)
                self._pull_due = True
            else:
                assert isinstance(step, Unfollow)
                self._follows.remove(step.name)

    def _input_ended(self) -> None:
        if self._deframer.size:
            self._break(Refusal(Code.INTERNAL, b"the request ended within a message"))
        elif not self._duplex.outlives_input:
            self._end(b"")

    # --- answers

    def _settled(self, place: Place, verb: Reply) -> None:
        if isinstance(verb, Refusal) or verb.status:
            self._break(verb)
            return
        place.data = verb.body
        self._drain()
        if self.exchange.paused and len(self._answers) < DUPLEX_PENDING_MAX:
            self.peer.resume(self.exchange)
            self._take_messages()

    def _drain(self) -> None:
        """Send what is ready, up to the first answer that is not."""
        ready = self._answers.ready()
        if ready and self._open:
            self.peer.outbox.send(self.exchange, b"".join(ready))
            self.peer.say()
            self._rearm()
        if self._answers:
            return
        if self._finishing:
            self._stop()
            self._finish(b"")
        elif self._pull_due:
            self._pull_due = False
            self.schedule()

    def _heard(self) -> None:
        """Something it follows has changed. Where it follows much, more of that may come in the same turn."""
        if len(self._follows) == 1:
            self._wake()
        else:
            self.schedule()

    def _arm(self) -> None:
        if self._ticket is not None:
            self._ticket.arm()
        self._follows.arm()

    # --- ends

    def _end(self, data: bytes) -> None:
        self._closed(clean=True)
        self._answers.add(data)
        self._finishing = True
        self._drain()

    def leave(self) -> None:
        # It is we who leave: what the face would do about a peer that has gone must not be done.
        self._told = True
        super().leave()

    def lost(self) -> None:
        super().lost()
        self._closed(clean=False)

    def _stop(self) -> None:
        if self._open:
            self.peer.held -= self._deframer.size
            self._follows.clear()
            self.exchange.again = None
        super()._stop()

    def _closed(self, *, clean: bool) -> None:
        if self._told:
            return
        self._told = True
        give_up(self.driver, self.call, self._duplex.closed, clean)
