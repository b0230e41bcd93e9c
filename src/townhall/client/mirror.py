"""A process's picture of the services it uses, kept fresh by one watch stream per registry.

Each service is first fetched by itself, so that one that is unknown or forbidden hinders no other, and then joins the
stream, which resumes at the oldest position that any of its services needs. Without the registry the last picture
stays, marked stale with its age: SUSPENDED at once, LOST after ``CLIENT_LOST_MS``.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from townhall.client.acknowledging import Acknowledging
from townhall.client.api import Registry, watch_name
from townhall.client.backoff import Backoff
from townhall.client.picture import Change, Picture, folded, retained, without
from townhall.client.problems import AWAY
from townhall.client.records import Instance
from townhall.client.reports import Reports
from townhall.client.snapshot_file import SnapshotFiles
from townhall.client.streams import WatchEvent, WatchStream
from townhall.model import limits
from townhall.model.errors import NoInstance, OverLimit, TownhallError, Unreachable
from townhall.model.instance import ServiceKey

__all__ = ["Mirror", "MirrorState"]

_log = logging.getLogger("townhall.client")


_TARGET_SIZE_MAX = limits.TARGET_SIZE_MAX - 512
"""What a watch's request target has for the names of services."""


class MirrorState(enum.StrEnum):
    """How fresh the pictures are."""

    CONNECTED = "connected"
    """The stream stands: what the registry knows, we know."""
    SUSPENDED = "suspended"
    """The stream broke a moment ago; nothing is known to be wrong."""
    LOST = "lost"
    """No registry for longer than ``CLIENT_LOST_MS``: what we know may be far from the truth."""


@dataclass(slots=True)
class _Entry:
    """One followed service."""

    key: ServiceKey
    picture: Picture | None = None
    saved_at_ms: int = 0
    """When the picture was saved, while it is one from disk; 0 once the registry has told."""
    position: int | None = None
    """Where a stream must resume for this service while it is in none; None when it needs a fetch."""
    streamed: bool = False
    history: str | None = None
    """The name of the journal that the picture's revision counts in; None while that is not known."""
    unconfirmed: Mapping[str, Instance] = field(default_factory=dict)
    """Known from disk, or from before the registry came back without its memory, and not told of since."""
    users: int = 0
    listeners: list[Callable[[Change], None]] = field(default_factory=list)
    callers: list[Callable[[], Collection[str]]] = field(default_factory=list)
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)


class Mirror:
    """Pictures of services. ``run`` it in a task; everything else is called in the same event loop."""

    def __init__(self, registry: Registry, *, name: str, files: SnapshotFiles | None) -> None:
        self.registry = registry
        self.reports = Reports(registry, name)
        self.state = MirrorState.SUSPENDED
        self._name = name
        self._files = files
        self._entries: dict[ServiceKey, _Entry] = {}
        self._state_listeners: list[Callable[[MirrorState], None]] = []
        self._position = 0
        self._history = ""
        self._stream: WatchStream | None = None
        self._reopening = False
        self._wake = asyncio.Event()
        self._acknowledging = Acknowledging(registry)
        self._unsaved: set[ServiceKey] = set()
        self._save_wake = asyncio.Event()
        self._away = False
        """Whether something has gone wrong since the last ``ready``, or since the beginning."""
        self._current_at = time.monotonic()
        self._lost_timer: asyncio.TimerHandle | None = None
        self._confirm_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._acknowledging.run())
                group.create_task(self.reports.run())
                if self._files is not None:
                    group.create_task(self._save(self._files))
        finally:
            for timer in (self._lost_timer, self._confirm_timer):
                if timer is not None:
                    timer.cancel()
            self._lost_timer = self._confirm_timer = None
            if not self._away:
                # What it knows grows old from now on.
                self.state, self._away, self._current_at = MirrorState.SUSPENDED, True, time.monotonic()

    # --- what it knows -----------------------------------------------------------------------------------------------

    def picture(self, key: ServiceKey) -> Picture | None:
        """The last picture of a followed service; None when there was none yet."""
        entry = self._entries.get(key)
        return entry.picture if entry is not None else None

    def age_s(self, key: ServiceKey) -> float:
        """Seconds since the picture was known to be true; 0 while connected."""
        entry = self._entries.get(key)
        if entry is not None and entry.saved_at_ms:
            return max(0.0, time.time() - entry.saved_at_ms / 1000)
        # What has just been fetched is true, though the stream that keeps it so may not stand yet.
        return time.monotonic() - self._current_at if self._away else 0.0

    def on_state(self, listener: Callable[[MirrorState], None]) -> Callable[[], None]:
        """Be called at each change of state; returns what ends it."""
        self._state_listeners.append(listener)
        return lambda: self._state_listeners.remove(listener)

    def listen(
        self, key: ServiceKey, listener: Callable[[Change], None], caller: Callable[[], Collection[str]] = tuple
    ) -> Callable[[], None]:
        """Be called, at once and in the event loop, with each change of a followed service; returns what ends it.

        ``caller`` names the instances at which the listener's calls wait for an answer, see ``acknowledging``.
        """
        entry = self._entries[key]
        entry.listeners.append(listener)
        entry.callers.append(caller)

        def end() -> None:
            entry.listeners.remove(listener)
            entry.callers.remove(caller)

        return end

    # --- following ---------------------------------------------------------------------------------------------------

    def follow(self, key: ServiceKey) -> None:
        """Begin to follow a service, until one ``unfollow`` for each call of this.

        Raises ``OverLimit`` when the names of all services would not fit into one watch any more.
        """
        entry = self._entries.get(key)
        if entry is None:
            size = sum(_target_size(one) for one in (*self._entries, key))
            if size > _TARGET_SIZE_MAX:
                raise OverLimit(f"{len(self._entries)} services are followed already, more do not fit into one watch")
            entry = self._entries[key] = _Entry(key)
        entry.users += 1
        self._wake.set()

    async def ready(self, key: ServiceKey, *, budget_s: float) -> None:
        """Returns when a followed service has a picture, from the registry or else from disk.

        Raises ``NoInstance`` when there is neither within the budget, or what the registry refuses with. Following
        goes on in any case.
        """
        entry = self._entries[key]
        if entry.picture is not None:
            return
        try:
            async with asyncio.timeout(budget_s):
                await self._fetch(entry)
        except (*AWAY, TimeoutError) as error:
            if entry.picture is None and not await self._load(entry):
                told = str(error) or f"{self.registry.transport.preferred} did not answer within {budget_s:.3g} s"
                raise NoInstance(
                    f"no instance of {key} is known: the registry cannot be reached and there is no snapshot on disk; {told}",
                    advice="start the registry, or allow a snapshot directory for starts without it",
                    service=str(key),
                    why="registry_unreachable",
                    told=told,
                ) from error

    def unfollow(self, key: ServiceKey) -> None:
        """One user less; the last one takes the service off the next stream."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.users -= 1
            if entry.users <= 0:
                del self._entries[key]

    async def _fetch(self, entry: _Entry) -> None:
        async with entry.fetching:
            if entry.position is not None or entry.streamed:
                return
            answer, position = await self.registry.instances_at(entry.key)
            if entry.picture is not None and position < entry.picture.revision:
                # Its journal does not reach as far as ours: it is another one, or was put back to an earlier time.
                entry.history = None
            entry.position = position
            event = WatchEvent(
                kind="snapshot",
                service=entry.key.name,
                namespace=entry.key.namespace,
                group=entry.key.group,
                revision=answer.revision,
                instances=answer.instances,
            )
            self._apply(entry, event)
            if entry.unconfirmed:
                # Until the stream's ``ready`` has named the journal they may be missing because it began anew.
                self._await_confirmation()
        self._reopen()

    async def _load(self, entry: _Entry) -> bool:
        loaded = await asyncio.to_thread(self._files.load, entry.key) if self._files is not None else None
        if loaded is not None and entry.picture is None:
            picture = entry.picture = loaded.picture
            entry.saved_at_ms, entry.history = loaded.at_ms, loaded.history
            entry.unconfirmed = _reachable(picture)
            _log.warning("%s: the registry is away, using a snapshot from disk", entry.key)
            self._tell(entry, Change(picture, picture.instances, ()))
        return entry.picture is not None

    def _reopen(self) -> None:
        """Let the stream be opened anew with all services, soon: several that come together cause one reopening."""
        self._reopening = True
        self._wake.set()
        if self._stream is not None:
            asyncio.get_running_loop().call_soon(self._stream.close)

    async def _follow(self) -> None:
        backoff = Backoff()
        while True:
            self._wake.clear()
            try:
                await self._one_stream(backoff)
                pause_s = 0.0
            except AWAY as error:
                if self._reopening:
                    continue
                self._suspend(error)
                pause_s = backoff.next_s()
            except TownhallError as error:
                self._suspend(error)
                pause_s = limits.CLIENT_BACKOFF_MAX_MS / 1000
            finally:
                self._stream = None
            try:
                async with asyncio.timeout(pause_s or None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _one_stream(self, backoff: Backoff) -> None:
        """Follow all services over one stream until it breaks, or must be opened anew, or there are none."""
        self._reopening = False
        refused = await self._fetch_missing()
        # What was asked for so far is in this round.
        self._reopening = False
        self._wake.clear()
        entries = [entry for entry in self._entries.values() if entry.position is not None or entry.streamed]
        if not entries:
            if refused is not None:
                raise refused
            return
        needed = [entry.position for entry in entries if entry.position is not None and not entry.streamed]
        resume = min([self._position, *needed]) if any(entry.streamed for entry in entries) else min(needed)
        keys = [entry.key for entry in entries]
        stream = await self.registry.watch(keys, subscriber=self._name, resume_after=resume or None, explicit=True)
        async with stream:
            self._stream = stream
            if self._reopening:
                return
            early: list[WatchEvent] | None = []
            async for event in stream:
                if event.kind == "ready":
                    # Only now is it certain that what came so far continues what we know.
                    if self._history_changed(event, resume):
                        self._start_over()
                        return
                    for one in early or ():
                        self._take(one)
                    early = None
                    self._ready(event, entries)
                    backoff.reset()
                elif event.kind == "leaving":
                    break
                elif early is not None:
                    early.append(event)
                    continue
                self._take(event)
                # Many may have come at once, and each may be work for a large service.
                await asyncio.sleep(0)
        raise Unreachable("the registry ended the watch", kind="reset", sent=True)

    async def _fetch_missing(self) -> TownhallError | None:
        """Fetch what has no picture from the registry. Returns a refusal, if there was one; raises when it is away."""
        missing = [entry for entry in self._entries.values() if entry.position is None and not entry.streamed]
        refused: TownhallError | None = None
        for start in range(0, len(missing), limits.CLIENT_FETCHES_MAX):
            fetches = [self._fetch(entry) for entry in missing[start : start + limits.CLIENT_FETCHES_MAX]]
            for result in await asyncio.gather(*fetches, return_exceptions=True):
                if isinstance(result, AWAY) or (
                    isinstance(result, BaseException) and not isinstance(result, TownhallError)
                ):
                    raise result
                if isinstance(result, TownhallError):
                    refused = result
        return refused

    def _history_changed(self, ready: WatchEvent, resume: int) -> bool:
        """Whether the positions we resumed from belong to another journal (a registry that keeps nothing restarted)."""
        changed = bool(self._history and ready.history and self._history != ready.history)
        self._history = ready.history
        return changed or (0 < ready.revision < resume)

    def _start_over(self) -> None:
        """Forget all positions, keep the pictures: the next round fetches everything.

        A registry that lost its memory knows nobody until the next heartbeat of each: what it does not tell of stays in
        the pictures for ``CLIENT_UNCONFIRMED_MS``. Whoever is really gone meanwhile fails the calls and is left out.
        The same holds for pictures from disk, when the journal that they belong to is not the registry's.
        """
        _log.warning("the registry's history began anew; fetching all services again")
        for entry in self._entries.values():
            entry.position, entry.streamed, entry.history = None, False, None
            if entry.picture is not None:
                entry.unconfirmed = _reachable(entry.picture)
        self._await_confirmation()
        self._position = 0
        self._wake.set()

    def _await_confirmation(self) -> None:
        if self._confirm_timer is not None:
            self._confirm_timer.cancel()
        loop = asyncio.get_running_loop()
        self._confirm_timer = loop.call_later(limits.CLIENT_UNCONFIRMED_MS / 1000, self._give_up_all_unconfirmed)

    def _give_up_all_unconfirmed(self) -> None:
        self._confirm_timer = None
        if self.state is not MirrorState.CONNECTED:
            # It is away again, and its providers have had no time to come back.
            self._await_confirmation()
            return
        for entry in self._entries.values():
            if entry.unconfirmed and not entry.saved_at_ms:
                _log.warning("%s: %d instances did not come back to the registry", entry.key, len(entry.unconfirmed))
                self._give_up_unconfirmed(entry)

    def _give_up_unconfirmed(self, entry: _Entry) -> None:
        gone, entry.unconfirmed = entry.unconfirmed, {}
        if gone and entry.picture is not None:
            self._show(entry, without(entry.picture, gone))

    # --- events --------------------------------------------------------------------------------------------------------

    def _take(self, event: WatchEvent) -> None:
        entry = self._entries.get(event.key)
        if entry is not None:
            self._apply(entry, event)
        # Whoever has this event has everything of the stream up to its position; several of one commit share it, and
        # then only the last one carries it.
        self._position = event.position or self._position

    def _apply(self, entry: _Entry, event: WatchEvent) -> None:
        if entry.unconfirmed:
            entry.unconfirmed, event = retained(entry.unconfirmed, event)
        change = folded(entry.picture, event)
        entry.saved_at_ms = 0
        if change is not None:
            self._show(entry, change)
        if event.ack and entry.picture is not None:
            self._acknowledging.add(entry.picture, entry.callers)

    def _show(self, entry: _Entry, change: Change) -> None:
        entry.picture = change.picture
        self._mark_unsaved(entry)
        self._tell(entry, change)

    def _mark_unsaved(self, entry: _Entry) -> None:
        self._unsaved.add(entry.key)
        self._save_wake.set()

    def _tell(self, entry: _Entry, change: Change) -> None:
        for listener in tuple(entry.listeners):
            listener(change)

    def _ready(self, event: WatchEvent, entries: list[_Entry]) -> None:
        self._acknowledging.subscriber = event.subscriber
        for entry in entries:
            if not entry.streamed:
                self._join(entry, event.history)
            if entry.picture is not None:
                self._acknowledging.add(entry.picture, entry.callers)
        if self._lost_timer is not None:
            self._lost_timer.cancel()
            self._lost_timer = None
        self._away = False
        self._set_state(MirrorState.CONNECTED)

    def _join(self, entry: _Entry, history: str) -> None:
        """A service is in the stream from now on, and ``history`` is the name of the journal that it tells of."""
        entry.streamed = True
        if entry.history == history:
            # The journal that we knew all along: what it does not tell of has been removed.
            self._give_up_unconfirmed(entry)
        else:
            entry.history = history
            self._mark_unsaved(entry)

    def _suspend(self, error: TownhallError) -> None:
        if not self._away:
            self._away, self._current_at = True, time.monotonic()
        if self.state is MirrorState.CONNECTED:
            _log.warning("the registry is away, going on with what is known: %s", error)
            self._set_state(MirrorState.SUSPENDED)
        if self.state is MirrorState.SUSPENDED and self._lost_timer is None:
            loop = asyncio.get_running_loop()
            self._lost_timer = loop.call_later(limits.CLIENT_LOST_MS / 1000, self._set_state, MirrorState.LOST)

    def _set_state(self, state: MirrorState) -> None:
        if state is not self.state:
            self.state = state
            _log.info("the mirror is %s", state)
            for listener in tuple(self._state_listeners):
                listener(state)

    # --- beside the stream ---------------------------------------------------------------------------------------------

    async def _save(self, files: SnapshotFiles) -> None:
        """Write what changed, each service at most once an interval."""
        failed = False
        while True:
            await self._save_wake.wait()
            self._save_wake.clear()
            keys, self._unsaved = self._unsaved, set()
            for entry in [entry for key in keys if (entry := self._entries.get(key)) is not None]:
                if entry.picture is None or entry.unconfirmed:
                    # What is on disk, under the name of the old journal, protects a restart of this process as well.
                    continue
                try:
                    await asyncio.to_thread(files.save, entry.picture, entry.history or "")
                    failed = False
                except OSError as error:
                    if not failed:
                        _log.warning("no snapshots on disk: %s", error)
                    failed = True
            await asyncio.sleep(limits.CLIENT_SNAPSHOT_INTERVAL_MS / 1000)


def _reachable(picture: Picture) -> dict[str, Instance]:
    return {one.id: one for one in picture.instances if one.callable or one.suspect}


def _target_size(key: ServiceKey) -> int:
    return len("&service=") + len(quote(watch_name(key), safe=""))
