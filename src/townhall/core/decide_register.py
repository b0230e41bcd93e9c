"""The decision about ``Register``: upsert, incarnations by claim, and which lease carries the instance."""

from __future__ import annotations

from msgspec.structs import replace

from townhall.core import Context, Decision, Fact, facts
from townhall.core.commands import Register, Registration
from townhall.core.decide_checks import check_facts
from townhall.core.decide_leases import lease_ttl_ms, new_lease_id
from townhall.core.decide_ties import guard_definition
from townhall.core.state import Lease, Service, State
from townhall.model import limits
from townhall.model.check import word_name
from townhall.model.errors import Conflict, InvalidField, LeaseNotFound, OverLimit
from townhall.model.instance import Instance, ServiceKey
from townhall.model.lease import EndReason, LeaseKind

__all__ = ["register", "same_incarnation"]


_BLANK = Instance(key=ServiceKey("", "", ""), id="", address="")


def same_incarnation(claim: str, existing: Instance) -> bool:
    """Whether a registration with this claim goes on with what is there; without a claim nobody can tell otherwise."""
    return not claim or not existing.claim or claim == existing.claim


def register(state: State, command: Register, context: Context) -> Decision:
    """Decide a registration. Idempotent: what stands already is not journaled again."""
    _guard_definition(command)
    if state.ties is not None:
        guard_definition(state, command.key, command.id)
    service = state.services.get(command.key)
    existing = service.instances.get(command.id) if service is not None else None
    if existing is None:
        _guard_counts(state, service, context)
    goes_on = existing is not None and same_incarnation(command.claim, existing)
    decided: list[Fact] = []
    lease_id, ttl_ms = _place(state, command, context, existing if goes_on else None, decided)
    checks = _checks(state, command) if command.checks else ()
    if existing is not None and goes_on and _stands(existing, command, lease_id):
        decided.extend(checks)
        return Decision(tuple(decided), Registration(existing, lease_id, ttl_ms, fresh=False))
    claim = command.claim or (existing.claim if existing is not None and goes_on else "")
    instance = _instance(command, claim=claim, lease=lease_id, existing=existing if goes_on else None)
    decided.append(facts.Registered(instance, not goes_on))
    word = word_name(command.key, command.id)
    if not goes_on and word in state.book.checks and all((put.node, put.id) != word for put in command.checks):
        decided.append(facts.CheckDeleted(*word))  # What somebody said of the incarnation before.
    decided.extend(checks)
    if existing is not None and existing.lease and existing.lease != lease_id:
        old = state.leases.get(existing.lease)
        if old is not None and old.attachment_count <= 1:
            decided.append(facts.LeaseEnded(old.id, EndReason.SUPERSEDED))
    return Decision(tuple(decided), Registration(instance, lease_id, ttl_ms, fresh=not goes_on))


def _checks(state: State, command: Register) -> tuple[Fact, ...]:
    return check_facts(state, tuple(replace(put, key=command.key, instance=command.id) for put in command.checks))


def _guard_definition(command: Register) -> None:
    """What names.py checks in the faces field by field is guarded here by count, for those who come another way."""
    if command.persistent and command.lease:
        raise InvalidField("lease", "a persistent instance hangs on no lease")
    if (
        len(command.tags) > limits.TAGS_COUNT_MAX
        or len(command.metadata) > limits.METADATA_COUNT_MAX
        or len(command.ports) > limits.PORTS_COUNT_MAX
        or len(command.extra) > limits.METADATA_COUNT_MAX
        or len(command.checks) > limits.CHECKS_PER_INSTANCE_MAX
        or len(command.id) > limits.INSTANCE_ID_SIZE_MAX
    ):
        _refuse_definition(command)


def _refuse_definition(command: Register) -> None:
    for field, count, count_max in (
        ("tags", len(command.tags), limits.TAGS_COUNT_MAX),
        ("metadata", len(command.metadata), limits.METADATA_COUNT_MAX),
        ("ports", len(command.ports), limits.PORTS_COUNT_MAX),
        ("extra", len(command.extra), limits.METADATA_COUNT_MAX),
        ("checks", len(command.checks), limits.CHECKS_PER_INSTANCE_MAX),
        ("id", len(command.id), limits.INSTANCE_ID_SIZE_MAX),
    ):
        if count > count_max:
            raise InvalidField(field, f"{count} is more than {count_max}")


def _guard_counts(state: State, service: Service | None, context: Context) -> None:
    # Commands of one group commit are decided side by side, so these limits may be passed by one group.
    if state.instance_count >= context.rules.instances_count_max:
        limit = context.rules.instances_count_max
        raise OverLimit(f"the registry holds {limit} instances already", limit=limit)
    if service is None and len(state.services) >= context.rules.services_count_max:
        limit = context.rules.services_count_max
        raise OverLimit(f"the registry holds {limit} services already", limit=limit)


def _place(
    state: State, command: Register, context: Context, existing: Instance | None, decided: list[Fact]
) -> tuple[int, int]:
    """The lease that will carry the instance and its TTL; adds the facts that make it so."""
    if command.persistent:
        return 0, 0
    if command.lease:
        return _place_on_given(state, command, existing, decided)
    if existing is not None and existing.lease:
        lease = state.leases[existing.lease]
        ttl_ms = lease.ttl_ms
        if lease.own and command.ttl_ms:
            ttl_ms = lease_ttl_ms(command.ttl_ms, context.rules)
        if ttl_ms != lease.ttl_ms:
            decided.append(facts.LeaseGranted(lease.id, ttl_ms, lease.owner, lease.epoch, lease.kind, lease.own))
        _recover(lease, decided)
        return lease.id, ttl_ms
    ttl_ms = lease_ttl_ms(command.ttl_ms, context.rules)
    lease_id = new_lease_id(state, context)
    decided.append(facts.LeaseGranted(lease_id, ttl_ms, context.node, 1, LeaseKind.INSTANCE, True))
    return lease_id, ttl_ms


def _place_on_given(state: State, command: Register, existing: Instance | None, decided: list[Fact]) -> tuple[int, int]:
    lease = state.leases.get(command.lease)
    if lease is None:
        raise LeaseNotFound(
            f"lease {command.lease} has ended or never was", advice="grant a new one", lease=command.lease
        )
    if lease.kind is LeaseKind.KEYS:
        raise Conflict(f"lease {lease.id} is one of keys", advice="grant one of kind 'instance'", lease=lease.id)
    if lease.attachment_count >= limits.LEASE_ATTACHMENTS_MAX and (existing is None or existing.lease != lease.id):
        raise OverLimit(f"lease {lease.id} carries too much already", limit=limits.LEASE_ATTACHMENTS_MAX)
    _recover(lease, decided)
    return lease.id, lease.ttl_ms


def _recover(lease: Lease, decided: list[Fact]) -> None:
    if lease.silent:  # a registration is a sign of life, as good as a renewal
        decided.append(facts.LeaseRecovered(lease.id))


def _stands(existing: Instance, command: Register, lease_id: int) -> bool:
    """Whether the instance is registered exactly so already. Another connection's origin is no other definition."""
    return (
        existing.lease == lease_id
        and existing.address == command.address
        and existing.port == command.port
        and existing.weight == command.weight
        and existing.tags == command.tags
        and existing.metadata == command.metadata
        and existing.ports == command.ports
        and existing.enabled == command.enabled
        and existing.ready == command.ready
        and (not command.claim or existing.claim == command.claim)
        and (existing.region, existing.zone, existing.cluster) == (command.region, command.zone, command.cluster)
        and (existing.protocol, existing.node) == (command.protocol, command.node)
        and existing.extra == command.extra
    )


def _instance(command: Register, *, claim: str, lease: int, existing: Instance | None) -> Instance:
    # Three times as quick as making a new one with so many named fields.
    return replace(
        _BLANK,
        key=command.key,
        id=command.id,
        address=command.address,
        port=command.port,
        ports=command.ports,
        tags=command.tags,
        metadata=command.metadata,
        weight=command.weight,
        region=command.region,
        zone=command.zone,
        cluster=command.cluster,
        enabled=command.enabled,
        ready=command.ready,
        lease=lease,
        claim=claim,
        protocol=command.protocol,
        origin=command.origin,
        node=command.node,
        extra=command.extra,
        incarnation=existing.incarnation if existing is not None else 0,
        registered_at=existing.registered_at if existing is not None else 0,
    )
