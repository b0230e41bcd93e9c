"""Submit and Park over gRPC: one answer that comes later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from townhall.core import Outcome
from townhall.core.queries import Reader
from townhall.face import Park, Reply, Submit, Verb
from townhall.model.errors import TownhallError
from townhall.serve.call_run import CallRun
from townhall.serve.waiting import Commands, give_up

if TYPE_CHECKING:
    from townhall.face.grpc import Call
    from townhall.hub import Ticket
    from townhall.serve.calls import CallDriver
    from townhall.serve.grpc_plans import CallPlan
    from townhall.serve.http2 import Http2Peer
    from townhall.wire.http2.outbox import Stream as Exchange

__all__ = ["ParkCall", "SubmitCall"]

Render = Callable[[Reader, Sequence[Outcome | TownhallError]], Verb]


class SubmitCall(CallRun):
    """Waits for the writer, then renders. The commands take effect whether or not the peer still waits."""

    __slots__ = ("_lost", "_submit")

    patient = True

    _submit: Submit | None

    def start(self, submit: Submit) -> None:
        """Submit; without commands, render at once."""
        self._submit = submit
        self._lost = False
        self.take()
        commands = submit.commands
        if len(commands) == 1:
            self.driver.submit(commands[0], self.call.actor, self._decided)
        elif commands:
            Commands(self.driver, submit, self.call.actor, self._rendered)
        else:
            self._rendered(())

    def _decided(self, result: Outcome | TownhallError) -> None:
        self._rendered((result,))

    def _rendered(self, results: Sequence[Outcome | TownhallError]) -> None:
        submit, self._submit = self._submit, None
        assert submit is not None, "the outcomes came twice"
        if self._lost:
            self.driver.counters.dropped += 1
            if submit.abandoned is not None:
                give_up(self.driver, self.call, submit.abandoned, results)
            return
        self.exchange.owner = None
        if self.slot:
            self.driver.wheel.forget(self)
        driver, verb = self.driver, None
        try:
            # Who asked was settled before the commands were accepted; what became of them is told even if the token
            # expired since.
            verb = submit.render(driver.hub.reader(self.call.actor), results)
        except Exception as error:
            verb = driver.refusal(error, self.call)
        if type(verb) is Reply:
            driver.respond(self.peer, self.exchange, self.plan, verb)
        else:
            driver.carry_out(self.peer, self.exchange, self.plan, self.call, verb)

    def lost(self) -> None:
        self._lost = True
        self.driver.wheel.forget(self)


class ParkCall(CallRun):
    """Attempts now, after each wake-up and at the deadline."""

    __slots__ = ("_park", "_ticket")

    def __init__(self, driver: CallDriver, peer: Http2Peer, exchange: Exchange, plan: CallPlan, call: Call) -> None:
        super().__init__(driver, peer, exchange, plan, call)
        self._park: Park | None = None
        self._ticket: Ticket | None = None

    def start(self, park: Park) -> None:
        """Answer, or wait."""
        verb = self.driver.guard(self.call, self._begin, park)
        if verb is not None:
            self._answer(verb)
        elif self.driver.stopping:
            self.leave()

    def _begin(self, park: Park) -> Reply | Submit | None:
        expired = park.wait_ms <= 0
        verb = park.attempt(self.reader(), expired)
        if verb is not None:
            return verb
        assert not expired, "attempt must answer when it has expired"
        try:
            self.driver.peers.take_place(self.peer)
            try:
                self._ticket = self.driver.hub.watch(park.interests, self._wake)
            except TownhallError:
                self.driver.peers.leave_place(self.peer)
                raise
        except TownhallError:
            if park.abandoned is not None:
                give_up(self.driver, self.call, park.abandoned)
            raise
        self._park = park
        self.driver.counters.parked += 1
        self.take()
        self.wait(park.wait_ms)
        return None

    def _wake(self) -> None:
        if self._ticket is not None:
            self._again(expired=False)

    def waited(self) -> None:
        self._again(expired=True)

    def lost(self) -> None:
        abandoned = self._park.abandoned if self._park is not None else None
        self._stop()
        if abandoned is not None:
            give_up(self.driver, self.call, abandoned)

    def _again(self, *, expired: bool) -> None:
        assert self._ticket is not None
        verb = self.driver.guard(self.call, self._attempt, expired)
        if verb is None:
            self._ticket.arm()
        else:
            self._stop()
            self._answer(verb)

    def _attempt(self, expired: bool) -> Reply | Submit | None:
        assert self._park is not None
        verb = self._park.attempt(self.reader(), expired)
        assert verb is not None or not expired, "attempt must answer when it has expired"
        return verb

    def _answer(self, verb: Reply | Submit) -> None:
        self.driver.carry_out(self.peer, self.exchange, self.plan, self.call, verb)

    def _stop(self) -> None:
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None
            self._park = None
            self.exchange.owner = None
            self.driver.wheel.forget(self)
            self.driver.peers.leave_place(self.peer)
            self.driver.counters.parked -= 1
