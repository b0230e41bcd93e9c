"""Decisions about keys and sessions, and what each depends on and touches.

Footprints: a transaction claims every key and range that any of its branches compares, reads (``Shared``) or writes,
and relies (``Shared``) on the leases and sessions that it hangs keys on. So puts of different keys share a group,
those of one key, or into a range that another transaction looks at, do not. A transaction that only reads claims
nothing: it is answered from the durable state, which is one point in the order of writes like any other. Revisions
are given by ``evolve``, so they tie no two commands together.

What ends a lease or a session claims the keys that go with it. Limits on sizes and counts are judged against the
durable state: side by side, the commands of one group may pass them by what one group holds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from townhall.core import EVERYTHING, Context, Decision, Fact, Footprint, KeyRange, Shared, commands, facts
from townhall.core.decide_leases import lease_ttl_ms, new_lease_id
from townhall.core.decide_ties import guard_writes
from townhall.core.facts_guard import AlarmSet
from townhall.core.keyspace import Keyspace
from townhall.core.state import Lease, Session, State
from townhall.core.transaction import Ground, evaluate
from townhall.core.transaction_rules import check, only_key, only_put, puts, spans
from townhall.model import limits, names
from townhall.model.check import CheckStatus
from townhall.model.errors import AlreadyExists, Compacted, Conflict, InvalidField, NotFound, OverLimit
from townhall.model.guard import Alarm
from townhall.model.keys import Put, Transaction
from townhall.model.lease import EndReason, LeaseKind, SessionBehavior

__all__ = [
    "claim_bound", "claim_session", "close_session", "close_session_footprint", "compact_space", "compact_space_footprint",
    "lease_end_footprint", "open_session",
    "open_session_footprint", "transact", "transact_footprint",
]  # fmt: skip

_CLAIMS_COUNT_MAX = 64
"""What would claim more than this for a lease's or a session's end is decided alone."""

# --- transactions ----------------------------------------------------------------------------------------------------


def transact(state: State, command: commands.Transact, context: Context) -> Decision:
    """Work a transaction out; its writes are one fact. Result: ``TransactResult``, unsettled when it writes."""
    transaction = command.transaction
    put = only_put(transaction)
    check(transaction if put is None else put)
    guard = state.guards.get(command.space)
    if guard is not None and Alarm.NO_SPACE in guard.alarms and puts(transaction):
        raise _full(command.space, context)
    space = state.spaces.get(command.space)
    if space is None:
        space = _new_space(state, command.space)
    found = evaluate(Ground(state, space, context.now_ms), transaction if put is None else put)
    writes, result, growth = found.writes, found.result, found.growth
    if not writes:
        return Decision((), result)
    ties = state.ties
    if ties is not None and (
        space.name in ties.exports_in or state.instance_count >= context.rules.instances_count_max
    ):
        guard_writes(state, space, writes, context)
    if growth > 0 and space.live_size + growth > context.rules.space_size_max:
        full = _full(space.name, context)
        if not command.alarm:
            raise full
        return Decision((facts.GuardChanged(space.name, AlarmSet(Alarm.NO_SPACE, True)),), full)
    return Decision((facts.KeysWritten(command.space, tuple(writes)),), result)


def _full(space: str, context: Context) -> OverLimit:
    limit = context.rules.space_size_max
    return OverLimit(f"space {space!r} is full", advice="delete keys", limit=limit, space=space)


def _new_space(state: State, name: str) -> Keyspace:
    """What a space looks like before its first write makes it."""
    names.label(name, "space")
    if len(state.spaces) >= limits.SPACES_COUNT_MAX:
        raise OverLimit(f"there are {len(state.spaces)} spaces already", limit=limits.SPACES_COUNT_MAX)
    return Keyspace(name)


def transact_footprint(state: State, command: commands.Transact) -> Footprint:
    """See the head of this file."""
    name, transaction = command.space, command.transaction
    if name in state.spaces:
        put = only_put(transaction)
        key = only_key(transaction) if put is None else b"" if put.lease or put.session else put.key
        if key:
            return frozenset((KeyRange(name, key),))
    touched: dict[tuple[bytes, bytes], bool] = {}
    for start, end, write in spans(transaction):
        touched[start, end] = write or touched.get((start, end), False)
    if True not in touched.values():
        return frozenset()
    claims: set[Hashable] = set()
    for (start, end), write in touched.items():
        span = KeyRange(name, start, end)
        # What is written meets all that would meet it if it were only read.
        claims.add(span if write else Shared(span))
    _rely(transaction, claims)
    if name not in state.spaces:
        claims.add(("space", name))
    return frozenset(claims)


def _rely(transaction: Transaction, claims: set[Hashable]) -> None:
    for operations in (transaction.success, transaction.failure):
        for op in operations:
            if isinstance(op, Put):
                if op.lease:
                    claims.add(Shared(("lease", op.lease)))
                if op.session:
                    claims.add(Shared(("session", op.session)))
            elif isinstance(op, Transaction):
                _rely(op, claims)


def lease_end_footprint(state: State, lease: Lease) -> Footprint:
    """The claims of a lease's end: the lease itself and all that goes with it."""
    if lease.attachment_count > _CLAIMS_COUNT_MAX:
        return EVERYTHING
    claims: set[Hashable] = {("lease", lease.id), *lease.attached()}
    claims.update(KeyRange(space, key) for space, key in lease.keys or ())
    for session_id in lease.sessions or ():
        claim_session(state, session_id, claims)
    if state.bound:
        for instance in lease.attached():
            claim_bound(state, state.book.by_instance.get(instance, ()), claims)
    return frozenset(claims) if len(claims) <= _CLAIMS_COUNT_MAX else EVERYTHING


def claim_bound(state: State, checks: Iterable[tuple[str, str]], claims: set[Hashable]) -> None:
    """Claim the sessions that end with these checks."""
    for name in checks:
        for session_id in state.bound.get(name, ()):
            claim_session(state, session_id, claims)
            claims.add(("lease", state.sessions[session_id].lease))


def claim_session(state: State, session_id: str, claims: set[Hashable]) -> None:
    """Claim a session that ends, and the keys that it holds."""
    claims.add(("session", session_id))
    for space in state.spaces.values():
        claims.update(KeyRange(space.name, key) for key in space.locked_by(session_id))


def compact_space(state: State, command: commands.CompactSpace, context: Context) -> Decision:
    """Forget history. Raises NotFound (no such space), Compacted (done already), InvalidField (in the future)."""
    space = state.spaces.get(command.space)
    if space is None:
        raise NotFound(f"no space {command.space!r}", space=command.space)
    if command.revision > space.revision or command.revision < 0:
        raise InvalidField("revision", f"{command.revision} is not between 0 and {space.revision}")
    if command.revision <= space.compacted:
        if space.compacted == 0:
            return Decision(())
        raise Compacted(f"{command.space!r} is compacted up to {space.compacted}", oldest=space.compacted)
    return Decision((facts.SpaceCompacted(command.space, command.revision),))


def compact_space_footprint(state: State, command: commands.CompactSpace) -> Footprint:
    """Reads at old revisions are answered before a compaction that shares their group, as if they had come earlier."""
    return frozenset({("compacted", command.space)})


# --- sessions --------------------------------------------------------------------------------------------------------


def open_session(state: State, command: commands.OpenSession, context: Context) -> Decision:
    """A session, on a lease of its own when it has a TTL. Result: its id.

    Raises InvalidField (bounds), AlreadyExists (the id), OverLimit (too many sessions or leases).
    """
    _check_session(command)
    _guard_checks(state, command)
    session_id = command.id or context.ids.name()
    if session_id in state.sessions:
        raise AlreadyExists(f"session {session_id!r} exists", session=session_id)
    if len(state.sessions) >= context.rules.leases_count_max:
        limit = context.rules.leases_count_max
        raise OverLimit(f"the registry holds {limit} sessions already", limit=limit)
    decided: list[Fact] = []
    lease_id = 0
    if command.ttl_ms:
        ttl_ms = lease_ttl_ms(command.ttl_ms, context.rules)
        lease_id = new_lease_id(state, context)
        decided.append(facts.LeaseGranted(lease_id, ttl_ms, context.node, 1, LeaseKind.KEYS))
    decided.append(
        facts.SessionOpened(
            session_id,
            command.name,
            command.node,
            lease_id,
            command.behavior,
            command.lock_delay_ms,
            command.data,
            command.checks,
        )
    )
    return Decision(tuple(decided), session_id)


def _check_session(command: commands.OpenSession) -> None:
    names.label(command.id, "id", empty=True)
    names.label(command.name, "name", empty=True)
    names.label(command.node, "node", empty=True)
    names.metadata(command.data, "data")
    if not isinstance(command.behavior, SessionBehavior):
        raise InvalidField("behavior", f"{command.behavior!r} is not one")
    if not 0 <= command.lock_delay_ms <= limits.SESSION_LOCK_DELAY_MAX_MS:
        raise InvalidField("lock_delay", f"is not between 0 and {limits.SESSION_LOCK_DELAY_MAX_MS} ms")


def _guard_checks(state: State, command: commands.OpenSession) -> None:
    if len(command.checks) > limits.CHECKS_PER_INSTANCE_MAX:
        raise InvalidField("checks", f"{len(command.checks)} checks, at most {limits.CHECKS_PER_INSTANCE_MAX}")
    for id_ in command.checks:
        check = state.book.checks.get((command.node, id_))
        if check is None:
            raise NotFound(f"no check {id_!r} on node {command.node!r}", node=command.node, check=id_)
        if check.status is CheckStatus.CRITICAL:
            raise Conflict(f"check {id_!r} is critical", advice="open the session when it passes", check=id_)


def open_session_footprint(state: State, command: commands.OpenSession) -> Footprint:
    """A drawn id is nobody else's. The checks that it names must live and not turn critical meanwhile."""
    claims: set[Hashable] = {("session", command.id)} if command.id else set()
    for id_ in command.checks:
        claims.add(Shared(("check", command.node, id_)))
        check = state.book.checks.get((command.node, id_))
        if check is not None and check.key is not None:
            claims.add(Shared((check.key, check.instance)))
    return frozenset(claims)


def close_session(state: State, command: commands.CloseSession, context: Context) -> Decision:
    """End a session and the lease it was opened with. Raises NotFound."""
    session = state.sessions.get(command.id)
    if session is None:
        raise NotFound(f"no session {command.id!r}", session=command.id)
    closed = facts.SessionClosed(session.id)
    if _own_lease(state, session) is None:
        return Decision((closed,))
    return Decision((closed, facts.LeaseEnded(session.lease, EndReason.REVOKED)))


def _own_lease(state: State, session: Session) -> Lease | None:
    """The session's lease, when nothing but the session hangs on it."""
    lease = state.leases.get(session.lease)
    return lease if lease is not None and lease.attachment_count <= 1 else None


def close_session_footprint(state: State, command: commands.CloseSession) -> Footprint:
    """The session, its lease and the keys it holds."""
    claims: set[Hashable] = set()
    claim_session(state, command.id, claims)
    session = state.sessions.get(command.id)
    if session is not None and session.lease:
        claims.add(("lease", session.lease))
    return frozenset(claims) if len(claims) <= _CLAIMS_COUNT_MAX else EVERYTHING
