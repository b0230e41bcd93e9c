"""Register: upsert, incarnations, leases, limits."""

from __future__ import annotations

import pytest
from core_world import WEB, World

from townhall.core import Rules, commands, facts
from townhall.core.decide_register import same_incarnation
from townhall.model import limits
from townhall.model.errors import Conflict, InvalidField, LeaseNotFound, OverLimit
from townhall.model.instance import ServiceKey, Verdict
from townhall.model.lease import EndReason, LeaseKind


def facts_of(world: World, **fields) -> tuple[object, ...]:
    decision = world.decide(commands.Register(**({"key": WEB, "address": "127.0.0.1", "port": 80} | fields)))
    assert not isinstance(decision, Exception)
    return decision.facts


def test_a_first_registration_gets_a_lease_of_its_own():
    world = World()
    result = world.register("a", tags=("v1",), metadata={"k": "v"}, claim="p1")
    assert (result.lease, result.ttl_ms, result.fresh) == (1001, limits.LEASE_TTL_DEFAULT_MS, True)
    instance = world.instance("a")
    assert (instance.incarnation, instance.revision, instance.verdict) == (1, 1, Verdict.UP)
    assert instance.registered_at == instance.since == world.now_ms
    assert instance.stamp_node == "n1"
    lease = world.state.leases[1001]
    assert (lease.own, lease.owner, lease.epoch, lease.kind) == (True, "n1", 1, LeaseKind.INSTANCE)
    assert lease.attached() == ((WEB, "a"),)


def test_the_same_again_changes_nothing():
    world = World()
    world.register("a", tags=("v1",), claim="p1", origin="127.0.0.1:5000")
    position = world.state.position
    again = world.register("a", tags=("v1",), claim="p1", origin="127.0.0.1:5001")
    assert world.state.position == position
    assert (again.lease, again.fresh) == (1001, False)
    assert again.instance is world.instance("a")


def test_another_definition_goes_on_with_the_incarnation():
    world = World()
    world.register("a", claim="p1")
    world.wait(5)
    result = world.register("a", claim="p1", weight=2.0)
    assert not result.fresh
    instance = world.instance("a")
    assert (instance.incarnation, instance.revision, instance.weight) == (1, 2, 2.0)
    assert instance.registered_at == instance.since == world.now_ms - 5


def test_another_claim_is_a_new_incarnation_and_supersedes_the_lease():
    world = World()
    world.register("a", claim="p1")
    world.run(commands.SetMaintenance(key=WEB, id="a", reason="disk"))
    decided = facts_of(world, id="a", claim="p2")
    assert [type(fact) for fact in decided] == [facts.LeaseGranted, facts.Registered, facts.LeaseEnded]
    assert decided[2].reason is EndReason.SUPERSEDED
    result = world.register("a", claim="p2")
    assert result.fresh
    assert world.state.leases.keys() == {result.lease}
    instance = world.instance("a")
    assert instance.incarnation == world.state.position
    assert instance.verdict is Verdict.UP


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [("p1", "p1", True), ("", "", True), ("p1", "", True), ("", "p1", True), ("p1", "p2", False)],
)
def test_same_incarnation(before, now, same):
    world = World()
    world.register("a", claim=before)
    assert same_incarnation(now, world.instance("a")) is same


def test_a_claim_is_kept_when_none_is_given_and_taken_when_there_was_none():
    world = World()
    world.register("a", claim="p1")
    world.register("a", weight=2.0)
    assert world.instance("a").claim == "p1"
    world.register("b")
    world.register("b", claim="p9")
    assert (world.instance("b").claim, world.instance("b").incarnation) == ("p9", 3)


def test_on_a_given_lease():
    world = World()
    world.run(commands.GrantLease(id=7, ttl_ms=5_000))
    for id_ in "abc":
        assert world.register(id_, lease=7).ttl_ms == 5_000
    assert set(world.state.leases[7].attached()) == {(WEB, id_) for id_ in "abc"}
    world.register("a", lease=7, claim="p2")
    assert world.state.leases.keys() == {7}


def test_moving_off_a_lease_ends_it_when_nothing_else_is_on_it():
    world = World()
    world.run(commands.GrantLease(id=7))
    world.register("a", lease=7)
    world.register("b", lease=7)
    world.register("a", persistent=True)
    assert 7 in world.state.leases
    assert not world.instance("a").ephemeral
    world.register("b", persistent=True)
    assert world.state.leases == {}


def test_what_leases_it_may_not_take():
    world = World()
    with pytest.raises(LeaseNotFound):
        world.register("a", lease=7)
    world.run(commands.GrantLease(id=8, kind=LeaseKind.KEYS))
    with pytest.raises(Conflict):
        world.register("a", lease=8)
    with pytest.raises(InvalidField):
        world.register("a", lease=8, persistent=True)


def test_another_ttl_changes_only_a_lease_of_its_own():
    world = World()
    world.register("a", ttl_ms=5_000)
    assert world.register("a", ttl_ms=9_000).ttl_ms == 9_000
    assert world.state.leases[1001].ttl_ms == 9_000
    assert world.state.leases[1001].own
    assert world.register("a").ttl_ms == 9_000, "no TTL given keeps the one there is"
    world.run(commands.GrantLease(id=7, ttl_ms=4_000))
    world.register("b", lease=7)
    assert world.register("b", ttl_ms=9_000).ttl_ms == 4_000, "others may hang on it"


def test_ttl_bounds():
    world = World()
    for ttl_ms in (limits.LEASE_TTL_MIN_MS - 1, limits.LEASE_TTL_MAX_MS + 1, -1):
        with pytest.raises(InvalidField):
            world.register("a", ttl_ms=ttl_ms)
    assert world.register("a", ttl_ms=limits.LEASE_TTL_MIN_MS).ttl_ms == limits.LEASE_TTL_MIN_MS
    relaxed = World(Rules(lease_ttl_min_ms=limits.LEASE_TTL_DEV_MIN_MS))
    assert relaxed.register("a", ttl_ms=limits.LEASE_TTL_DEV_MIN_MS).ttl_ms == limits.LEASE_TTL_DEV_MIN_MS


def test_a_registration_is_a_sign_of_life():
    world = World()
    world.register("a", claim="p1")
    world.lapse("a")
    assert world.instance("a").verdict is Verdict.SUSPECT
    world.wait(3)
    world.register("a", claim="p1")
    assert world.instance("a").verdict is Verdict.UP
    assert world.instance("a").since == world.now_ms
    assert world.instance("a").incarnation == 1


def test_counts_of_a_definition_are_guarded():
    world = World()
    too_many_tags = tuple(str(n) for n in range(limits.TAGS_COUNT_MAX + 1))
    too_many_pairs = {str(n): "" for n in range(limits.METADATA_COUNT_MAX + 1)}
    too_many_ports = {str(n): 1 for n in range(limits.PORTS_COUNT_MAX + 1)}
    for fields in ({"tags": too_many_tags}, {"metadata": too_many_pairs}, {"ports": too_many_ports}):
        with pytest.raises(InvalidField):
            world.register("a", **fields)
    with pytest.raises(InvalidField):
        world.register("a" * (limits.INSTANCE_ID_SIZE_MAX + 1))


def test_what_the_registry_holds_is_limited(monkeypatch):
    rules = Rules()
    assert rules.instances_count_max == limits.INSTANCES_COUNT_MAX
    assert rules.services_count_max == limits.SERVICES_COUNT_MAX
    assert rules.leases_count_max == limits.LEASES_COUNT_MAX
    world = World(Rules(instances_count_max=2))
    world.register("a")
    world.register("b")
    world.register("a", weight=2.0)
    with pytest.raises(OverLimit):
        world.register("c")
    world = World(Rules(services_count_max=1))
    world.register("a")
    with pytest.raises(OverLimit):
        world.register("a", key=ServiceKey("default", "default", "db"))
    world = World(Rules(leases_count_max=1))
    world.register("a")
    with pytest.raises(OverLimit):
        world.register("b")
    world.register("b", persistent=True)
    monkeypatch.setattr(limits, "LEASE_ATTACHMENTS_MAX", 1)
    world = World()
    world.run(commands.GrantLease(id=7))
    world.register("a", lease=7)
    world.register("a", lease=7, weight=2.0)
    with pytest.raises(OverLimit):
        world.register("b", lease=7)


def test_drawn_lease_ids_that_are_taken_are_drawn_again():
    world = World()
    world.run(commands.GrantLease(id=1001))
    assert world.register("a").lease == 1002
