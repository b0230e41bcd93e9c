"""Carries out what handlers return.

The driver owns what all connections of a server share, and it is the one place where an exception that nobody expected
is caught: it is logged, counted and answered with 500 in the face's words, or, when the head is sent already, the
connection is cut, so that the peer does not take half an answer for a whole one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast

from townhall.core import Command
from townhall.core.queries import Reader
from townhall.face import Duplex, EndOfStream, Face, Park, Reply, Request, Stream, Submit, Verb
from townhall.hub import Done, Hub
from townhall.model.access import Actor
from townhall.model.errors import TownhallError
from townhall.model.limits import TIMER_TICK_MS
from townhall.serve.counters import Counters
from townhall.serve.heads import Heads, Plan
from townhall.serve.options import HttpOptions
from townhall.serve.peers import Peers
from townhall.serve.replies import Replies
from townhall.serve.run import Refusal
from townhall.serve.streams import DuplexRun, StreamRun
from townhall.serve.waiting import ParkRun, SubmitRun
from townhall.serve.wheel import TimerWheel

if TYPE_CHECKING:
    from townhall.serve.http1 import Connection

__all__ = ["Driver"]

_log = logging.getLogger(__name__)
_PARKS_COUNT_MAX: Final = 1_024
"""Waits that others may join: each holds its request for as long, and what is asked anew each time leaves many."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Driver:
    """Runs the verbs of one face for all connections of a server."""

    def __init__(
        self,
        face: Face,
        hub: Hub,
        options: HttpOptions,
        loop: asyncio.AbstractEventLoop,
        *,
        peers: Peers | None = None,
    ) -> None:
        self.face = face
        self.hub = hub
        self.options = options
        self.loop = loop
        self.counters = Counters()
        self.wheel = TimerWheel(tick_ms=TIMER_TICK_MS)
        self.heads = Heads(face, options)
        self.replies = Replies(options, self.counters)
        self.peers = peers or Peers(options)
        self.stopping = False
        self._parks: dict[Plan, Park] = {}
        self.idle_due = 0
        """The tick at which a connection that becomes idle now has been so for too long."""
        self.tick(0)

    def tick(self, elapsed_ms: float) -> None:
        """Time has passed; called every ``TIMER_TICK_MS``, or later when the loop is busy."""
        self.wheel.advance(elapsed_ms)
        self.idle_due = self.wheel.tick + self.wheel.ticks(self.options.idle_timeout_ms)
        self.replies.tick()

    # --- connections

    def arrived(self, peer: Connection) -> bool:
        """Count a connection in; False when it is one too many, and must be told so and closed."""
        self.welcome()
        if self.peers.arrived(peer):
            return True
        self.counters.turned_away += 1
        return False

    def welcome(self) -> None:
        """Count a connection that its server knows already."""
        self.counters.accepted += 1
        self.counters.open += 1

    def departed(self, peer: Connection) -> None:
        """Count it out."""
        self.peers.departed(peer)
        self.counters.open -= 1

    # --- requests

    def execute(self, peer: Connection, plan: Plan, body: bytes) -> None:
        """Answer a request whose body is complete (or, for a duplex route, still to come)."""
        fixed = plan.fixed
        if fixed is not None:
            self.respond(peer, plan, None, fixed)
            return
        rendered = self.replies.find(plan) if plan.key is not None else None
        if rendered is not None and (not plan.secret or self.known(plan, peer)):
            self.counters.cached += 1
            peer.finish(self.replies.wire(rendered, plan, last=peer.ends))
            return
        handler = plan.handler
        assert handler is not None, "a plan has a handler or a fixed answer"
        request = None
        verb: Verb
        try:
            actor = self.hub.authenticate(plan.secret, peer.name)
            request = Request(
                plan.method, plan.path, plan.segments, plan.query, plan.headers, body, peer.name, actor, self.hub.live
            )
            park = self._parks.get(plan)
            if park is not None and self._join(peer, plan, request, park):
                return
            verb = handler(request, self.hub.reader(actor))
        except Exception as error:
            if request is None:
                request = Request(
                    plan.method,
                    plan.path,
                    plan.segments,
                    plan.query,
                    plan.headers,
                    body,
                    peer.name,
                    Actor(),
                    self.hub.live,
                )
            verb = self.refusal(error, request)
        self.carry_out(peer, plan, request, verb)

    def _join(self, peer: Connection, plan: Plan, request: Request, park: Park) -> bool:
        """Let it wait as the one before it with the same words does, see ``face.Alike``; False when it must look."""
        alike = park.alike
        assert alike is not None
        if not alike.view.fresh or self.stopping:
            del self._parks[plan]
            return False
        ParkRun(self, peer, plan, request).join(park, alike.wait_ms(request))
        return True

    def parked(self, plan: Plan, park: Park) -> None:
        """Somebody waits; others with the same words may do likewise."""
        if park.alike is not None and plan.key is not None:
            if len(self._parks) >= _PARKS_COUNT_MAX:
                self._parks.clear()
            self._parks[plan] = park

    def carry_out(self, peer: Connection, plan: Plan, request: Request, verb: Verb) -> None:
        """Do what a handler or a render returned."""
        if isinstance(verb, Reply):
            self.respond(peer, plan, request, verb)
        elif isinstance(verb, Submit):
            SubmitRun(self, peer, plan, request).start(verb)
        elif isinstance(verb, Park):
            ParkRun(self, peer, plan, request).start(verb)
        elif isinstance(verb, Stream):
            StreamRun(self, peer, plan, request, verb).start()
        elif isinstance(verb, Duplex) and plan.duplex:
            DuplexRun(self, peer, plan, request, verb).start()
        else:
            error = TypeError(f"the handler of {plan.path} returned {type(verb).__name__}")
            self.respond(peer, plan, request, self.refusal(error, request))

    def respond(self, peer: Connection, plan: Plan, request: Request | None, reply: Reply) -> None:
        """Send a complete answer."""
        try:
            data = self.replies.answer(reply, plan, last=peer.ends)
        except Exception as error:
            data = self.replies.answer(self.refusal(error, request), plan, last=peer.ends)
        peer.finish(data)

    def refuse(self, error: TownhallError) -> bytes:
        """The answer to something that could not even be read; the connection ends after it."""
        self.counters.malformed += 1
        rendered = self.replies.render(self.refusal(error, None), _UNREAD)
        return self.replies.wire(rendered, _UNREAD, last=True)

    # --- what can go wrong

    def guard(self, request: Request, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | Refusal:
        """Call something of a face; an exception becomes a ``Refusal``. ``EndOfStream`` passes."""
        try:
            return function(*args, **kwargs)
        except EndOfStream:
            raise
        except Exception as error:
            return self.refusal(error, request)

    def refusal(self, error: Exception, request: Request | None) -> Refusal:
        """An exception in the face's words. Whatever is no ``TownhallError`` is our bug: logged and counted."""
        if not isinstance(error, TownhallError):
            self.counters.errors += 1
            what = f"{request.method} {request.path}" if request is not None else "a request"
            _log.error("%s raised %s", what, type(error).__name__, exc_info=error)
            error = TownhallError("an internal error", advice="it is logged; report it")
        try:
            reply = self.face.error(error, request)
        except Exception:
            self.counters.errors += 1
            _log.exception("the face cannot render %s", error.code)
            return Refusal(500, b"internal error\n", (), b"text/plain")
        # HTTP has statuses of its own for what goes wrong before a face sees the request.
        status = error.fields.get("http_status", reply.status)
        return Refusal(cast("int", status), reply.body, reply.headers, reply.content_type)

    # --- the hub

    def reader(self, plan: Plan, peer: Connection) -> Reader:
        """The present state for a plan's credentials. Raises Unauthenticated when they are not valid any more."""
        return self.hub.reader(self.hub.authenticate(plan.secret, peer.name))

    def known(self, plan: Plan, peer: Connection) -> bool:
        """Whether the credentials still are; a token ends by time, which no view tells."""
        try:
            self.hub.authenticate(plan.secret, peer.name)
        except TownhallError:
            return False
        return True

    def submit(self, command: Command, actor: Actor, done: Done) -> None:
        """Hand a command to the hub; ``done`` is called later, whatever happens."""
        try:
            self.hub.submit(command, actor, done)
        except TownhallError as error:
            self.loop.call_soon(done, error)


def _unread() -> Plan:
    plan = Plan()
    plan.method, plan.old, plan.gzip, plan.key, plan.rendered = "GET", False, False, None, None
    return plan


_UNREAD = _unread()
