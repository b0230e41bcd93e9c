"""The decision about ``Restore``: what stood in a snapshot stands again, by the same facts as if it were written anew.

So nothing downstream knows of restores: watchers see changes, revisions go on from where they are, and a replay comes
to the same state. What lives by being renewed is not brought back: sessions end, so locks are free, and instances on
leases stay as they are, because those who keep them alive know best. Nothing is changed in guarded spaces.

Where keys and catalogue are tied, only the cause is restored: the key of an instance that is one, the instance that a
key only shows. What the ties in force now make of it is theirs (docs/decisions/0006).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from townhall.core import Context, Decision, Fact, commands, facts
from townhall.core.access import enforced
from townhall.core.codec import load_state
from townhall.core.decide_catalogue import definition
from townhall.core.decide_checks import unstamped
from townhall.core.decide_ties import standing_source
from townhall.core.facts import KeyDeleted, KeyPut
from townhall.core.keyspace import TO_THE_END, Keyspace
from townhall.core.state import Service, State
from townhall.model.errors import Damaged, Denied, InvalidField
from townhall.model.instance import Instance, ServiceKey
from townhall.model.keys import KeyValue
from townhall.model.lease import EndReason

__all__ = ["restore"]


def restore(state: State, command: commands.Restore, context: Context) -> Decision:
    """All of it in one commit. Raises InvalidField for what is no snapshot, Denied without a management token."""
    actor = context.actor
    if (state.access_enabled or actor.restricted) and not (actor.management or actor.internal):
        raise Denied("only a management token may restore", right="write", resource="operator:")
    try:
        wanted = load_state(command.chunks)
    except Damaged as error:
        raise InvalidField("snapshot", error.message) from error
    decided: list[Fact] = []
    decided += _sessions(state)
    leaving = _leaving(state, wanted)
    decided += _catalogue(state, wanted, leaving)
    decided += _checks(state, wanted, leaving)
    decided += _keys(state, wanted)
    decided += _access(state, wanted, needed=enforced(state, context.rules))
    return Decision(tuple(decided), wanted.position)


def _sessions(state: State) -> Iterator[Fact]:
    for session in sorted(state.sessions.values(), key=lambda each: each.id):
        yield facts.SessionClosed(session.id)
        lease = state.leases.get(session.lease)
        if lease is not None and lease.attachment_count <= 1:
            yield facts.LeaseEnded(lease.id, EndReason.OPERATOR)


# --- the catalogue


def _leaving(state: State, wanted: State) -> frozenset[str]:
    """The nodes that go. One with instances on leases stays: they are alive."""
    return frozenset(
        name
        for name in state.nodes
        if name not in wanted.nodes
        and not any(state.services[key].instances[id_].lease for key, id_ in state.book.instances.get(name, ()))
    )


def _catalogue(state: State, wanted: State, leaving: frozenset[str]) -> Iterator[Fact]:
    for name in sorted(leaving):
        yield facts.NodeDeleted(name)
    for node in wanted.nodes.values():
        before = state.nodes.get(node.name)
        plain = replace(node, created=0, revision=0)
        if before is None or replace(before, created=0, revision=0) != plain:
            yield facts.NodePut(plain)
    for key, service in state.services.items():
        for instance in service.instances.values():
            kept = instance.lease or standing_source(state, key, instance.id) is not None
            if not kept and _persistent(wanted, key, instance.id) is None:
                yield facts.Deregistered(key, instance.id)
    for key, service in wanted.services.items():
        keyed = frozenset(id_ for id_ in service.instances if standing_source(wanted, key, id_) is not None)
        yield from _service(state.services.get(key), service, leaving, keyed)


def _persistent(state: State, key: ServiceKey, id_: str) -> Instance | None:
    service = state.services.get(key)
    instance = service.instances.get(id_) if service is not None else None
    return None if instance is None or instance.lease else instance


def _service(
    present: Service | None, service: Service, leaving: frozenset[str], keyed: frozenset[str]
) -> Iterator[Fact]:
    """``keyed``: instances that come with their keys."""
    key = service.key
    settings = (True, service.metadata, service.settings)
    if service.explicit and (present is None or (present.explicit, present.metadata, present.settings) != settings):
        yield facts.ServicePut(key, service.metadata, service.settings)
    for instance in service.instances.values():
        before = present.instances.get(instance.id) if present is not None else None
        if instance.lease or (before is not None and before.lease):
            continue
        if instance.id in keyed:
            if before is None:
                continue
        elif before is None or before.node in leaving or _plain(before) != _plain(instance):
            yield facts.Registered(replace(definition(instance), incarnation=0), True)
            before = None
        maintenance = before.evidence.maintenance if before is not None else ""
        if maintenance != instance.evidence.maintenance:
            yield facts.MaintenanceSet(key, instance.id, instance.evidence.maintenance)


def _plain(instance: Instance) -> Instance:
    return replace(definition(instance), incarnation=0, registered_at=0, origin="")


def _checks(state: State, wanted: State, leaving: frozenset[str]) -> Iterator[Fact]:
    for name, check in state.checks.items():
        alive = check.key is not None and _persistent(state, check.key, check.instance) is None
        if name not in wanted.checks and not alive:
            yield facts.CheckDeleted(*name)
    for name, check in wanted.checks.items():
        if check.key is not None and _persistent(wanted, check.key, check.instance) is None:
            continue
        before = state.checks.get(name)
        if before is None or before.node in leaving or unstamped(before) != unstamped(check):
            yield facts.CheckPut(unstamped(check))


# --- keys


def _keys(state: State, wanted: State) -> Iterator[Fact]:
    for name in sorted({*state.spaces, *wanted.spaces} - state.guarded - wanted.guarded):
        shown = _exported(state, name)
        present = _standing(state.spaces.get(name), shown)
        restored = _standing(wanted.spaces.get(name), shown + _exported(wanted, name))
        writes: list[KeyPut | KeyDeleted] = [
            KeyDeleted(key) for key, kv in present.items() if key not in restored and not kv.lease
        ]
        for key, kv in restored.items():
            before = present.get(key)
            if kv.lease or (before is not None and (before.lease or _content(before) == _content(kv))):
                continue  # Who keeps a key alive by a lease writes it again.
            writes.append(KeyPut(key, kv.value, 0, kv.flags, "", kv.lock_index, kv.extra))
        if writes:
            yield facts.KeysWritten(name, tuple(writes))


def _exported(state: State, space: str) -> tuple[bytes, ...]:
    """Below these prefixes keys only show instances."""
    ties = state.ties.exports_in.get(space, ()) if state.ties is not None else ()
    return tuple(tie.prefix for tie in ties)


def _standing(space: Keyspace | None, without: tuple[bytes, ...]) -> dict[bytes, KeyValue]:
    kvs = space.range(b"\0", TO_THE_END)[0] if space is not None else ()
    return {kv.key: kv for kv in kvs if not kv.key.startswith(without)}


def _content(kv: KeyValue) -> tuple[object, ...]:
    return kv.value, kv.flags, kv.lock_index, kv.extra


# --- access


def _access(state: State, wanted: State, *, needed: bool) -> Iterator[Fact]:
    if needed and not any(token.management and not token.expires_at for token in wanted.tokens.values()):
        return  # Nobody gets rid of access control, or is locked out, by a restore.
    for name in sorted(state.policies.keys() - wanted.policies.keys()):
        yield facts.PolicyDeleted(name)
    for policy in wanted.policies.values():
        yield facts.PolicyPut(replace(policy, revision=0))
    for name in sorted(state.roles.keys() - wanted.roles.keys()):
        yield facts.RoleDeleted(name)
    for role in wanted.roles.values():
        yield facts.RolePut(replace(role, revision=0))
    for id_ in sorted(state.tokens.keys() - wanted.tokens.keys()):
        yield facts.TokenDeleted(id_)
    for token in wanted.tokens.values():
        yield facts.TokenPut(replace(token, revision=0))
    if wanted.access_enabled and not state.access_enabled:
        yield facts.AccessEnabled()
