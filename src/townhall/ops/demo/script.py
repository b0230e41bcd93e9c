"""The play: what happens to providers and registry, and when the consumer has seen it.

Each event is entered with a question to the consumer's picture ("is alpha not callable any more?"), which is asked
again at every change that the SDK tells of. The time until the answer is yes is what the summary shows.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from townhall.client.consumer import Consumer, MirrorState
from townhall.client.picture import Change
from townhall.client.records import Instance
from townhall.ops.demo.board import Board, Event, ProviderRow
from townhall.ops.demo.provider import SERVICE
from townhall.ops.demo.stage import Stage

if TYPE_CHECKING:
    from townhall.client.api import Registry

__all__ = ["Play"]

_SEEN_TIMEOUT_S: Final = 12.0
"""An event that was not seen by then is told as not seen."""
_WEIGHT: Final = 3.0


class Play:
    """Runs the events in order. ``pace`` stretches the pauses between them, in which one can watch."""

    def __init__(self, *, stage: Stage, board: Board, consumer: Consumer, registry: Registry, pace: float) -> None:
        self._stage = stage
        self._board = board
        self._consumer = consumer
        self._handle = consumer[SERVICE]
        self._registry = registry
        self._pace = pace
        self._begun = time.monotonic()
        self._open: list[tuple[Event, Callable[[], bool], asyncio.Event]] = []

    def now(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._begun

    async def run(self) -> None:
        """All events. Those that the consumer does not see stay marked so on the board."""
        self._handle.on_change(self._changed)
        self._consumer.on_state(lambda _: self._look())
        await self._pause(1.5)
        await self._add_provider("delta")
        await self._change_weight("alpha")
        await self._kill("beta")
        await self._start_again("beta")
        await self._hang("gamma")
        await self._drain("delta")
        await self._run_program("legacy")
        await self._kill_registry()

    def refresh(self) -> None:
        """Bring the board in step with the consumer's picture."""
        board = self._board
        board.elapsed = self.now()
        board.consumer = str(self._consumer.state)
        known = {one.id: one for one in self._handle.instances()}
        for name, row in board.providers.items():
            one = known.get(name)
            row.verdict = "gone" if one is None else f"{one.verdict} (held)" if one.held else one.verdict
            row.weight = one.weight if one is not None else 0.0

    # --- events

    async def _add_provider(self, name: str) -> None:
        self._board.providers[name] = ProviderRow(note="added")
        event, seen = self._expect(f"add the provider {name}", "it may be called", lambda: self._callable(name))
        child = await self._stage.start_provider(name)
        # Counted from its own registration, not from the start of a Python process.
        event.at = child.ready["asked"] - self._begun
        await self._seen(seen)
        await self._pause(1.5)

    async def _change_weight(self, name: str) -> None:
        _, seen = self._expect(
            f"change {name}'s weight to {_WEIGHT:g}", "the new weight", lambda: self._weight(name) == _WEIGHT
        )
        await self._registry.patch(SERVICE, name, weight=_WEIGHT)
        self._board.providers[name].note = "weight changed"
        await self._seen(seen)
        await self._pause(2.0)

    async def _kill(self, name: str) -> None:
        _, seen = self._expect(f"kill -9 {name}", "it may not be called", lambda: not self._callable(name))
        self._board.providers[name].note = "killed"
        await self._stage.providers[name].kill()
        await self._seen(seen)
        await self._pause(1.5)

    async def _start_again(self, name: str) -> None:
        event, seen = self._expect(f"start {name} again", "it may be called", lambda: self._callable(name))
        child = await self._stage.start_provider(name)
        event.at = child.ready["asked"] - self._begun
        self._board.providers[name].note = "started again"
        await self._seen(seen)
        await self._pause(1.0)

    async def _hang(self, name: str) -> None:
        _, seen = self._expect(f"hang {name} (SIGSTOP)", "it may not be called", lambda: not self._callable(name))
        self._stage.providers[name].signal(signal.SIGSTOP)
        self._board.providers[name].note = "hangs"
        await self._seen(seen)
        await self._pause(2.5)
        _, seen = self._expect(f"let {name} go on (SIGCONT)", "it may be called", lambda: self._callable(name))
        self._stage.providers[name].signal(signal.SIGCONT)
        self._board.providers[name].note = "goes on"
        await self._seen(seen)
        await self._pause(1.5)

    async def _drain(self, name: str) -> None:
        _, seen = self._expect(f"drain {name} under load", "it is draining", lambda: self._verdict(name) != "up")
        self._board.providers[name].note = "draining"
        drain = await self._registry.drain(SERVICE, name, deadline_ms=8_000)
        await self._seen(seen)
        while not drain.over:
            drain = await self._registry.drain_status(SERVICE, name, wait_ms=2_000)
        _, seen = self._expect(f"stop {name}, which is drained", "it is gone", lambda: self._verdict(name) == "gone")
        self._stage.providers[name].signal(signal.SIGTERM)
        await self._seen(seen)
        self._board.providers[name].note = "drained and stopped"
        await self._pause(1.5)

    async def _run_program(self, name: str) -> None:
        """A program that knows nothing of the registry is registered from outside, called like any other, and stopped."""
        self._board.providers[name] = ProviderRow(note="python -m http.server")
        _, seen = self._expect("townhall run … python -m http.server", "it may be called", lambda: self._callable(name))
        await self._stage.start_program(name, SERVICE)
        await self._seen(seen)
        await self._pause(1.5)
        _, seen = self._expect("stop it (SIGTERM)", "it is gone", lambda: self._verdict(name) == "gone")
        assert self._stage.program is not None
        self._stage.program.signal(signal.SIGTERM)
        await self._seen(seen)
        self._board.providers[name].note = "drained and stopped"
        await self._pause(0.5)

    async def _kill_registry(self) -> None:
        assert self._stage.registry is not None
        _, seen = self._expect(
            "kill -9 the registry", "it is away", lambda: self._consumer.state is not MirrorState.CONNECTED
        )
        self._board.registry = "KILLED"
        await self._stage.registry.kill()
        await self._seen(seen)
        await self._pause(2.5)
        _, seen = self._expect(
            "start the registry again, same data",
            "connected, all as before",
            lambda: self._consumer.state is MirrorState.CONNECTED,
        )
        await self._stage.start_registry()
        self._board.registry = self._stage.address
        await self._seen(seen)
        await self._pause(2.0)

    # --- what the consumer sees

    def _instance(self, name: str) -> Instance | None:
        return next((one for one in self._handle.instances() if one.id == name), None)

    def _callable(self, name: str) -> bool:
        one = self._instance(name)
        return one is not None and one.callable

    def _verdict(self, name: str) -> str:
        one = self._instance(name)
        return one.verdict if one is not None else "gone"

    def _weight(self, name: str) -> float:
        one = self._instance(name)
        return one.weight if one is not None else 0.0

    def _expect(self, what: str, seen_as: str, seen: Callable[[], bool]) -> tuple[Event, asyncio.Event]:
        event = Event(what, self.now(), seen_as)
        self._board.events.append(event)
        noticed = asyncio.Event()
        self._open.append((event, seen, noticed))
        return event, noticed

    def _changed(self, change: Change) -> None:
        self._look()

    def _look(self) -> None:
        now = self.now()
        for entry in list(self._open):
            event, seen, noticed = entry
            if seen():
                self._open.remove(entry)
                event.seen_at = now
                noticed.set()

    async def _seen(self, noticed: asyncio.Event) -> None:
        self._look()
        try:
            async with asyncio.timeout(_SEEN_TIMEOUT_S):
                await noticed.wait()
        except TimeoutError:
            self._open.clear()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._pace)
