"""Submit and Park: one answer that comes later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from townhall.core import Command, Outcome
from townhall.face import Park, Reply, Request, Submit
from townhall.model.access import Actor
from townhall.model.errors import TownhallError
from townhall.serve.run import Run

if TYPE_CHECKING:
    from townhall.hub import Done, Ticket
    from townhall.serve.calls import CallDriver
    from townhall.serve.driver import Driver
    from townhall.serve.heads import Plan
    from townhall.serve.http1 import Connection

__all__ = ["Commands", "ParkRun", "SubmitRun", "give_up"]


class Submitter(Protocol):
    """A driver, as far as commands go through it."""

    def submit(self, command: Command, actor: Actor, done: Done) -> None:
        """Hand a command to the hub; ``done`` is called later, whatever happens."""
        ...


class Commands:
    """Hands the commands of a Submit to the hub and collects what became of them, in order."""

    __slots__ = ("_missing", "_results", "_then")

    def __init__(
        self, driver: Submitter, submit: Submit, actor: Actor, then: Callable[[Sequence[Outcome | TownhallError]], None]
    ) -> None:
        commands = submit.commands
        self._then = then
        self._missing = len(commands)
        self._results: list[Outcome | TownhallError | None] = [None] * len(commands)
        for index, command in enumerate(commands):
            driver.submit(command, actor, partial(self._done, index))

    def _done(self, index: int, result: Outcome | TownhallError) -> None:
        assert self._results[index] is None, "an outcome came twice"
        self._results[index] = result
        self._missing -= 1
        if not self._missing:
            self._then([result for result in self._results if result is not None])


class SubmitRun(Run):
    """Waits for the writer, then renders. The commands take effect whether or not the peer still waits."""

    __slots__ = ("_submit",)

    patient = True

    def __init__(self, driver: Driver, peer: Connection, plan: Plan, request: Request) -> None:
        super().__init__(driver, peer, plan, request)
        self._submit: Submit | None = None

    def start(self, submit: Submit) -> None:
        """Submit; without commands, render at once."""
        self._submit = submit
        self.peer.run = self
        commands = submit.commands
        if len(commands) == 1:
            self.driver.submit(commands[0], self.request.actor, self._decided)
        elif commands:
            Commands(self.driver, submit, self.request.actor, self._rendered)
        else:
            self._rendered(())

    def _decided(self, result: Outcome | TownhallError) -> None:
        self._rendered((result,))

    def _rendered(self, results: Sequence[Outcome | TownhallError]) -> None:
        submit, self._submit = self._submit, None
        assert submit is not None, "the outcomes came twice"
        if self.peer.run is not self:
            self.driver.counters.dropped += 1
            if submit.abandoned is not None:
                give_up(self.driver, self.request, submit.abandoned, results)
            return
        self.peer.run = None
        driver, request = self.driver, self.request
        try:
            # Who asked was settled before the commands were accepted; what became of them is told even if the token
            # expired since.
            verb = submit.render(driver.hub.reader(request.actor), results)
        except Exception as error:
            verb = driver.refusal(error, request)
        driver.carry_out(self.peer, self.plan, request, verb)


class ParkRun(Run):
    """Attempts now, after each wake-up and at the deadline."""

    __slots__ = ("_park", "_ticket")

    def __init__(self, driver: Driver, peer: Connection, plan: Plan, request: Request) -> None:
        super().__init__(driver, peer, plan, request)
        self._park: Park | None = None
        self._ticket: Ticket | None = None

    def start(self, park: Park) -> None:
        """Answer, or wait."""
        verb = self.driver.guard(self.request, self._begin, park)
        if verb is not None:
            self._answer(verb)

    def join(self, park: Park, wait_ms: int) -> None:
        """Wait as somebody else does, who looked and found nothing."""
        verb = self.driver.guard(self.request, self._wait, park, wait_ms)
        if verb is not None:
            self._answer(verb)

    def _begin(self, park: Park) -> Reply | Submit | None:
        expired = park.wait_ms <= 0 or self.driver.stopping
        verb = park.attempt(self.reader(), expired)
        if verb is not None:
            return verb
        assert not expired, "attempt must answer when it has expired"
        self._wait(park, park.wait_ms)
        self.driver.parked(self.plan, park)
        return None

    def _wait(self, park: Park, wait_ms: int) -> None:
        try:
            self.driver.peers.take_place(self.peer)
            try:
                self._ticket = self.driver.hub.watch(park.interests, self._wake)
            except TownhallError:
                self.driver.peers.leave_place(self.peer)
                raise
        except TownhallError:
            if park.abandoned is not None:
                give_up(self.driver, self.request, park.abandoned)
            raise
        self._park = park
        self.driver.counters.parked += 1
        self.peer.run = self
        self.driver.wheel.arm(self, wait_ms)
        if self.peer.half_closed:
            # It did so before, while a Submit was patient with it; nobody knows that a wait would end for it.
            self.peer.hang_up()

    def _wake(self) -> None:
        if self._ticket is not None:
            self._again(expired=False)

    def expired(self) -> None:
        self._again(expired=True)

    def leave(self) -> None:
        self._again(expired=True)

    def lost(self) -> None:
        abandoned = self._park.abandoned if self._park is not None else None
        self._stop()
        if abandoned is not None:
            give_up(self.driver, self.request, abandoned)

    def _again(self, *, expired: bool) -> None:
        assert self._ticket is not None
        driver, peer = self.driver, self.peer
        rendered = driver.replies.find(self.plan)
        if rendered is not None and (not self.plan.secret or driver.known(self.plan, peer)):
            # Somebody who waited with the same words was woken before: one rendering for all of them.
            driver.counters.cached += 1
            self._stop()
            peer.finish(driver.replies.wire(rendered, self.plan, last=peer.ends))
            return
        verb = self.driver.guard(self.request, self._attempt, expired)
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
        self.driver.carry_out(self.peer, self.plan, self.request, verb)

    def _stop(self) -> None:
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None
            self._park = None
            self.driver.wheel.forget(self)
            self.driver.peers.leave_place(self.peer)
            self.driver.counters.parked -= 1


def give_up(
    driver: Driver | CallDriver, asked: Any, abandoned: Callable[..., Sequence[Command]], *arguments: object
) -> None:
    """Do what a face does about a request, or a call, for which nobody waits any more."""
    commands = driver.guard(asked, abandoned, *arguments)
    if not isinstance(commands, Reply):
        for command in commands:
            driver.submit(command, asked.actor, _ignore)


def _ignore(result: Outcome | TownhallError) -> None:
    """Nobody is left to be told."""
