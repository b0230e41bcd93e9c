"""Runs one program and keeps it registered while it serves: what ``townhall run`` does.

The order of a life: start the program; look at it until it is well for the first time; register it; look on, and take
it out of use while it is not well. The order of an end that was asked for: tell the callers (drain, or deregister),
then signal the program, then kill it at the deadline, then deregister. A program that ends by itself is deregistered,
or with restarts shown as down until it is back. What it leaves behind in its process group is ended as well.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from townhall.agent import Notice, Tell
from townhall.agent.child import CANNOT_EXECUTE, NOT_FOUND, Child
from townhall.agent.definitions import Definition
from townhall.agent.keeper import Keeper
from townhall.agent.lookout import Lookout
from townhall.agent.restarts import RestartPolicy, Restarts
from townhall.client.records import Health
from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.errors import TownhallError
from townhall.probe.ranges import Ranges

__all__ = ["PASSED_ON", "STOP_SIGNALS", "SUSPEND_SIGNAL", "WITHOUT_TERMINAL", "Plan", "Supervisor"]

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""Callers are told first; then the program gets the same signal."""
PASSED_ON: Final = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT)
"""Handed to the program at once: they reload, dump, reopen; if it ends by one, that is an end of its own."""
WITHOUT_TERMINAL: Final = (signal.SIGTTIN, signal.SIGTTOU)
"""Handed on as well where no terminal sends them: gunicorn and HAProxy take them as orders of their own."""
SUSPEND_SIGNAL: Final = signal.SIGTSTP
"""Ctrl-Z: the program is stopped, and we are. The registry notices that nothing comes from us any more."""
_BACKGROUND: Final = (
    " before it was well; a program that goes to the background cannot be looked after, have it stay in the foreground"
)
_SLOW_START_S: Final = 5.0
"""A program that is not well for so long after its start is told of: a check with a mistake in it never will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run and how."""

    command: Sequence[str]
    environ: Mapping[str, str]
    definition: Definition
    ranges: Ranges = field(default_factory=Ranges)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    drain_s: float = 0.0
    """How long callers may take to learn of a stop; 0 deregisters at once instead."""
    stop_s: float = limits.AGENT_CHILD_STOP_MS / 1000
    """From the signal until the program is killed."""


class Supervisor:
    """One program. ``run`` it once; hand it the signals that arrive."""

    def __init__(self, plan: Plan, keeper: Keeper, tell: Tell) -> None:
        self._plan = plan
        self._keeper = keeper
        self._tell_all = tell
        self._label = plan.definition.service.name
        self._restarts = Restarts(plan.restart)
        self._child: Child | None = None
        self._stop = asyncio.Event()
        self._stop_signal = signal.SIGTERM
        self._hurry = asyncio.Event()
        self._registered = False
        """Whether this run of the program has been well."""

    def receive(self, number: int) -> None:
        """A signal has come for us."""
        if number == SUSPEND_SIGNAL:
            self._suspend()
        elif number == signal.SIGCONT:
            if self._child is not None:
                self._child.signal_group(number)
        elif number not in STOP_SIGNALS:
            if self._child is not None:
                self._child.signal(number)
        elif not self._stop.is_set():
            self._stop_signal = signal.Signals(number)
            self._stop.set()
        elif not self._hurry.is_set():
            # Whoever asks twice does not want to wait for the callers.
            self._hurry.set()
        elif self._child is not None:
            self._child.signal(number)

    async def run(self) -> int:
        """The exit code of the program's last run, as a shell has it."""
        self._keeper.start()
        try:
            while True:
                began = asyncio.get_running_loop().time()
                code = await self._once()
                lasted_ms = (asyncio.get_running_loop().time() - began) * 1000
                pause_ms = None if self._stop.is_set() else self._restarts.after(code, lasted_ms=lasted_ms)
                self._tell_end(code, pause_ms)
                if pause_ms is None:
                    return code
                try:
                    async with asyncio.timeout(pause_ms / 1000):
                        await self._stop.wait()
                except TimeoutError:
                    continue
                return code
        finally:
            await self._keeper.leave()

    # --- one run -----------------------------------------------------------------------------------------------------

    async def _once(self) -> int:
        plan, self._child = self._plan, None
        try:
            child = self._child = await Child.start(plan.command, plan.environ)
        except OSError as error:
            self._tell("failed", f"{plan.command[0]}: {error.strerror or error}", warning=True)
            return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_EXECUTE
        self._tell("started", f"process {child.pid}: {' '.join(plan.command)}")
        self._registered = False
        looking = asyncio.get_running_loop().create_task(self._look_after(), name="townhall-lookout")
        left_s = plan.stop_s
        try:
            await _first(child.ended, self._stop.wait())
            if not child.ended.done():
                left_s = await self._end(child)
            code = await child.ended
        finally:
            if child.running:
                child.signal_group(signal.SIGKILL)
            await _finish(looking)
        await self._clear(child, code, budget_s=left_s)
        return code

    async def _look_after(self) -> None:
        """Register the program when it is well for the first time, and tell of every change from then on."""
        definition, keeper = self._plan.definition, self._keeper
        address = definition.service.address or await keeper.find_address()
        if not definition.checks:
            # Nothing else tells whether it has started; one that fails at once should not be seen by anybody.
            await asyncio.sleep(limits.AGENT_ALIVE_MS / 1000)

        def heard(health: Health) -> None:
            if self._registered:
                keeper.say(self._label, health)
            elif health.status is not CheckStatus.CRITICAL:
                self._registered = True
                keeper.want(self._label, definition.service, health)

        lookout = Lookout(definition.checks, address=address, ranges=self._plan.ranges, tell=heard)
        async with asyncio.TaskGroup() as group:
            group.create_task(lookout.run(eager=True))
            await asyncio.sleep(_SLOW_START_S)
            if not self._registered:
                self._tell(
                    "waiting", f"runs but is not well yet, so it is not registered: {lookout.latest}", warning=True
                )

    # --- its end -----------------------------------------------------------------------------------------------------

    async def _end(self, child: Child) -> float:
        """Callers first, then the program. What is left of the time that it has for its end."""
        if self._plan.drain_s:
            self._tell("draining", f"draining, for at most {self._plan.drain_s:g} s")
            await _first(child.ended, self._hurry.wait(), self._drain())
        else:
            self._keeper.unwant(self._label)
            if not self._keeper.away:
                await _first(
                    child.ended, self._hurry.wait(), self._keeper.settle(budget_s=limits.AGENT_LEAVE_MS / 1000)
                )
        clock = asyncio.get_running_loop().time
        until = clock() + self._plan.stop_s
        child.signal(self._stop_signal)
        # Signals that come from now on are for the program.
        self._hurry.set()
        try:
            async with asyncio.timeout_at(until):
                await asyncio.shield(child.ended)
        except TimeoutError:
            self._tell("killed", f"did not end within {self._plan.stop_s:g} s and is killed", warning=True)
            child.signal_group(signal.SIGKILL)
        return max(0.0, until - clock())

    async def _clear(self, child: Child, code: int, *, budget_s: float) -> None:
        """What it has started goes with it: a shell that was told to end tells nobody."""
        if not child.leftover:
            return
        self._keeper.say(self._label, Health(CheckStatus.CRITICAL, f"ended with exit code {code}"))
        if not await child.clear(budget_s=budget_s) and budget_s:
            text = f"what it had started did not end within {self._plan.stop_s:g} s and is killed"
            self._tell("killed", text, warning=True)

    def _suspend(self) -> None:
        """Until somebody sends SIGCONT, which is passed on."""
        if self._child is not None:
            self._child.signal_group(SUSPEND_SIGNAL)
        os.kill(os.getpid(), signal.SIGSTOP)

    async def _drain(self) -> None:
        try:
            told = await self._keeper.drain(self._label, deadline_s=self._plan.drain_s)
        except TownhallError as error:
            self._tell("away", f"could not drain: {error}", warning=True)
        else:
            self._tell("drained", "every caller knows" if told else "some callers may not know yet", warning=not told)

    def _tell_end(self, code: int, pause_ms: int | None) -> None:
        if self._stop.is_set() or (self._child is None and pause_ms is None):
            return  # Asked for, or told already.
        text = f"ended with exit code {code}"
        if pause_ms is not None:
            again = f"{text}; started again in {pause_ms / 1000:g} s"
            self._keeper.say(self._label, Health(CheckStatus.CRITICAL, again))
            self._tell("ended", f"{again} (restart {self._restarts.in_a_row})", warning=True)
        elif code == 0 and self._plan.definition.checks and not self._registered:
            self._tell("ended", text + _BACKGROUND, warning=True)
        else:
            self._tell("ended", text, warning=code != 0)

    def _tell(self, event: str, text: str, *, warning: bool = False) -> None:
        self._tell_all(Notice(event, text, self._label, warning))


async def _first(task: asyncio.Task[int], *others: Coroutine[Any, Any, object]) -> None:
    """Wait for the task or any of the others, and end those."""
    loop = asyncio.get_running_loop()
    rivals = [loop.create_task(other) for other in others]
    try:
        await asyncio.wait({task, *rivals}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for rival in rivals:
            await _finish(rival)


async def _finish(task: asyncio.Task[Any]) -> None:
    """End a task; what it has raised, a bug, is raised here."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
