"""The core beside a naive model: random commands, clock steps, silences, sweeps, and snapshots in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core_world import CountingIds, World, replay
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from model.naive_catalogue import DEFINITION, NaiveCatalogue, callable_, expected, verdict_of
from townhall.core import Rules, commands
from townhall.core.codec import dump_state, load_state
from townhall.core.state import State
from townhall.model.check import CheckStatus
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey, ServiceSettings, Verdict
from townhall.model.keys import Put, Transaction
from townhall.model.lease import EndReason, LeaseKind

KEYS = (
    ServiceKey("default", "default", "web"),
    ServiceKey("default", "g", "web"),
    ServiceKey("other", "default", "db"),
)
RULES = Rules(floor_window_ms=60_000, floor_hold_max_ms=90_000, registry_floor_instances_min=4)
keys = st.sampled_from(KEYS)
# Most of it happens to one service, so that its floor comes into play.
busy_keys = st.sampled_from((KEYS[0], KEYS[0], KEYS[0], KEYS[1], KEYS[2]))
ids = st.sampled_from("abcdefgh")
claims = st.sampled_from(("", "p1", "p2"))
explicit_leases = st.sampled_from((1, 2, 3))
any_leases = st.one_of(explicit_leases, st.integers(1001, 1025))
tags = st.sampled_from(((), ("v1",), ("v2", "v1")))
pairs = st.sampled_from(({}, {"a": "1"}, {"a": "2", "b": "1"}))
nodes = st.sampled_from(("m", "n"))
check_ids = st.sampled_from(("c1", "c2", "c3"))
statuses = st.sampled_from((CheckStatus.PASSING, CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL))


class CatalogueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(RULES)
        self.model = NaiveCatalogue(RULES, "n1", CountingIds().lease_id)
        self.late: tuple[Iterator[bytes], list[bytes]] | None = None

    def both(self, command: Any) -> None:
        code = ""
        try:
            self.world.run(command)
        except TownhallError as error:
            code = error.code
        assert self.model.run(command, self.world.now_ms) == code

    # --- instances

    @rule(
        key=busy_keys,
        id=ids,
        claim=claims,
        tags=tags,
        metadata=pairs,
        lease=st.sampled_from((0, 0, 0, 1, 2, 3)),
        persistent=st.sampled_from((False, False, False, True)),
        flags=st.sampled_from(((True, True), (True, True), (False, True), (True, False))),
        ttl_ms=st.sampled_from((0, 0, 10, 5_000, 30_000)),
        node=st.sampled_from(("", "", "m", "n")),
    )
    def register(self, flags: tuple[bool, bool], **fields: Any) -> None:
        self.both(commands.Register(address="127.0.0.1", port=80, enabled=flags[0], ready=flags[1], **fields))

    @rule(key=busy_keys, count=st.integers(2, 8))
    def register_several(self, key: ServiceKey, count: int) -> None:
        for id_ in "abcdefgh"[:count]:
            self.both(commands.Register(key=key, id=id_, address="127.0.0.1", port=80))

    @rule(key=keys, id_=ids, claim=claims, stale=st.booleans())
    def deregister(self, key: ServiceKey, id_: str, claim: str, stale: bool) -> None:
        incarnation = 0 if not stale else max(1, self.model.position - 1)
        self.both(commands.Deregister(key=key, id=id_, claim=claim, incarnation=incarnation))

    @rule(
        key=keys,
        id=ids,
        tags=st.none() | tags,
        metadata=st.none() | st.sampled_from(({"a": None}, {"b": "3"})),
        weight=st.sampled_from((None, 1.0, 2.5)),
        enabled=st.sampled_from((None, True, False)),
        ready=st.sampled_from((None, True)),
    )
    def patch(self, **fields: Any) -> None:
        self.both(commands.PatchInstance(**fields))

    @rule(key=keys, id_=ids, verdict=st.sampled_from((None, None, Verdict.UP, Verdict.DOWN, Verdict.SUSPECT)))
    def override(self, key: ServiceKey, id_: str, verdict: Verdict | None) -> None:
        self.both(commands.SetOverride(key=key, id=id_, verdict=verdict))

    @rule(key=keys, id_=ids, reason=st.sampled_from((None, None, "", "disk")))
    def maintenance(self, key: ServiceKey, id_: str, reason: str | None) -> None:
        self.both(commands.SetMaintenance(key=key, id=id_, reason=reason))

    @rule(key=keys, id_=ids, deadline_ms=st.sampled_from((0, 5_000)))
    def drain(self, key: ServiceKey, id_: str, deadline_ms: int) -> None:
        self.both(commands.StartDrain(key=key, id=id_, deadline_ms=deadline_ms))

    @rule(key=keys, id_=ids)
    def cancel_drain(self, key: ServiceKey, id_: str) -> None:
        self.both(commands.CancelDrain(key=key, id=id_))

    @rule(key=busy_keys, id_=ids, report=st.sampled_from(("", "5 of 5 calls failed")))
    def report(self, key: ServiceKey, id_: str, report: str) -> None:
        record = self.model.instances.get((key, id_))
        incarnation = record["incarnation"] if record else 1
        self.both(commands.MarkReported(key=key, id=id_, incarnation=incarnation, report=report))

    # --- checks

    @rule(node=nodes, id_=check_ids, status=statuses, key=st.none() | busy_keys, instance=ids)
    def put_check(self, node: str, id_: str, status: CheckStatus, key: ServiceKey | None, instance: str) -> None:
        instance = instance if key is not None else ""
        self.both(commands.PutCheck(node=node, id=id_, status=status, key=key, instance=instance))

    @rule(node=nodes, id_=check_ids, status=statuses)
    def set_check(self, node: str, id_: str, status: CheckStatus) -> None:
        self.both(commands.SetCheck(node=node, id=id_, status=status))

    @rule(node=nodes, id_=check_ids)
    def delete_check(self, node: str, id_: str) -> None:
        self.both(commands.DeleteCheck(node=node, id=id_))

    # --- services

    @rule(
        key=keys,
        metadata=st.none() | pairs,
        settings=st.none() | st.builds(ServiceSettings, floor=st.sampled_from((0.0, 0.5, 0.8, 1.0))),
    )
    def put_service(self, **fields: Any) -> None:
        self.both(commands.PutService(**fields))

    @rule(key=keys)
    def delete_service(self, key: ServiceKey) -> None:
        self.both(commands.DeleteService(key=key))

    # --- leases

    @rule(id_=explicit_leases, kind=st.sampled_from((LeaseKind.INSTANCE, LeaseKind.INSTANCE, LeaseKind.KEYS)))
    def grant(self, id_: int, kind: LeaseKind) -> None:
        self.both(commands.GrantLease(id=id_, kind=kind))

    @rule(id_=any_leases, epoch=st.integers(0, 2), reason=st.sampled_from((EndReason.REVOKED, EndReason.EXPIRED)))
    def end(self, id_: int, epoch: int, reason: EndReason) -> None:
        self.both(commands.EndLease(id=id_, epoch=epoch, reason=reason))

    @rule(data=st.data(), stale=st.sampled_from((0, 0, 0, 1)))
    def lapse(self, data: st.DataObject, stale: int) -> None:
        some = self._some_leases(data)
        self.both(commands.LapseLeases(leases=tuple((id_, self._epoch(id_) + stale) for id_ in some)))

    @rule(data=st.data(), up=st.booleans())
    def connection(self, data: st.DataObject, up: bool) -> None:
        self.both(commands.SetConnection(leases=tuple(self._some_leases(data)), up=up))

    def _some_leases(self, data: st.DataObject) -> list[int]:
        known = [*self.model.leases, 999]
        return data.draw(st.lists(st.sampled_from(known), unique=True, min_size=1))

    def _epoch(self, lease_id: int) -> int:
        lease = self.model.leases.get(lease_id)
        return lease["epoch"] if lease else 1

    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        self.both(commands.RecoverLease(id=data.draw(st.sampled_from([*self.model.silent, 999]))))

    @rule(count_max=st.sampled_from((1, 2, 100)), wait_ms=st.sampled_from((0, 15_000, 31_000, 100_000)))
    def sweep(self, count_max: int, wait_ms: int) -> None:
        self.world.wait(wait_ms)
        self.both(commands.Sweep(count_max=count_max))

    @rule(owner=st.sampled_from(("", "n1", "n2")))
    def take_over(self, owner: str) -> None:
        self.both(commands.TakeOverLeases(owner=owner))

    @rule(key=st.sampled_from((b"k1", b"k2")), lease=st.one_of(st.just(0), any_leases))
    def put_key(self, key: bytes, lease: int) -> None:
        self.both(commands.Transact(space="native", transaction=Transaction(success=(Put(key, b"v", lease=lease),))))

    @rule(ms=st.sampled_from((0, 1, 1_000, 20_000)))
    def wait(self, ms: int) -> None:
        self.world.wait(ms)

    # --- snapshots

    @rule()
    def restart(self) -> None:
        """Go on with what a snapshot says."""
        self.world.state = load_state(list(dump_state(self.world.state)))

    @rule()
    def begin_snapshot(self) -> None:
        self._finish_snapshot()
        expected = list(dump_state(self.world.state))
        self.late = (dump_state(self.world.state), expected)

    def _finish_snapshot(self) -> None:
        if self.late is not None:
            chunks, expected = self.late
            assert list(chunks) == expected, "commits show in a snapshot that was begun before them"
            self.late = None

    def teardown(self) -> None:
        self._finish_snapshot()
        again = replay(self.world.journal)
        again.check()
        # A restored state and one that lived through it all may order their tables differently, so look at contents.
        assert contents(again) == contents(self.world.state)

    # --- comparison

    @invariant()
    def same_instances(self) -> None:
        state = self.world.state
        assert state.position == self.model.position
        seen = {(key, id_): i for key, service in state.services.items() for id_, i in service.instances.items()}
        assert seen.keys() == self.model.instances.keys()
        for name, record in self.model.instances.items():
            instance = seen[name]
            for field in (*DEFINITION, "lease", "claim", "incarnation", "registered_at", "revision", "since"):
                assert getattr(instance, field) == record[field], field
            assert instance.verdict == verdict_of(record)
            assert instance.callable == callable_(record)
            evidence = instance.evidence
            assert evidence.held == record["held"]
            assert evidence.lapsed_at == record["lapsed_at"]
            assert evidence.disconnected_at == record["disconnected_at"]
            assert evidence.drain_deadline == record["drain_deadline"]

    @invariant()
    def same_services(self) -> None:
        state = self.world.state
        assert state.services.keys() == self.model.services.keys()
        for key, record in self.model.services.items():
            service = state.services[key]
            assert service.revision == record["revision"]
            assert (service.explicit, service.metadata) == (record["explicit"], record["metadata"])
            assert service.settings.floor == record["floor"]
            records = [r for (k, _), r in self.model.instances.items() if k == key]
            assert service.tally.expected == sum(map(expected, records))
            assert service.callable == sum(map(callable_, records))

    @invariant()
    def same_checks(self) -> None:
        checks = self.world.state.checks
        assert checks.keys() == self.model.checks.keys()
        for name, record in self.model.checks.items():
            check = checks[name]
            assert (check.key, check.instance, check.status) == (record["key"], record["instance"], record["status"])

    @invariant()
    def same_leases(self) -> None:
        leases = self.world.state.leases
        assert leases.keys() == self.model.leases.keys()
        assert list(self.world.state.silent) == self.model.silent
        for lease_id, record in self.model.leases.items():
            lease = leases[lease_id]
            assert (lease.ttl_ms, lease.owner, lease.epoch) == (record["ttl"], record["owner"], record["epoch"])
            assert (lease.lapsed_at, lease.disconnected_at) == (record["lapsed_at"], record["disconnected_at"])
            assert {key for _, key in lease.keys or ()} == record["keys"]

    @invariant()
    def deltas_follow(self) -> None:
        """Whoever knew a service at some revision and applies the delta knows it now."""
        reader = self.world.reader
        for key in KEYS:
            now = {instance.id: instance for instance in reader.instances(key)}
            for after in range(max(0, self.model.position - 3), self.model.position + 1):
                delta = reader.changes(key, after)
                changed = {instance.id: instance for instance in delta.changed}
                assert changed == {id_: now[id_] for id_ in changed}
                assert not now.keys() & set(delta.removed)
                assert {id_ for id_, instance in now.items() if instance.revision > after} == changed.keys()


def contents(state: State) -> Any:
    services = {
        key: (service.instances, service.revision, service.explicit, service.log, service.tally.gone)
        for key, service in state.services.items()
    }
    leases = {
        id_: (
            lease.ttl_ms,
            lease.owner,
            lease.epoch,
            lease.lapsed_at,
            lease.own,
            lease.granted_at,
            set(lease.attached()),
        )
        for id_, lease in state.leases.items()
    }
    spaces = {name: list(space.dump()) for name, space in state.spaces.items()}
    listings = dict(state.listings)
    return (
        services,
        leases,
        spaces,
        listings,
        list(state.silent),
        state.stamp,
        dict(state.removed),
        state.ephemeral.gone,
        dict(state.checks),
        dict(state.book.node_revisions),
    )


TestCatalogueMachine = CatalogueMachine.TestCase
TestCatalogueMachine.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
