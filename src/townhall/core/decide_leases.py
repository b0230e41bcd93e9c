"""Decisions about leases: grant, end, lapse, recover, connections, sweeps, takeover."""

from __future__ import annotations

from itertools import chain, islice

from townhall.core import Context, Decision, Fact, Rules, commands, facts
from townhall.core.floor import Budget, instances_on
from townhall.core.state import Lease, State
from townhall.model import limits
from townhall.model.check import ACTIVE_KINDS
from townhall.model.errors import AlreadyExists, Fenced, InvalidField, LeaseNotFound, OverLimit
from townhall.model.instance import Verdict
from townhall.model.lease import EndReason, LeaseKind

__all__ = [
    "end_lease",
    "grant_lease",
    "lapse_leases",
    "lease_ttl_ms",
    "new_lease_id",
    "recover_lease",
    "set_connection",
    "sweep",
    "take_over_leases",
]

NOTHING = Decision(())


def lease_ttl_ms(ttl_ms: int, rules: Rules) -> int:
    """The TTL to grant; 0 asks for the default. Raises InvalidField outside the bounds."""
    if ttl_ms == 0:
        return rules.lease_ttl_default_ms
    if not rules.lease_ttl_min_ms <= ttl_ms <= limits.LEASE_TTL_MAX_MS:
        raise InvalidField(
            "ttl", f"{ttl_ms} ms is not between {rules.lease_ttl_min_ms} ms and {limits.LEASE_TTL_MAX_MS} ms"
        )
    return ttl_ms


def new_lease_id(state: State, context: Context) -> int:
    """An id for a new lease that nobody has. Raises OverLimit when there are too many leases."""
    guard_lease_count(state, context)
    while True:
        drawn = context.ids.lease_id()
        if drawn > 0 and drawn not in state.leases:
            return drawn


def guard_lease_count(state: State, context: Context) -> None:
    if len(state.leases) >= context.rules.leases_count_max:
        limit = context.rules.leases_count_max
        raise OverLimit(f"the registry holds {limit} leases already", limit=limit)


def grant_lease(state: State, command: commands.GrantLease, context: Context) -> Decision:
    """A new lease on its own."""
    ttl_ms = lease_ttl_ms(command.ttl_ms, context.rules)
    if command.id < 0 and command.kind is not LeaseKind.KEYS:  # etcd's clients may choose any number.
        raise InvalidField("id", "must not be negative")
    if command.id in state.leases:
        raise AlreadyExists(f"lease {command.id} exists", lease=command.id)
    if command.id:
        guard_lease_count(state, context)
    lease_id = command.id or new_lease_id(state, context)
    fact = facts.LeaseGranted(lease_id, ttl_ms, context.node, 1, command.kind)
    return Decision((fact,), commands.LeaseGrant(lease_id, ttl_ms))


def _known(state: State, lease_id: int) -> Lease:
    lease = state.leases.get(lease_id)
    if lease is None:
        raise LeaseNotFound(f"lease {lease_id} has ended or never was", advice="register again", lease=lease_id)
    return lease


def end_lease(state: State, command: commands.EndLease, context: Context) -> Decision:
    """End a lease deliberately; a stale epoch is fenced out."""
    lease = _known(state, command.id)
    if command.epoch and command.epoch != lease.epoch:
        raise Fenced(
            f"lease {command.id} is in epoch {lease.epoch}, not {command.epoch}", lease=command.id, epoch=lease.epoch
        )
    return Decision((facts.LeaseEnded(command.id, command.reason),))


def lapse_leases(state: State, command: commands.LapseLeases, context: Context) -> Decision:
    """Deadlines have passed. What was taken over, lapsed or ended meanwhile is skipped."""
    budget = Budget(state, context.rules, context.now_ms)
    decided: list[Fact] = []
    for lease_id, epoch in dict(command.leases).items():
        lease = state.leases.get(lease_id)
        if lease is None or lease.epoch != epoch or lease.lapsed_at:
            continue
        if lease.kind is LeaseKind.KEYS:
            # Exactly at its TTL, as keys promise. Instances that are keys go too, and count for those after them.
            budget.take(instances_on(state, lease), anyway=True)
            decided.append(facts.LeaseEnded(lease_id, EndReason.EXPIRED))
        else:
            held = not budget.take(instances_on(state, lease))
            decided.append(facts.LeaseLapsed(lease_id, held))
    return Decision(tuple(decided))


def recover_lease(state: State, command: commands.RecoverLease, context: Context) -> Decision:
    """A renewal of a silent lease: nothing was lost."""
    lease = _known(state, command.id)
    return Decision((facts.LeaseRecovered(command.id),)) if lease.silent else NOTHING


def set_connection(state: State, command: commands.SetConnection, context: Context) -> Decision:
    """Leases of keys live by their TTL alone; those of instances are SUSPECT at once."""
    changed: list[Lease] = []
    for lease_id in dict.fromkeys(command.leases):
        lease = state.leases.get(lease_id)
        if lease is not None and lease.kind is LeaseKind.INSTANCE and lease.connected != command.up:
            changed.append(lease)
    if not changed:
        return NOTHING
    held: list[int] = []
    if not command.up:
        budget = Budget(state, context.rules, context.now_ms)
        held = [lease.id for lease in changed if not budget.take(instances_on(state, lease))]
    ids = tuple([lease.id for lease in changed])
    return Decision((facts.LeaseConnectionChanged(ids, command.up, tuple(held)),))


def sweep(state: State, command: commands.Sweep, context: Context) -> Decision:
    """End what has been silent for longer than its grace; let go of what the floor need not hold any longer."""
    budget = Budget(state, context.rules, context.now_ms)
    decided: list[Fact] = []
    for lease_id in _to_scan(state, context.now_ms):
        if len(decided) >= command.count_max:
            break
        lease = state.leases[lease_id]
        if lease.held:
            silent_since = min(at for at in (lease.lapsed_at, lease.disconnected_at) if at)
            overdue = context.now_ms - silent_since >= context.rules.floor_hold_max_ms
            held = [instance for instance in instances_on(state, lease) if instance.evidence.held]
            if budget.take(held, anyway=overdue) or overdue:
                decided.append(facts.HoldReleased(lease_id))
        elif lease.lapsed_at and context.now_ms >= lease.lapsed_at + context.rules.eviction_grace_ttls * lease.ttl_ms:
            if _probed_well(state, lease) and context.now_ms - lease.lapsed_at < context.rules.floor_hold_max_ms:
                continue
            decided.append(facts.LeaseEnded(lease_id, EndReason.EXPIRED))
    return Decision(tuple(decided))


def _probed_well(state: State, lease: Lease) -> bool:
    """Whether the registry itself reaches every instance on the lease: then its silence is no reason to forget it yet."""
    instances = instances_on(state, lease)
    return bool(instances) and all(
        instance.evidence.probe is Verdict.UP
        and any(check.definition.kind in ACTIVE_KINDS for check in state.book.of_instance(instance.key, instance.id))
        for instance in instances
    )


def _to_scan(state: State, now_ms: int) -> list[int]:
    """The silent leases to look at. When there are very many, a stretch that begins elsewhere each time."""
    silent = state.silent
    count = len(silent)
    if count <= limits.SWEEP_SCAN_MAX:
        return list(silent)
    # Knuth's multiplier spreads even regularly spaced times, so every stretch gets its turn.
    start = (now_ms * 2_654_435_761) % count
    return list(islice(chain(islice(silent, start, None), silent), limits.SWEEP_SCAN_MAX))


def take_over_leases(state: State, command: commands.TakeOverLeases, context: Context) -> Decision:
    """This node watches them from now on. Nothing is journaled when there is none."""
    if not any(not command.owner or lease.owner == command.owner for lease in state.leases.values()):
        return NOTHING
    return Decision((facts.LeasesTakenOver(command.owner, context.node),))
