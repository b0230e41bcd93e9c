"""What facts about leases do to the state: one small fact, fanned out to everything that hangs on the lease."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from townhall.core import Changes, evolve_keys, facts
from townhall.core.evolve_catalogue import remove, restate
from townhall.core.state import Lease, State
from townhall.model.instance import Evidence, Instance
from townhall.model.lease import EndReason

__all__ = ["connection_changed", "ended", "granted", "hold_released", "lapsed", "recovered", "taken_over"]


def granted(state: State, fact: facts.LeaseGranted, changes: Changes) -> None:
    """A lease began, or got another TTL."""
    lease = state.lease_to_change(fact.id)
    if lease is None:
        state.leases[fact.id] = Lease(
            fact.id,
            fact.ttl_ms,
            state.interner.text(fact.owner),
            fact.epoch,
            fact.kind,
            state.generation,
            granted_at=state.time_ms,
            own=fact.own,
        )
    else:
        lease.ttl_ms = fact.ttl_ms
        lease.owner = state.interner.text(fact.owner)
        lease.epoch = fact.epoch
    changes.leases.add(fact.id)


def ended(state: State, fact: facts.LeaseEnded, changes: Changes) -> None:
    """Everything on the lease goes: instances, then sessions and keys."""
    lease = state.leases.pop(fact.id, None)
    if lease is None:
        return
    state.silent.pop(lease.id, None)
    changes.leases.add(lease.id)
    silent = fact.reason is EndReason.EXPIRED
    for key, id_ in sorted(lease.attached()):
        service = state.service_to_change(key)
        instance = service.instances.get(id_) if service is not None else None
        if service is not None and instance is not None:
            remove(state, service, instance, changes, silent=silent)
    if lease.keys or lease.sessions:
        evolve_keys.lease_ended(state, lease, changes)


def lapsed(state: State, fact: facts.LeaseLapsed, changes: Changes) -> None:
    """The instances are SUSPECT; the floor keeps callable what was callable, when it holds."""
    lease = state.lease_to_change(fact.id)
    if lease is None or lease.lapsed_at:
        return
    now_ms = lease.lapsed_at = state.time_ms
    state.silent.setdefault(lease.id)
    _restate_all(state, lease, changes, lambda instance: _silenced(instance, held=fact.held, lapsed_at=now_ms))


def recovered(state: State, fact: facts.LeaseRecovered, changes: Changes) -> None:
    """A renewal came after all: it outweighs the missed deadline and an older broken connection."""
    lease = state.lease_to_change(fact.id)
    if lease is None or not lease.silent:
        return
    lease.lapsed_at = lease.disconnected_at = 0
    state.silent.pop(lease.id, None)
    _restate_all(
        state, lease, changes, lambda instance: replace(instance.evidence, lapsed_at=0, disconnected_at=0, held=False)
    )


def connection_changed(state: State, fact: facts.LeaseConnectionChanged, changes: Changes) -> None:
    """The connection behind leases came up or broke."""
    held = frozenset(fact.held)
    for id_ in fact.ids:
        lease = state.lease_to_change(id_)
        if lease is None or lease.connected == fact.up:
            continue
        if fact.up:
            _connected(state, lease, changes)
        else:
            _disconnected(state, lease, changes, held=id_ in held)


def _connected(state: State, lease: Lease, changes: Changes) -> None:
    lease.disconnected_at = 0
    still_silent = lease.lapsed_at != 0
    if not still_silent:
        state.silent.pop(lease.id, None)
    _restate_all(
        state,
        lease,
        changes,
        lambda instance: replace(instance.evidence, disconnected_at=0, held=instance.evidence.held and still_silent),
    )


def _disconnected(state: State, lease: Lease, changes: Changes, *, held: bool) -> None:
    now_ms = lease.disconnected_at = state.time_ms
    state.silent.setdefault(lease.id)
    _restate_all(state, lease, changes, lambda instance: _silenced(instance, held=held, disconnected_at=now_ms))


def _silenced(instance: Instance, *, held: bool, lapsed_at: int = 0, disconnected_at: int = 0) -> Evidence:
    evidence = instance.evidence
    return replace(
        evidence,
        lapsed_at=lapsed_at or evidence.lapsed_at,
        disconnected_at=disconnected_at or evidence.disconnected_at,
        held=held and instance.callable and evidence.override is None,
    )


def hold_released(state: State, fact: facts.HoldReleased, changes: Changes) -> None:
    """The floor lets go: the instances are SUSPECT like any other silent ones."""
    lease = state.lease_to_change(fact.id)
    if lease is not None and lease.held:
        _restate_all(state, lease, changes, lambda instance: replace(instance.evidence, held=False))


def taken_over(state: State, fact: facts.LeasesTakenOver, changes: Changes) -> None:
    """Another node watches these leases from now on; their epochs fence out what the old one still says."""
    node = state.interner.text(fact.node)
    for id_ in [lease.id for lease in state.leases.values() if not fact.owner or lease.owner == fact.owner]:
        lease = state.lease_to_change(id_)
        assert lease is not None
        lease.owner = node
        lease.epoch += 1
        changes.leases.add(id_)


def _restate_all(state: State, lease: Lease, changes: Changes, evidence_of: Callable[[Instance], Evidence]) -> None:
    changes.leases.add(lease.id)
    attached = lease.attached()
    for key, id_ in sorted(attached) if len(attached) > 1 else attached:
        service = state.service_to_change(key)
        instance = service.instances.get(id_) if service is not None else None
        if service is not None and instance is not None:
            restate(state, service, instance, evidence_of(instance), changes)
