"""What the catalogue does to keys, where an export ties them, and what a change of the ties does to both.

Exported keys are a projection: at the end of every commit each instance that it touched is shown as it is, or not at
all, in one revision of each space, after the revision of the commit's own writes there. They hang on no lease: when
the instance goes, so do they, by the same rule.
"""

from __future__ import annotations

from townhall.core import Changes, facts
from townhall.core.evolve_imports import forgotten, learnt
from townhall.core.evolve_keys import write
from townhall.core.facts import KeyDeleted, KeyPut
from townhall.core.keyspace import Keyspace
from townhall.core.state import State
from townhall.core.ties import Ties, below, value_of
from townhall.model.tie import Direction

__all__ = ["layouts_set", "project"]

_Writes = dict[str, list[KeyPut | KeyDeleted]]


def layouts_set(state: State, fact: facts.LayoutsSet, changes: Changes) -> None:
    """Other ties are in force: what came by the old ones alone goes, what the new ones add comes."""
    before = state.ties.all if state.ties is not None else ()
    gone = [tie for tie in before if tie not in fact.ties]
    come = [tie for tie in fact.ties if tie not in before]
    for tie in gone:
        if tie.direction is Direction.IMPORT:
            forgotten(state, tie, changes)
    # Foreign keys below an export that begins were refused; should there be any, the catalogue is right.
    for tie in (*gone, *come):
        space = state.spaces.get(tie.space)
        if tie.direction is Direction.EXPORT and space is not None and space.count(*below(tie)):
            write(state, space, [KeyDeleted(*below(tie))], changes)
    state.tie(Ties(fact.ties))
    for tie in come:
        if tie.direction is Direction.IMPORT:
            learnt(state, tie, changes)
    if state.touched is not None:
        shown = {(tie.namespace, tie.group) for tie in come if tie.direction is Direction.EXPORT}
        for key in sorted(key for key in state.services if (key.namespace, key.group) in shown):
            state.touched.update(((key, id_), None) for id_ in state.services[key].instances)


def project(state: State, changes: Changes) -> None:
    """Show what was touched since the last time as it is now."""
    ties, touched = state.ties, state.touched
    if ties is None or touched is None:
        return
    state.touched = {}
    writes: _Writes = {}
    for key, id_ in touched:
        service = state.services.get(key)
        instance = service.instances.get(id_) if service is not None else None
        for tie, name in ties.shown_as(key, id_):
            space = state.spaces.get(tie.space)
            before = space.get(name) if space is not None else None
            value = value_of(tie, instance)
            if value is None:
                if before is not None:
                    writes.setdefault(tie.space, []).append(KeyDeleted(name))
            elif before is None or before.value != value:
                writes.setdefault(tie.space, []).append(KeyPut(name, value))
    for space_name, of_space in writes.items():
        space = state.spaces.get(space_name)
        if space is None:
            space = state.spaces[space_name] = Keyspace(space_name)
        # A transaction of this commit must be told its own revision, not this one.
        told = changes.revisions.get(space_name)
        write(state, space, of_space, changes)
        if told is not None:
            changes.revisions[space_name] = told
