"""From what an engine holds to a State: snapshot, then the journal behind it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from townhall.core import Changes
from townhall.core.codec import decode_commit, load_state
from townhall.core.evolve import evolve
from townhall.core.state import State
from townhall.model.errors import Damaged

if TYPE_CHECKING:
    from townhall.engine import Engine

__all__ = ["Progress", "Recovered", "recover"]

_log = logging.getLogger(__name__)

PROGRESS_EVERY_COUNT: Final = 50_000
"""Entries between two progress calls: about half a second."""

_CHANGES_SPAN_COUNT: Final = 1_000
"""Commits that share one account of what changed: cheap to make, small to keep."""

Progress = Callable[[int, int], None]
"""Called with (entries replayed, entries to replay); must be quick."""


class Recovered(NamedTuple):
    """What came of it."""

    state: State
    snapshot: int
    """Position of the snapshot it began with; 0 when there was none."""
    replayed: int
    """Entries that were replayed on top."""
    replayed_size: int
    """Bytes of those entries."""


def recover(engine: Engine, *, progress: Progress | None = None) -> Recovered:
    """Open the engine and rebuild the state at its tail. Blocking; a million instances take seconds.

    Raises EngineFailed (locked, unreadable) and Damaged (stored bytes are not what was written, or were written by a
    version that knows more). The engine is closed again when this fails.
    """
    opened = engine.open()
    collecting = gc.isenabled()
    # Nothing that is made here dies here, so every collection would be a walk for nothing.
    gc.disable()
    try:
        state = load_state(engine.snapshot()) if opened.snapshot else State()
        if state.position != opened.snapshot:
            raise Damaged(f"the snapshot of position {opened.snapshot} says {state.position}", position=opened.snapshot)
        replayed, size = _replay(engine, state, opened.tail - opened.snapshot, progress)
        if state.position != opened.tail:
            raise Damaged(f"the journal ends at {state.position}, not at {opened.tail}", position=state.position)
    except BaseException:
        engine.close()
        raise
    finally:
        if collecting:
            gc.enable()
    # What stands now will mostly stand for long: later collections need not look at it.
    gc.freeze()
    _log.info("recovered position %d (snapshot %d, %d entries replayed)", state.position, opened.snapshot, replayed)
    return Recovered(state, opened.snapshot, replayed, size)


def _replay(engine: Engine, state: State, expected: int, progress: Progress | None) -> tuple[int, int]:
    replayed = size = spaces = 0
    changes = Changes(state.position)  # Nobody waits yet: what changed only has to go somewhere.
    for position, blob in engine.follow(state.position):
        if position != state.position + 1:
            raise Damaged(f"entry {position} follows {state.position}", position=state.position + 1)
        if spaces != len(state.spaces):
            spaces = len(state.spaces)
            for space in state.spaces.values():
                space.unsort()
        evolve(state, decode_commit(blob, position), changes)
        replayed += 1
        if replayed % _CHANGES_SPAN_COUNT == 0:
            changes = Changes(position)
        size += len(blob)
        if progress is not None and replayed % PROGRESS_EVERY_COUNT == 0:
            progress(replayed, expected)
    for space in state.spaces.values():
        space.sort()
    if progress is not None:
        progress(replayed, expected)
    return replayed, size
