"""What facts about instances and services do to the state."""

from __future__ import annotations

from msgspec.structs import replace

from townhall.core import Changes, facts
from townhall.core.evolve_keys import check_failed
from townhall.core.health import judge
from townhall.core.state import DEFAULT_SETTINGS, Lease, Service, State
from townhall.core.tally import settled
from townhall.model.instance import CLEAR, PROBED, Evidence, Instance, ServiceKey

__all__ = [
    "deregistered", "drain_cancelled", "drain_started", "maintenance_set", "note_node", "override_set", "registered", "remove", "reported",
    "restate", "service_deleted", "service_put", "touch",
]  # fmt: skip


def registered(state: State, fact: facts.Registered, changes: Changes) -> None:
    """An instance stands, new, of a new incarnation, or changed."""
    wanted = fact.instance
    lease = state.leases.get(wanted.lease) if wanted.lease else None
    if wanted.lease and lease is None:
        return
    service = state.services.get(wanted.key)
    before = service.instances.get(wanted.id) if service is not None else None
    if before is None and not fact.fresh:
        return
    service = state.make_service(wanted.key)
    after = _standing(state, service.key, before, fact, lease)
    if before is None:
        service.tally.note_back(after.id)
        if state.ephemeral.gone is not None:
            state.ephemeral.note_back((service.key, after.id))
    _changed(state, service, before, after, changes)


def _standing(
    state: State, key: ServiceKey, before: Instance | None, fact: facts.Registered, lease: Lease | None
) -> Instance:
    """The instance as it stands after the fact, with values shared and all derived fields set."""
    wanted = fact.instance
    evidence = _evidence_on(lease, None if fact.fresh else before)
    # Also when it leaves a node whose checks spoke for or against it.
    if wanted.node or evidence.probe is not None or state.book.by_instance:
        evidence = _normal(state.book.evidence(evidence, key, wanted.id, wanted.node))
    verdict, reason = judge(enabled=wanted.enabled, ready=wanted.ready, evidence=evidence)
    position, now_ms = state.position, state.time_ms
    incarnation, registered_at, since = position, now_ms, now_ms
    if before is not None and not fact.fresh:
        incarnation, registered_at = before.incarnation, before.registered_at
        since = before.since if before.verdict is verdict else now_ms
    return replace(
        state.interner.instance(wanted),
        key=key,
        id=before.id if before is not None else wanted.id,
        lease=lease.id if lease is not None else 0,
        incarnation=incarnation,
        registered_at=registered_at,
        revision=position,
        verdict=verdict,
        reason=reason,
        since=since,
        evidence=evidence,
        stamp=state.stamp,
        stamp_node=state.stamp_node,
    )


def _evidence_on(lease: Lease | None, before: Instance | None) -> Evidence:
    """What an instance that goes on (or begins, ``before`` None) has for and against it on this lease."""
    evidence = CLEAR if before is None else before.evidence
    lapsed_at, disconnected_at = (lease.lapsed_at, lease.disconnected_at) if lease is not None else (0, 0)
    if evidence is CLEAR and not lapsed_at and not disconnected_at:
        return CLEAR
    same_lease = lease is not None and before is not None and before.lease == lease.id
    held = evidence.held and same_lease and bool(lapsed_at or disconnected_at)
    return _normal(replace(evidence, lapsed_at=lapsed_at, disconnected_at=disconnected_at, held=held))


def _normal(evidence: Evidence) -> Evidence:
    # Most instances have no evidence; they share one object, which also makes the usual case quick to recognise.
    if evidence is PROBED or evidence == CLEAR:
        return evidence if evidence is PROBED else CLEAR
    return PROBED if evidence == PROBED else evidence


def restate(state: State, service: Service, before: Instance, evidence: Evidence, changes: Changes) -> None:
    """Give an instance other evidence and judge it anew. ``service`` must be for changing."""
    evidence = _normal(evidence)
    if evidence != before.evidence:
        _judge_anew(state, service, before, evidence, changes)


def touch(state: State, key: ServiceKey, id: str, changes: Changes) -> None:  # noqa: A002 - the catalogue's word
    """What checks or a node say of an instance changed: judge it anew. It counts as changed in any case."""
    found = _find(state, key, id)
    if found is not None:
        service, before = found
        evidence = _normal(state.book.evidence(before.evidence, key, id, before.node))
        _judge_anew(state, service, before, evidence, changes)


def _judge_anew(state: State, service: Service, before: Instance, evidence: Evidence, changes: Changes) -> None:
    verdict, reason = judge(enabled=before.enabled, ready=before.ready, evidence=evidence)
    after = replace(
        before,
        evidence=evidence,
        verdict=verdict,
        reason=reason,
        since=before.since if verdict is before.verdict else state.time_ms,
        revision=state.position,
        stamp=state.stamp,
        stamp_node=state.stamp_node,
    )
    _changed(state, service, before, after, changes)


def _changed(state: State, service: Service, before: Instance | None, after: Instance, changes: Changes) -> None:
    state.store(service, before, after)
    state.note_change(service, after.id)
    changes.services.add(service.key)
    if after.node:
        note_node(state, after.node, changes)
    if before is not None and before.node and before.node != after.node:
        note_node(state, before.node, changes)
    if before is None or before.callable != after.callable or before.tags != after.tags:
        _listing_changed(state, service.key, changes)


def _listing_changed(state: State, key: ServiceKey, changes: Changes) -> None:
    state.note_listing(key.namespace)
    changes.listings.add(key.namespace)


def note_node(state: State, name: str, changes: Changes) -> None:
    """A node, or what is on it, changed."""
    state.book.note_node(name, state.position)
    changes.nodes.add(name)


def remove(state: State, service: Service, before: Instance, changes: Changes, *, silent: bool) -> None:
    """Take an instance out with its checks. ``silent``: nobody asked for it, so it counts against the floor for a
    while.
    """
    book = state.book
    for name in list(book.by_instance.get((service.key, before.id), ())) if book.by_instance else ():
        book.drop(name)
        book.checks_revision = state.position
        changes.checks.add(name)
        check_failed(state, name, changes)
        note_node(state, name[0], changes)
    state.store(service, before, None)
    if before.node:
        note_node(state, before.node, changes)
    if silent and not settled(before):
        service.tally.note_gone(before.id, state.time_ms)
        if before.lease:
            state.ephemeral.note_gone((service.key, before.id), state.time_ms)
    state.note_change(service, before.id)
    changes.services.add(service.key)
    _listing_changed(state, service.key, changes)
    if not service.instances and not service.explicit:
        state.drop_service(service)


def _find(state: State, key: ServiceKey, id: str) -> tuple[Service, Instance] | None:  # noqa: A002
    service = state.service_to_change(key)
    instance = service.instances.get(id) if service is not None else None
    return None if service is None or instance is None else (service, instance)


def deregistered(state: State, fact: facts.Deregistered, changes: Changes) -> None:
    """An instance was removed deliberately."""
    found = _find(state, fact.key, fact.id)
    if found is not None:
        remove(state, *found, changes, silent=False)


def override_set(state: State, fact: facts.OverrideSet, changes: Changes) -> None:
    """The operator's word settles a hold: what was only kept callable by the floor is what the operator says."""
    found = _find(state, fact.key, fact.id)
    if found is not None:
        evidence = found[1].evidence
        held = evidence.held and fact.verdict is None
        evidence = replace(
            evidence, override=fact.verdict, override_reason=fact.reason if fact.verdict else "", held=held
        )
        restate(state, *found, evidence, changes)


def maintenance_set(state: State, fact: facts.MaintenanceSet, changes: Changes) -> None:
    """Maintenance began or ended."""
    found = _find(state, fact.key, fact.id)
    if found is not None:
        restate(state, *found, replace(found[1].evidence, maintenance=fact.reason), changes)


def drain_started(state: State, fact: facts.DrainStarted, changes: Changes) -> None:
    """A drain began, or got another deadline."""
    found = _find(state, fact.key, fact.id)
    if found is not None:
        evidence = found[1].evidence
        draining_at = evidence.draining_at or state.time_ms
        restate(state, *found, replace(evidence, draining_at=draining_at, drain_deadline=fact.deadline), changes)
        _tell_lease(found[1], changes)


def drain_cancelled(state: State, fact: facts.DrainCancelled, changes: Changes) -> None:
    """A drain was taken back."""
    found = _find(state, fact.key, fact.id)
    if found is not None:
        restate(state, *found, replace(found[1].evidence, draining_at=0, drain_deadline=0), changes)
        _tell_lease(found[1], changes)


def _tell_lease(instance: Instance, changes: Changes) -> None:
    # A provider's session waits for its leases rather than for every change of the services on them.
    if instance.lease:
        changes.leases.add(instance.lease)


def reported(state: State, fact: facts.Reported, changes: Changes) -> None:
    """Callers' reports settle a hold: an instance that is silent and fails its callers is gone."""
    found = _find(state, fact.key, fact.id)
    if found is not None:
        evidence = found[1].evidence
        reported_at = state.time_ms if fact.report else 0
        held = evidence.held and not fact.report
        restate(state, *found, replace(evidence, reported_at=reported_at, report=fact.report, held=held), changes)


def service_put(state: State, fact: facts.ServicePut, changes: Changes) -> None:
    """A service exists by itself."""
    service = state.make_service(fact.key)
    service.explicit = True
    service.metadata = state.interner.pairs(fact.metadata)
    service.settings = DEFAULT_SETTINGS if fact.settings == DEFAULT_SETTINGS else fact.settings
    service.revision = state.position
    changes.services.add(service.key)
    _listing_changed(state, service.key, changes)


def service_deleted(state: State, fact: facts.ServiceDeleted, changes: Changes) -> None:
    """A service stops to exist by itself; one that still has instances stays for them."""
    service = state.service_to_change(fact.key)
    if service is None:
        return
    service.explicit = False
    service.metadata = {}
    service.settings = DEFAULT_SETTINGS
    service.revision = state.position
    changes.services.add(service.key)
    _listing_changed(state, service.key, changes)
    if not service.instances:
        state.drop_service(service)
