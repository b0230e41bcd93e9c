"""Everything that must hold of a State at all times; ``State.check`` runs it in tests."""

from __future__ import annotations

from townhall.core.check_index import CheckIndex
from townhall.core.decide_ties import standing_source
from townhall.core.health import judge
from townhall.core.state import Lease, Service, State
from townhall.core.tally import Tally
from townhall.core.ties import below, instance_of, same_definition, value_of
from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.instance import Instance, ServiceKey
from townhall.model.lease import LeaseKind
from townhall.model.tie import Direction

__all__ = ["check"]


def check(state: State) -> None:
    """Raise AssertionError at the first invariant that does not hold."""
    ephemeral = Tally()
    count = 0
    for key, service in state.services.items():
        assert service.key == key
        _check_service(state, service)
        for instance in service.instances.values():
            count += 1
            if instance.lease:
                ephemeral.replace(None, instance)
    assert count == state.instance_count
    _check_counts(state.ephemeral, ephemeral)
    for name in state.ephemeral.gone or ():
        assert isinstance(name, tuple)
        gone_service = state.services.get(name[0])
        assert gone_service is None or name[1] not in gone_service.instances, "gone and there"
    _check_listings(state)
    for lease_id, lease in state.leases.items():
        assert lease.id == lease_id
        _check_lease(state, lease)
    assert list(state.silent) == list(dict.fromkeys(state.silent))
    assert set(state.silent) == {lease.id for lease in state.leases.values() if lease.silent}
    _check_sessions(state)
    _check_book(state)
    for name, space in state.spaces.items():
        assert space.name == name
        space.check()
    _check_ties(state)
    assert state.secrets == {token.secret_hash: token.id for token in state.tokens.values()}
    assert all(token.id == token_id for token_id, token in state.tokens.items())
    assert all(policy.name == name for name, policy in state.policies.items())
    assert all(role.name == name for name, role in state.roles.items())
    _check_guards(state)


def _check_guards(state: State) -> None:
    assert state.guarded == {space for space, guard in state.guards.items() if guard.enabled}
    for space, guard in state.guards.items():
        assert guard.space == space
        assert all(user.name == name and list(user.roles) == sorted(user.roles) for name, user in guard.users.items())
        assert all(role.name == name for name, role in guard.roles.items())


def _check_counts(tally: Tally, counted: Tally) -> None:
    assert (tally.callable, tally.expected, tally.silent, tally.held) == (
        counted.callable,
        counted.expected,
        counted.silent,
        counted.held,
    )
    assert tally.gone is None or tally.gone, "an empty table is None"
    if tally.gone is not None:
        times = list(tally.gone.values())
        assert times == sorted(times)


def _check_service(state: State, service: Service) -> None:
    assert service.instances or service.explicit, "nothing keeps it"
    assert service.generation <= state.generation
    assert service.key not in state.removed
    counted = Tally()
    tags: set[str] = set()
    for id_, instance in service.instances.items():
        assert instance.id == id_
        counted.replace(None, instance)
        tags.update(instance.tags)
        _check_instance(state, service, instance)
        assert service.tally.gone is None or id_ not in service.tally.gone, "gone and there"
    _check_counts(service.tally, counted)
    assert service.tags == tuple(sorted(tags))
    assert 0 < service.revision <= state.position
    _check_log(service)


def _check_log(service: Service) -> None:
    positions = [position for position, _ in service.log]
    assert positions == sorted(positions)
    assert len(positions) < 2 * limits.SERVICE_LOG_COUNT_MAX
    assert not positions or service.log_after <= positions[0]
    assert not positions or positions[-1] <= service.revision
    logged = set(service.log)
    for instance in service.instances.values():
        assert instance.revision <= service.log_after or (instance.revision, instance.id) in logged


def _check_instance(state: State, service: Service, instance: Instance) -> None:
    assert instance.key is service.key or instance.key == service.key
    assert 0 < instance.incarnation <= instance.revision <= service.revision
    assert instance.registered_at <= state.time_ms
    assert instance.since <= state.time_ms
    evidence = instance.evidence
    verdict = judge(enabled=instance.enabled, ready=instance.ready, evidence=evidence)
    assert verdict == (instance.verdict, instance.reason)
    silent = evidence.lapsed_at or evidence.disconnected_at
    assert not evidence.held or silent
    assert state.book.evidence(evidence, instance.key, instance.id, instance.node) == evidence, "checks say otherwise"
    if not instance.lease:
        assert not silent
        return
    lease = state.leases[instance.lease]
    assert (service.key, instance.id) in lease.attached()
    assert (evidence.lapsed_at, evidence.disconnected_at) == (lease.lapsed_at, lease.disconnected_at)


def _check_lease(state: State, lease: Lease) -> None:
    assert lease.generation <= state.generation
    attached = lease.attached()
    assert lease.more is None or len(lease.more) > 1
    if lease.kind is LeaseKind.KEYS:
        for key, id_ in attached:
            assert standing_source(state, key, id_) is not None, "an instance on a lease of keys is a key"
    assert lease.kind is LeaseKind.INSTANCE or not lease.silent
    held = 0
    for key, id_ in attached:
        instance = state.services[key].instances[id_]
        assert instance.lease == lease.id
        held += instance.evidence.held
    assert lease.held == held
    for space, name in lease.keys or ():
        kv = state.spaces[space].get(name)
        assert kv is not None
        assert kv.lease == lease.id


def _check_listings(state: State) -> None:
    namespaces: dict[str, set[ServiceKey]] = {}
    for key in state.services:
        namespaces.setdefault(key.namespace, set()).add(key)
    assert namespaces == state.namespaces
    assert namespaces.keys() <= state.listings.keys()
    assert len(state.removed) <= limits.REMOVED_SERVICES_REMEMBERED_MAX
    for revision in state.listings.values():
        assert revision <= state.position


def _check_sessions(state: State) -> None:
    bound: dict[tuple[str, str], set[str]] = {}
    for session_id, session in state.sessions.items():
        assert session.id == session_id
        for id_ in session.checks:
            bound.setdefault((session.node, id_), set()).add(session_id)
            assert state.checks[session.node, id_].status is not CheckStatus.CRITICAL, "its session should have ended"
        if session.lease:
            assert session_id in (state.leases[session.lease].sessions or ())
    assert bound == state.bound
    for lease in state.leases.values():
        for session_id in lease.sessions or ():
            assert state.sessions[session_id].lease == lease.id
    for name, space in state.spaces.items():
        for kv in space.range(b"\0", b"\0")[0]:
            if kv.lease:
                assert (name, kv.key) in (state.leases[kv.lease].keys or ())


def _check_book(state: State) -> None:
    book, again = state.book, CheckIndex()
    for name, node in book.nodes.items():
        assert node.name == name
        assert 0 < node.created <= node.revision <= book.nodes_revision <= state.position
    for key, service in state.services.items():
        for id_, instance in service.instances.items():
            if instance.node:
                again.join(instance.node, (key, id_))
    for pair, check in book.checks.items():
        assert (check.node, check.id) == pair
        assert 0 < check.created <= check.revision <= book.checks_revision <= state.position
        assert check.since <= state.time_ms
        assert check.key is not None or not check.instance
        assert check.key is None or check.instance in state.services[check.key].instances
        again.put(check)
        assert book.node_revisions[check.node] >= check.revision
    for index in ("by_node", "node_level", "instances", "overdue"):
        assert getattr(book, index) == getattr(again, index), index
    own, own_again = ({name: set(found) for name, found in each.by_instance.items()} for each in (book, again))
    assert own == own_again
    assert all(len(own[name]) == len(found) for name, found in book.by_instance.items())


def _check_ties(state: State) -> None:
    """Keys and catalogue say the same, both ways."""
    ties = state.ties
    if ties is None:
        assert state.touched is None
        return
    assert not state.touched
    for tie in ties.all:
        space = state.spaces.get(tie.space)
        kvs = space.range(*below(tie))[0] if space is not None else []
        if tie.direction is Direction.IMPORT:
            for wanted in filter(None, (instance_of(tie, kv) for kv in kvs)):
                assert same_definition(wanted, state.services[wanted.key].instances[wanted.id]), wanted.id
            continue
        shown: dict[bytes, bytes] = {}
        for key, service in state.services.items():
            for instance in service.instances.values():
                for found, name in ties.shown_as(key, instance.id):
                    value = value_of(tie, instance) if found == tie else None
                    if value is not None:
                        shown[name] = value
        assert {kv.key: kv.value for kv in kvs} == shown
