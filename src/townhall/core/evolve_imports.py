"""What writes of keys do to the catalogue, where an import ties them.

The key is the truth: while it stands and can be read, the instance of its name is what it says, whoever registered
under that name before. Whoever deletes the key, or writes what cannot be read, takes the instance out deliberately;
the end of the key's lease takes both, and by expiry the instance goes silently (docs/decisions/0006).
"""

from __future__ import annotations

from collections.abc import Iterable

from townhall.core import Changes, facts
from townhall.core.evolve_catalogue import registered, remove
from townhall.core.state import State
from townhall.core.ties import below, instance_of, same_definition
from townhall.model.keys import KeyEvent, KeyValue
from townhall.model.tie import Tie

__all__ = ["forgotten", "keys_changed", "learnt"]


def keys_changed(state: State, space: str, events: Iterable[KeyEvent], changes: Changes) -> None:
    """Keys of a space were written or deleted."""
    ties = state.ties
    if ties is None or space not in ties.imports:
        return
    for event in events:
        tie = ties.import_of(space, event.key)
        if tie is not None:
            _follow(state, tie, event.before, event.after, changes)


def _follow(state: State, tie: Tie, before: KeyValue | None, after: KeyValue | None, changes: Changes) -> None:
    was = instance_of(tie, before) if before is not None else None
    now = instance_of(tie, after) if after is not None else None
    if now is None:
        if was is None:
            return
        service = state.service_to_change(was.key)
        stands = service.instances.get(was.id) if service is not None else None
        if service is not None and stands is not None:
            remove(state, service, stands, changes, silent=False)
        return
    service = state.services.get(now.key)
    stands = service.instances.get(now.id) if service is not None else None
    fresh = was is None or stands is None
    if fresh or stands is None or not same_definition(now, stands):
        registered(state, facts.Registered(now, fresh), changes)


def learnt(state: State, tie: Tie, changes: Changes) -> None:
    """A tie came into force: keys that stand already are instances from now on."""
    space = state.spaces.get(tie.space)
    for kv in space.range(*below(tie))[0] if space is not None else ():
        _follow(state, tie, None, kv, changes)


def forgotten(state: State, tie: Tie, changes: Changes) -> None:
    """A tie is not in force any more: its keys are simply keys."""
    space = state.spaces.get(tie.space)
    for kv in space.range(*below(tie))[0] if space is not None else ():
        _follow(state, tie, kv, None, changes)
