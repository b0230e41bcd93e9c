"""The single writer: one task that turns waiting commands into group commits.

What arrived while the last group was made durable is the next group. A command joins it unless its footprint meets
that of an earlier command, in the group or still waiting, so everybody's order on one thing is kept while strangers
overtake. Commands are decided against the durable state and evolve runs only after the append: nothing is ever rolled
back, and nobody sees what could still be lost.

One round: decide -> append -> evolve -> publish (views go stale, cursors are marked) -> answer -> (later) wake cursors.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from townhall.core import EVERYTHING, Changes, Commit, Context, Decision, Footprint, Outcome, Unsettled
from townhall.core.claims import Claims
from townhall.core.codec import decode_commit, encode_commit
from townhall.core.commands import Registration
from townhall.core.decide import decide
from townhall.core.evolve import evolve
from townhall.core.footprint import footprint
from townhall.hub.histogram import Histogram
from townhall.model import limits
from townhall.model.errors import (
    Conflict,
    EngineFailed,
    EngineFull,
    OutcomeUnknown,
    OverLimit,
    Stopping,
    TooLarge,
    TownhallError,
    Unavailable,
)  # fmt: skip

if TYPE_CHECKING:
    from townhall.core import Command, Ids, Rules
    from townhall.core.state import State
    from townhall.engine import Engine
    from townhall.hub import Clock, Done
    from townhall.model.access import Actor

__all__ = ["Setting", "Writer"]

_log = logging.getLogger(__name__)
_ROOM_PAUSE_S: Final = 60.0
"""Between two lines of the log about a full disk."""

WAITING_SCAN_COUNT: Final = 64
"""Commands that may be passed over in a row of waiting ones before the group is closed: a queue for one hot key must
not be walked from end to end for every commit."""
INTERNAL_COMMANDS_EXTRA: Final = 1_024
"""Room beyond ``PENDING_COMMANDS_MAX`` for the registry itself: expiry goes on when clients overrun it."""

Waiting = tuple["Command", "Actor", "Done"]


class Setting(NamedTuple):
    """What the writer works with."""

    engine: Engine
    state: State
    clock: Clock
    ids: Ids
    rules: Rules
    node: str


class Group(NamedTuple):
    """Commands decided side by side, before they are durable."""

    time_ms: int
    members: list[tuple[Waiting, Decision]]
    blobs: list[bytes]
    answers: list[tuple[Done, Outcome | TownhallError]]
    """Refusals, and commands that change nothing: these need no append."""


class Writer:
    """Owner of the journal's tail and of the state. ``run`` is its task; everything else returns at once."""

    def __init__(
        self, setting: Setting, *, published: Callable[[Changes, int, int], None], heard: Callable[[Registration], None]
    ) -> None:
        """Two ports, called before the answers.

        ``published(changes, commits, size)``: a group has evolved. ``heard(registration)``: an instance was
        registered, for the first time or again, with or without a change, so its process is alive.
        """
        self.setting = setting
        self._published = published
        self._heard = heard
        self._pending: deque[Waiting] = deque()
        self._idle: asyncio.Future[None] | None = None
        self._stopping = False
        self.failure: Unavailable | None = None
        """Why no writes are accepted any more; cleared by opening the engine anew, which is a restart."""
        self.full = False
        """The last append found the disk full."""
        self._room_told = False
        self._room_told_at_s = -_ROOM_PAUSE_S
        self.commands = self.commits = self.groups = self.refusals = self.conflicts = 0
        self.callback_errors = self.decide_errors = 0
        self.group_max = 0
        self.append_latency = Histogram()

    # --- taking commands

    @property
    def pending(self) -> int:
        """Commands that wait for a group."""
        return len(self._pending)

    def submit(self, command: Command, actor: Actor, done: Done) -> None:
        """See ``hub.Hub.submit``."""
        error: TownhallError | None = self.failure
        if self._stopping:
            error = Stopping("the registry is shutting down", advice="try again in a moment, or elsewhere")
        elif len(self._pending) >= limits.PENDING_COMMANDS_MAX + INTERNAL_COMMANDS_EXTRA * actor.internal:
            error = OverLimit(
                "too many commands wait for the writer", advice="slow down", limit=limits.PENDING_COMMANDS_MAX
            )
        if error is not None:
            self.refusals += 1
            asyncio.get_running_loop().call_soon(self._answer, done, error)
            return
        self._pending.append((command, actor, done))
        if self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None

    def stop(self) -> None:
        """Refuse new commands; ``run`` returns when those that wait are answered."""
        self._stopping = True
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._idle = None

    # --- the task

    async def run(self) -> None:
        """Work until ``stop``. Raises nothing: what goes wrong is told to the callers and kept in ``failure``."""
        loop = asyncio.get_running_loop()
        while True:
            if self._pending:
                try:
                    await self._round()
                except Exception:
                    # A bug of ours. Whether its group is durable nobody knows, so nothing may be built on it.
                    _log.critical("the writer broke", exc_info=True)
                    self.failure = OutcomeUnknown("the registry broke", advice="restart it; its log says more")
                    self._refuse_pending(self.failure)
                # Other tasks get a turn even when the engine answers without waiting.
                await asyncio.sleep(0)
            elif self._stopping:
                return
            else:
                self._idle = loop.create_future()
                await self._idle

    async def _round(self) -> None:
        group = self._decide_group()
        for done, result in group.answers:
            self._answer(done, result)
        if not group.blobs:
            return
        began_ns = time.perf_counter_ns()
        try:
            position = await self.setting.engine.append(group.blobs, self.setting.state.position)
        except Conflict:
            self._catch_up(group)
        except (OutcomeUnknown, EngineFailed) as error:
            self._fail(group, error)
        except TownhallError as error:
            self._note_room(error)
            self._refuse(group, error)
        except Exception as error:
            _log.exception("append failed in an unforeseen way")
            self._fail(group, OutcomeUnknown(f"the engine broke: {error}", advice="read before trying again"))
        else:
            self._note_room(None)
            self.append_latency.add((time.perf_counter_ns() - began_ns) // 1000)
            assert position == self.setting.state.position + len(group.blobs)
            self._conclude(group)

    def _decide_group(self) -> Group:
        setting, pending = self.setting, self._pending
        state = setting.state
        group = Group(max(setting.clock.now_ms(), state.time_ms), [], [], [])
        claims = Claims()
        waiting: list[Waiting] = []
        context = Context(group.time_ms, setting.ids, pending[0][1], setting.rules, setting.node)
        size = 0
        for _ in range(min(len(pending), limits.GROUP_COMMITS_MAX)):
            entry = pending.popleft()
            command, actor, done = entry
            claim = self._footprint(command)
            if not claims.admit(claim):
                claims.block(claim)
                waiting.append(entry)
                if len(waiting) > WAITING_SCAN_COUNT + 2 * len(group.members):
                    break
                continue
            if context.actor is not actor:
                context = Context(group.time_ms, setting.ids, actor, setting.rules, setting.node)
            judged = self._judge(command, context)
            if not isinstance(judged, tuple):
                group.answers.append((done, judged))
                continue
            size += len(judged[1])
            if size > limits.COMMIT_SIZE_MAX and group.blobs:
                waiting.append(entry)  # It is decided again in the next group, where it comes early.
                break
            group.members.append((entry, judged[0]))
            group.blobs.append(judged[1])
        pending.extendleft(reversed(waiting))
        self.commands += len(group.answers) + len(group.members)
        return group

    def _footprint(self, command: Command) -> Footprint:
        try:
            return footprint(command, self.setting.state)
        except Exception:
            _log.exception("the footprint of %s is unclear; it is decided alone", type(command).__name__)
            return EVERYTHING

    def _judge(self, command: Command, context: Context) -> tuple[Decision, bytes] | Outcome | TownhallError:
        """Decide one command: what to append, or the answer when nothing is to be appended."""
        state = self.setting.state
        try:
            decision = decide(state, command, context)
            if not isinstance(decision, Decision):
                self.refusals += 1
                return decision
            if not decision.facts:
                return Outcome(state.position, state.time_ms, (), decision.result)
            blob = encode_commit(Commit(0, context.now_ms, context.node, decision.facts))
        except Exception:
            self.decide_errors += 1
            _log.exception("deciding %s failed", type(command).__name__)
            return TownhallError("an error inside the registry; nothing was changed", advice="its log says more")
        if len(blob) > limits.COMMIT_SIZE_MAX:
            return TooLarge("the command makes a commit that is too large", limit=limits.COMMIT_SIZE_MAX)
        return decision, blob

    # --- after the append

    def _conclude(self, group: Group) -> None:
        state, node = self.setting.state, self.setting.node
        # One picture of the whole group, so that each cursor is looked up once.
        changes = Changes(state.position)
        answers: list[tuple[Done, Outcome | TownhallError]] = []
        position = state.position
        try:
            for (_, _, done), decision in group.members:
                position += 1
                facts, result = decision.facts, decision.result
                evolve(state, Commit(position, group.time_ms, node, facts), changes)
                if isinstance(result, Unsettled):
                    result = result.settle(changes)
                if isinstance(result, TownhallError):
                    answers.append((done, result))
                else:
                    answers.append((done, Outcome(position, group.time_ms, facts, result)))
        except Exception:
            # The commit is durable but our picture of it is broken: stop writing, tell the rest that nobody knows.
            _log.critical("evolving position %d failed", position, exc_info=True)
            self.failure = OutcomeUnknown("the registry broke after a commit", advice="restart it; its log says more")
            answers.extend((done, self.failure) for (_, _, done), _ in group.members[len(answers) :])
        self.groups += 1
        self.commits += len(group.blobs)
        self.group_max = max(self.group_max, len(group.blobs))
        self._publish(changes, len(group.blobs), sum(map(len, group.blobs)))
        for done, result in answers:
            self._answer(done, result)
        if self.failure is not None:
            self._refuse_pending(self.failure)

    def _catch_up(self, group: Group) -> None:
        """Somebody else appended first (shared engines): follow the tail, then decide this group again."""
        self.conflicts += 1
        before = self.setting.state.position
        try:
            self.follow()
        except Exception as error:
            _log.exception("following the journal failed")
            self._fail(group, EngineFailed(f"the journal cannot be followed: {error}"))
            return
        if self.setting.state.position == before:
            self._fail(group, EngineFailed("the engine reports a conflict but holds nothing new"))
        else:
            self._pending.extendleft(entry for entry, _ in reversed(group.members))

    def follow(self) -> None:
        """Bring the state to the journal's tail and publish what others wrote."""
        state = self.setting.state
        for entry in self.setting.engine.follow(state.position):
            commit = decode_commit(entry.blob, entry.position)
            self._publish(evolve(state, commit), 1, len(entry.blob))

    def _note_room(self, error: TownhallError | None) -> None:
        """What an append has found. The log is told once a minute: where there is little room, small writes still fit."""
        self.full = isinstance(error, EngineFull)
        now_s = time.monotonic()
        if self.full and now_s >= self._room_told_at_s + _ROOM_PAUSE_S:
            self._room_told_at_s, self._room_told = now_s, True
            _log.error("writes are refused: %s", error)
        elif error is None and self._room_told:
            self._room_told = False
            _log.warning("there is room in the journal again, writes are accepted")

    def _refuse(self, group: Group, error: TownhallError) -> None:
        self.refusals += len(group.members)
        for (_, _, done), _ in group.members:
            self._answer(done, error)

    def _fail(self, group: Group, error: Unavailable) -> None:
        _log.error("no more writes are accepted: %s", error)
        self.failure = error
        self._refuse(group, error)
        self._refuse_pending(error)

    def _refuse_pending(self, error: TownhallError) -> None:
        while self._pending:
            self.refusals += 1
            self._answer(self._pending.popleft()[2], error)

    def _publish(self, changes: Changes, commits: int, size: int) -> None:
        try:
            self._published(changes, commits, size)
        except Exception:
            self.callback_errors += 1
            _log.exception("publishing position %d failed", changes.position)

    def _answer(self, done: Done, result: Outcome | TownhallError) -> None:
        try:
            if type(result) is Outcome:
                found = result.result
                if type(found) is Registration:
                    self._heard(found)
                elif type(found) is tuple:
                    for each in found:
                        if isinstance(each, Registration):
                            self._heard(each)
            done(result)
        except Exception:
            # A closed connection, or a face that cannot render: that is its caller's loss and nobody else's.
            self.callback_errors += 1
            _log.exception("answering a command failed")
