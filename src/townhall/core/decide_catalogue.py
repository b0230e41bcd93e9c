"""Decisions about instances and services other than ``Register``."""

from __future__ import annotations

from msgspec.structs import replace

from townhall.core import Context, Decision, Fact, commands, facts
from townhall.core.decide_ties import guard_definition, standing_source
from townhall.core.floor import Budget
from townhall.core.state import DEFAULT_SETTINGS, State
from townhall.model import limits
from townhall.model.errors import Conflict, Fenced, InvalidField, NotFound, OverLimit
from townhall.model.instance import CLEAR, Instance, ServiceKey, Verdict
from townhall.model.lease import EndReason

__all__ = [
    "cancel_drain", "delete_service", "deregister", "mark_reported", "patch_instance", "put_service", "set_maintenance", "set_override",
    "start_drain",
]  # fmt: skip

NOTHING = Decision(())


def _known(state: State, key: ServiceKey, id: str) -> Instance:  # noqa: A002 - the catalogue's word
    service = state.services.get(key)
    instance = service.instances.get(id) if service is not None else None
    if instance is None:
        raise NotFound(f"no instance {id!r} of service {key}", service=str(key), id=id)
    return instance


def _fence(instance: Instance, *, incarnation: int, claim: str = "") -> None:
    """Refuse what a process says that has been replaced by a newer one under the same id."""
    if incarnation and incarnation != instance.incarnation:
        raise Fenced(
            f"instance {instance.id!r} is in incarnation {instance.incarnation}, not {incarnation}",
            advice="a newer process has registered under this id",
            incarnation=instance.incarnation,
        )
    if claim and instance.claim and claim != instance.claim:
        raise Fenced(
            f"instance {instance.id!r} is claimed by another process",
            advice="a newer process has registered under this id",
            incarnation=instance.incarnation,
        )


def _cut(text: str) -> str:
    size_max = limits.REASON_SIZE_MAX
    return text if len(text) <= size_max else text[: size_max - 1] + "…"


def deregister(state: State, command: commands.Deregister, context: Context) -> Decision:
    """Remove an instance; a lease that was granted for it alone goes with it."""
    instance = _known(state, command.key, command.id)
    _fence(instance, incarnation=command.incarnation, claim=command.claim)
    source = standing_source(state, command.key, command.id)
    if source is not None:
        # The instance is a key: it goes with it, and its lease is the key's writer's to end.
        return Decision((facts.KeysWritten(source[0], (facts.KeyDeleted(source[1]),)),))
    decided: list[Fact] = [facts.Deregistered(command.key, command.id)]
    lease = state.leases.get(instance.lease) if instance.lease else None
    if lease is not None and lease.own and lease.attachment_count <= 1:
        decided.append(facts.LeaseEnded(lease.id, EndReason.REVOKED))
    return Decision(tuple(decided))


def patch_instance(state: State, command: commands.PatchInstance, context: Context) -> Decision:
    """Change parts of the definition within the incarnation."""
    before = _known(state, command.key, command.id)
    _fence(before, incarnation=command.incarnation)
    guard_definition(state, command.key, command.id)
    tags = before.tags if command.tags is None else command.tags
    if len(tags) > limits.TAGS_COUNT_MAX:
        raise InvalidField("tags", f"{len(tags)} is more than {limits.TAGS_COUNT_MAX}")
    after = replace(
        before,
        tags=tags,
        metadata=_merged(before.metadata, command.metadata),
        weight=before.weight if command.weight is None else command.weight,
        enabled=before.enabled if command.enabled is None else command.enabled,
        ready=before.ready if command.ready is None else command.ready,
        zone=before.zone if command.zone is None else command.zone,
    )
    if after == before:
        return Decision((), before)
    return Decision((facts.Registered(definition(after), False),), after)


def definition(instance: Instance) -> Instance:
    """The instance without what ``evolve`` derives, so that a fact says the same whatever else is decided beside it."""
    return replace(instance, verdict=Verdict.UP, reason="", since=0, evidence=CLEAR, revision=0, stamp=0, stamp_node="")


def _merged(before: dict[str, str], patch: dict[str, str | None] | None) -> dict[str, str]:
    if not patch:
        return before
    merged = dict(before)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    size = sum(len(name) + len(value) for name, value in merged.items())
    if len(merged) > limits.METADATA_COUNT_MAX:
        raise InvalidField("metadata", f"{len(merged)} entries, at most {limits.METADATA_COUNT_MAX}")
    if size > limits.METADATA_SIZE_MAX:
        raise InvalidField("metadata", f"{size} characters in all, at most {limits.METADATA_SIZE_MAX}")
    return merged


def set_override(state: State, command: commands.SetOverride, context: Context) -> Decision:
    """The operator's word, or its end."""
    evidence = _known(state, command.key, command.id).evidence
    reason = _cut(command.reason) if command.verdict is not None else ""
    if (evidence.override, evidence.override_reason) == (command.verdict, reason):
        return NOTHING
    return Decision((facts.OverrideSet(command.key, command.id, command.verdict, reason),))


def set_maintenance(state: State, command: commands.SetMaintenance, context: Context) -> Decision:
    """Into maintenance, or out of it; an empty reason is still one."""
    evidence = _known(state, command.key, command.id).evidence
    reason = "" if command.reason is None else _cut(command.reason) or "maintenance"
    if evidence.maintenance == reason:
        return NOTHING
    return Decision((facts.MaintenanceSet(command.key, command.id, reason),))


def start_drain(state: State, command: commands.StartDrain, context: Context) -> Decision:
    """No new calls. Result: the deadline, Unix milliseconds. Asking again without a deadline keeps the one that runs."""
    instance = _known(state, command.key, command.id)
    _fence(instance, incarnation=command.incarnation)
    if command.deadline_ms < 0:
        raise InvalidField("deadline", "must not be negative")
    if instance.evidence.draining_at and not command.deadline_ms:
        return Decision((), instance.evidence.drain_deadline)
    deadline = context.now_ms + (command.deadline_ms or state.services[command.key].settings.drain_deadline_ms)
    return Decision((facts.DrainStarted(command.key, command.id, deadline),), deadline)


def cancel_drain(state: State, command: commands.CancelDrain, context: Context) -> Decision:
    """Take a drain back; none running is fine."""
    instance = _known(state, command.key, command.id)
    return Decision((facts.DrainCancelled(command.key, command.id),)) if instance.evidence.draining_at else NOTHING


def mark_reported(state: State, command: commands.MarkReported, context: Context) -> Decision:
    """Callers' reports crossed the threshold, or went quiet. About another incarnation they say nothing.

    A silent instance is settled by them whatever the floor says. One that still renews is marked only within the
    floor: a caller with a broken network must not talk a whole service down.
    """
    service = state.services.get(command.key)
    instance = service.instances.get(command.id) if service is not None else None
    if instance is None or command.incarnation != instance.incarnation:
        return NOTHING
    evidence, report = instance.evidence, _cut(command.report)
    if report == evidence.report and bool(report) == bool(evidence.reported_at):
        return NOTHING
    silent = evidence.lapsed_at or evidence.disconnected_at
    if report and not silent and not Budget(state, context.rules, context.now_ms).take((instance,)):
        return NOTHING
    return Decision((facts.Reported(command.key, command.id, report),))


def put_service(state: State, command: commands.PutService, context: Context) -> Decision:
    """Create, or change what is given."""
    service = state.services.get(command.key)
    if service is None and len(state.services) >= context.rules.services_count_max:
        limit = context.rules.services_count_max
        raise OverLimit(f"the registry holds {limit} services already", limit=limit)
    before = (service.metadata, service.settings) if service is not None else ({}, DEFAULT_SETTINGS)
    metadata = before[0] if command.metadata is None else command.metadata
    settings = before[1] if command.settings is None else command.settings
    if len(metadata) > limits.METADATA_COUNT_MAX:
        raise InvalidField("metadata", f"{len(metadata)} entries, at most {limits.METADATA_COUNT_MAX}")
    for field in ("floor", "protect"):
        if not 0 <= getattr(settings, field) <= 1:
            raise InvalidField(field, "is not between 0 and 1")
    if settings.drain_deadline_ms < 0:
        raise InvalidField("drain_deadline_ms", "must not be negative")
    if service is not None and service.explicit and (metadata, settings) == before:
        return NOTHING
    return Decision((facts.ServicePut(command.key, metadata, settings),))


def delete_service(state: State, command: commands.DeleteService, context: Context) -> Decision:
    """Forget a service that has no instances."""
    service = state.services.get(command.key)
    if service is None:
        raise NotFound(f"no service {command.key}", service=str(command.key))
    if service.instances:
        raise Conflict(
            f"service {command.key} has {len(service.instances)} instances",
            advice="deregister them first",
            service=str(command.key),
            instances=len(service.instances),
        )
    return Decision((facts.ServiceDeleted(command.key),))
