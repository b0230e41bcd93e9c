"""Carries out what the methods of a gRPC face return: the driver of calls, twin of ``driver`` for HTTP requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from townhall.core import Command
from townhall.core.queries import Reader
from townhall.face import Duplex, EndOfStream, Park, Reply, Stream, Submit, Verb
from townhall.face.grpc import Call, Code, GrpcFace, Kind
from townhall.hub import Done, Hub
from townhall.model.access import Actor
from townhall.model.errors import OverLimit, TownhallError
from townhall.model.limits import GZIP_SIZE_MIN, HTTP2_PING_AFTER_MS, HTTP2_WRITE_BUFFER_SIZE_MAX, TIMER_TICK_MS
from townhall.serve.call_streams import DuplexCall, StreamCall
from townhall.serve.call_waiting import ParkCall, SubmitCall
from townhall.serve.counters import GrpcCounters
from townhall.serve.grpc_plans import CallPlan, CallPlans
from townhall.serve.options import HttpOptions
from townhall.serve.peers import Peers
from townhall.serve.run import Refusal
from townhall.serve.wheel import TimerWheel
from townhall.wire.grpc import (
    GZIP_HEAD,
    OK_HEAD,
    OK_TRAILERS,
    GrpcFault,
    compress,
    prefix_of,
    refusal_block,
    timeout_ms,
    trailers,
)
from townhall.wire.http2 import Http2Limits
from townhall.wire.http2.heads import Head
from townhall.wire.http2.memory import Memory

if TYPE_CHECKING:
    from townhall.serve.http2 import Http2Peer
    from townhall.wire.http2.outbox import Stream as Exchange

__all__ = ["CallDriver", "GrpcOptions"]

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class GrpcOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What may be set about a gRPC listener beside the limits of its connections (``HttpOptions``)."""

    http2: Http2Limits = Http2Limits()
    write_buffer_size_max: int = HTTP2_WRITE_BUFFER_SIZE_MAX


class CallDriver:
    """Runs the verbs of one gRPC face for all connections of a server."""

    def __init__(
        self,
        face: GrpcFace,
        hub: Hub,
        options: GrpcOptions,
        loop: asyncio.AbstractEventLoop,
        *,
        http: HttpOptions,
        peers: Peers,
    ) -> None:
        self.face = face
        self.hub = hub
        self.options = options
        self.http = http
        self.peers = peers
        self.loop = loop
        self.counters = GrpcCounters()
        self.wheel = TimerWheel(tick_ms=TIMER_TICK_MS)
        self.plans = CallPlans(face, options.http2)
        self.memory = Memory(options.http2, varying=b"grpc-timeout")
        self.stopping = False
        self._unflushed: list[Http2Peer] = []
        self._certified_space: str = getattr(face, "certified_space", "")
        """See ``face.grpc.Certified``."""
        self.ping_due = 0
        """The tick at which a connection that falls silent now has been so for long."""
        self.tick(0)

    def tick(self, elapsed_ms: float) -> None:
        """Time has passed; called every ``TIMER_TICK_MS``, or later when the loop is busy."""
        self.wheel.advance(elapsed_ms)
        self.ping_due = self.wheel.tick + self.wheel.ticks(HTTP2_PING_AFTER_MS)

    # --- calls

    def begin(self, peer: Http2Peer, exchange: Exchange, head: Head) -> CallPlan | None:
        """A head has come. None when it has been answered already."""
        plan = head.plan
        if not isinstance(plan, CallPlan):
            try:
                plan = head.plan = self.plans.plan(head)
                head.whole = plan.usual and not head.fault and head.length < 0
            except Exception as error:
                self.refuse(peer, exchange, self.refusal(error, None))
                return None
        if plan.fixed is not None:
            self.counters.answered(Code.UNIMPLEMENTED)
            peer.outbox.begin(exchange, plan.fixed)
            return None
        if peer.outbox.unsent > self.options.http2.unsent_size_max:
            over = OverLimit("too many answers wait to be read on this connection", advice="read them first")
            self.refuse(peer, exchange, self.refusal(over, None))
            return None
        return plan

    def execute(self, peer: Http2Peer, exchange: Exchange, plan: CallPlan, message: bytes) -> None:
        """Answer a call whose message is complete (or, for a duplex method, still to come)."""
        call = None
        verb: Verb
        try:
            reader = self.reader(plan, peer)
            call = Call(plan.path, plan.metadata, message, peer.name, reader.actor, self.hub.live, peer.certificate)
            verb = plan.handler(call, reader)
        except Exception as error:
            if call is None:
                call = Call(plan.path, plan.metadata, message, peer.name, Actor(), self.hub.live, peer.certificate)
            verb = self.refusal(error, call)
        if type(verb) is Reply:
            self.respond(peer, exchange, plan, verb)
        elif type(verb) is Submit and plan.usual:
            SubmitCall(self, peer, exchange, plan, call).start(verb)
        else:
            self.carry_out(peer, exchange, plan, call, verb)

    def carry_out(self, peer: Http2Peer, exchange: Exchange, plan: CallPlan, call: Call, verb: Verb) -> None:
        """Do what a handler or a render returned."""
        if isinstance(verb, Reply):
            self.respond(peer, exchange, plan, verb)
        elif plan.kind == Kind.DUPLEX and not isinstance(verb, Stream | Duplex):
            error = TypeError(f"{plan.path} takes many messages, and its handler returned {type(verb).__name__}")
            self.refuse(peer, exchange, self.refusal(error, call))
        elif isinstance(verb, Submit):
            SubmitCall(self, peer, exchange, plan, call).start(verb)
        elif isinstance(verb, Park):
            ParkCall(self, peer, exchange, plan, call).start(verb)
        elif isinstance(verb, Stream) and plan.kind != Kind.UNARY:
            StreamCall(self, peer, exchange, plan, call, verb).start()
        elif isinstance(verb, Duplex) and plan.kind == Kind.DUPLEX:
            DuplexCall(self, peer, exchange, plan, call, verb).start()
        else:
            error = TypeError(f"the handler of {plan.path} returned {type(verb).__name__}")
            self.refuse(peer, exchange, self.refusal(error, call))

    def respond(self, peer: Http2Peer, exchange: Exchange, plan: CallPlan, reply: Reply) -> None:
        """Send a complete answer."""
        if reply.status:
            self.refuse(peer, exchange, reply)
            return
        if exchange.finished:
            self.counters.dropped += 1
            return
        head, data, end = OK_HEAD, reply.body, OK_TRAILERS
        try:
            if plan.gzip and len(data) >= GZIP_SIZE_MIN:
                head, data = GZIP_HEAD, compress(data)
            prefix = prefix_of(head is GZIP_HEAD, len(data))
            if reply.headers:
                end = trailers(0, "", reply.headers)
            peer.outbox.answer(exchange, head, prefix, data, end)
        except Exception as error:
            self.refuse(peer, exchange, self.refusal(error, None))
            return
        self.counters.succeeded += 1
        peer.say()

    def flush_soon(self, peer: Http2Peer) -> None:
        """``peer.flush()`` in the next turn: one call of the loop for all that the answers of a group are for."""
        if not self._unflushed:
            self.loop.call_soon(self._flush)
        self._unflushed.append(peer)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for peer in unflushed:
            try:
                peer.flush()
            except Exception:
                # One connection's trouble is not the others'.
                self.counters.errors += 1
                _log.exception("writing to %s failed", peer.name)
                peer.abort()

    def refuse(self, peer: Http2Peer, exchange: Exchange, reply: Reply) -> None:
        """End a call with an error; its head may be sent already."""
        if exchange.finished:
            self.counters.dropped += 1
            return
        self.counters.answered(reply.status)
        text = reply.body.decode("utf-8", "replace")
        if exchange.started:
            peer.outbox.end(exchange, trailers(reply.status, text, reply.headers))
        else:
            peer.outbox.begin(exchange, refusal_block(reply.status, text, reply.headers))
        peer.say()

    # --- what can go wrong

    def guard(self, call: Call, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | Refusal:
        """Call something of a face; an exception becomes a ``Refusal``. ``EndOfStream`` passes."""
        try:
            return function(*args, **kwargs)
        except EndOfStream:
            raise
        except Exception as error:
            return self.refusal(error, call)

    def refusal(self, error: Exception, call: Call | None) -> Refusal:
        """An exception in the face's words. Whatever is no ``TownhallError`` is our bug: logged and counted."""
        if isinstance(error, GrpcFault):
            # What gRPC itself has a word for, before a face sees it.
            return Refusal(error.status, error.message.encode())
        if not isinstance(error, TownhallError):
            self.counters.errors += 1
            _log.error(
                "%s raised %s", call.path if call is not None else "a call", type(error).__name__, exc_info=error
            )
            error = TownhallError("an internal error", advice="it is logged; report it")
        try:
            reply = self.face.error(error, call)
        except Exception:
            self.counters.errors += 1
            _log.exception("the face cannot render %s", error.code)
            return Refusal(Code.INTERNAL, b"internal error")
        return Refusal(reply.status or Code.UNKNOWN, reply.body, reply.headers)

    # --- the hub

    def reader(self, plan: CallPlan, peer: Http2Peer) -> Reader:
        """The present state for a plan's credentials. Raises Unauthenticated when they are not valid any more.

        While one turn reads what has come from a peer no commit evolves, so who asks is found out once for all of it.
        """
        if peer.reader is not None and peer.secret == plan.secret:
            return peer.reader
        hub = self.hub
        if peer.certificate and self._certified_space:
            actor = hub.authenticate(plan.secret, peer.name, (self._certified_space, peer.certificate))
        else:
            actor = hub.authenticate(plan.secret, peer.name)
        reader = hub.reader(actor)
        if peer.reading:
            peer.secret, peer.reader = plan.secret, reader
        return reader

    def submit(self, command: Command, actor: Actor, done: Done) -> None:
        """Hand a command to the hub; ``done`` is called later, whatever happens."""
        try:
            self.hub.submit(command, actor, done)
        except TownhallError as error:
            self.loop.call_soon(done, error)

    def due(self, varying: bytes) -> int:
        """The tick at which a call's ``grpc-timeout`` has passed; 0 for never. Raises ``GrpcFault``."""
        if not varying:
            return 0
        return self.wheel.tick + self.wheel.ticks(int(timeout_ms(varying)))
