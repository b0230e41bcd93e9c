"""What facts about keys and sessions do to the state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from townhall.core import Changes, facts
from townhall.core.facts import KeyDeleted, KeyPut
from townhall.core.keyspace import Keyspace
from townhall.core.state import Lease, Session, State
from townhall.model.keys import KeyValue
from townhall.model.lease import SessionBehavior

__all__ = [
    "check_failed",
    "keys_written",
    "lease_ended",
    "session_closed",
    "session_opened",
    "space_compacted",
    "write",
]


def keys_written(state: State, fact: facts.KeysWritten, changes: Changes) -> None:
    """The writes of one transaction, under one revision; the space's first write makes it."""
    space = state.spaces.get(fact.space)
    if space is None:
        space = state.spaces[fact.space] = Keyspace(fact.space)
    write(state, space, fact.writes, changes)


def write(state: State, space: Keyspace, writes: Sequence[KeyPut | KeyDeleted], changes: Changes) -> None:
    """Apply, and keep the leases' lists of keys and the instances that are keys in step."""
    name, touched, ties = space.name, changes.keys, state.ties
    prefixes = ties.prefixes.get(name, ()) if ties is not None else ()
    tied = False
    events = space.apply(writes)
    for event in events:
        key, before, after = event.key, event.before, event.after
        place = (name, key)
        touched.append(place)
        if prefixes and not tied:
            tied = key.startswith(prefixes)
        was = before.lease if before is not None else 0
        now = after.lease if after is not None else 0
        if was != now:
            _move(state, place, was=was, now=now)
    revision = space.revision
    changes.firsts.setdefault(name, revision)
    if tied:
        from townhall.core.evolve_imports import keys_changed  # noqa: PLC0415 - it needs the catalogue, which needs this

        keys_changed(state, name, events, changes)
    # What follows from these writes may have written more, but their own revision is what their writer is told.
    changes.revisions[name] = revision


def _move(state: State, key: tuple[str, bytes], *, was: int, now: int) -> None:
    left = state.lease_to_change(was) if was else None
    if left is not None and left.keys is not None:
        left.keys.discard(key)
        if not left.keys:
            left.keys = None
    joined = state.lease_to_change(now) if now else None
    if joined is not None:
        if joined.keys is None:
            joined.keys = {key}
        else:
            joined.keys.add(key)


def space_compacted(state: State, fact: facts.SpaceCompacted, changes: Changes) -> None:
    """History before the revision is forgotten."""
    space = state.spaces.get(fact.space)
    if space is not None:
        space.compact(fact.revision)


def session_opened(state: State, fact: facts.SessionOpened, changes: Changes) -> None:
    """A session is there, and hangs on its lease."""
    text = state.interner.text
    state.sessions[fact.id] = Session(
        fact.id,
        text(fact.name),
        text(fact.node),
        fact.lease,
        fact.behavior,
        fact.lock_delay_ms,
        fact.data,
        state.position,
        fact.checks,
    )
    state.bind(state.sessions[fact.id])
    state.sessions_revision = state.position
    changes.sessions = True
    lease = state.lease_to_change(fact.lease) if fact.lease else None
    if lease is not None:
        if lease.sessions is None:
            lease.sessions = {fact.id}
        else:
            lease.sessions.add(fact.id)


def session_closed(state: State, fact: facts.SessionClosed, changes: Changes) -> None:
    """A session is gone: its keys are released or deleted, in one revision per space, and cannot be locked for the
    session's lock delay.
    """
    session = state.sessions.pop(fact.id, None)
    if session is None:
        return
    state.unbind(session)
    state.sessions_revision = state.position
    changes.sessions = True
    lease = state.lease_to_change(session.lease) if session.lease else None
    if lease is not None and lease.sessions is not None:
        lease.sessions.discard(session.id)
        if not lease.sessions:
            lease.sessions = None
    for space in list(state.spaces.values()):
        _release(state, space, session, changes)


def _release(state: State, space: Keyspace, session: Session, changes: Changes) -> None:
    keys = space.locked_by(session.id)
    if not keys:
        return
    now_ms = state.time_ms
    if session.lock_delay_ms:
        space.delay_locks(keys, until_ms=now_ms + session.lock_delay_ms, now_ms=now_ms)
    if session.behavior is SessionBehavior.DELETE:
        write(state, space, [KeyDeleted(key) for key in keys], changes)
    else:
        write(state, space, [_released(kv) for kv in map(space.get, keys) if kv is not None], changes)


def _released(kv: KeyValue) -> KeyPut:
    return KeyPut(kv.key, kv.value, kv.lease, kv.flags, "", kv.lock_index, kv.extra)


def check_failed(state: State, name: tuple[str, str], changes: Changes) -> None:
    """A check turned critical or went: the sessions that name it close, and with each the lease that it alone was on."""
    for session_id in sorted(state.bound.get(name, ())):
        session = state.sessions[session_id]
        session_closed(state, facts.SessionClosed(session_id), changes)
        lease = state.leases.get(session.lease)
        if lease is not None and lease.attachment_count == 0:
            del state.leases[lease.id]
            state.silent.pop(lease.id, None)
            changes.leases.add(lease.id)


def lease_ended(state: State, lease: Lease, changes: Changes) -> None:
    """A lease has been taken out of the state: its keys are deleted, in one revision per space and in the order of
    the keys (sets have none, and every node must do the same), then its sessions close.
    """
    for name, keys in _by_space(lease.keys or ()):
        space = state.spaces.get(name)
        if space is not None:
            write(state, space, [KeyDeleted(key) for _, key in keys], changes)
    for session_id in sorted(lease.sessions or ()):
        session_closed(state, facts.SessionClosed(session_id), changes)


def _by_space(keys: Iterable[tuple[str, bytes]]) -> Iterable[tuple[str, list[tuple[str, bytes]]]]:
    for name, group in groupby(sorted(keys), key=itemgetter(0)):
        yield name, list(group)
