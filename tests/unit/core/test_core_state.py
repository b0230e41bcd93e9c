"""The State's own methods: copies on change, logs, attachments."""

from __future__ import annotations

import pytest
from core_world import WEB, World

from townhall.core import commands
from townhall.core.codec import dump_state, load_state
from townhall.core.invariants import check
from townhall.core.state import Lease, State
from townhall.model.lease import LeaseKind


def lease_of(state: State) -> Lease:
    return Lease(7, 1_000, "n1", 1, LeaseKind.INSTANCE, state.generation)


def test_attachments_of_a_lease():
    lease = lease_of(State())
    assert (lease.attached(), lease.instance_count) == ((), 0)
    lease.attach(WEB, "a")
    lease.attach(WEB, "a")
    assert (lease.attached(), lease.more) == (((WEB, "a"),), None)
    lease.attach(WEB, "b")
    lease.attach(WEB, "b")
    assert set(lease.attached()) == {(WEB, "a"), (WEB, "b")}
    lease.detach(WEB, "x")
    lease.detach(WEB, "a")
    assert (lease.attached(), lease.more) == (((WEB, "b"),), None)
    lease.detach(WEB, "x")
    assert lease.instance_count == 1
    lease.keys, lease.sessions = {("s", b"k")}, {"s1", "s2"}
    assert lease.attachment_count == 4
    lease.detach(WEB, "b")
    assert lease.attached() == ()


def test_a_lease_is_silent_when_it_lapsed_or_lost_its_connection():
    lease = lease_of(State())
    assert (lease.silent, lease.connected) == (False, True)
    lease.disconnected_at = 5
    assert (lease.silent, lease.connected) == (True, False)
    lease.disconnected_at, lease.lapsed_at = 0, 5
    assert lease.silent


def test_things_are_copied_once_per_generation():
    world = World()
    world.run(commands.GrantLease(id=7))
    for id_ in "abc":
        world.register(id_, lease=7)
    state = world.state
    service, lease = state.services[WEB], state.leases[7]
    assert state.service_to_change(WEB) is service
    assert state.lease_to_change(7) is lease
    state.generation += 1
    copied_service, copied_lease = state.service_to_change(WEB), state.lease_to_change(7)
    assert copied_service is not None
    assert copied_lease is not None
    assert copied_service is not service
    assert copied_lease is not lease
    assert state.service_to_change(WEB) is copied_service
    assert state.lease_to_change(7) is copied_lease
    copied_lease.detach(WEB, "a")
    copied_service.instances.pop("a")
    copied_service.log.clear()
    copied_service.tally.callable = 0
    assert len(lease.attached()) == 3
    assert len(service.instances) == 3
    assert service.log
    assert service.callable == 3
    assert (state.service_to_change(WEB._replace(name="x")), state.lease_to_change(99)) == (None, None)


def test_stamps_rise_whatever_the_clock_does():
    state = State()
    state.begin(1, 1_000, "n1")
    first = state.stamp
    assert first == 1_000 << 16
    state.begin(2, 1_000, "n1")
    assert state.stamp == first + 1
    state.begin(3, 500, "n2")
    assert (state.stamp, state.time_ms, state.stamp_node) == (first + 2, 1_000, "n2")
    state.begin(4, 2_000, "n1")
    assert state.stamp == 2_000 << 16


def test_tags_of_a_service_follow_its_instances():
    world = World()
    world.register("a", tags=("x",))
    assert world.state.services[WEB].tags == ("x",)
    world.register("b", tags=("y", "x"))
    assert world.state.services[WEB].tags == ("x", "y")
    world.run(commands.PatchInstance(key=WEB, id="b", tags=()))
    assert world.state.services[WEB].tags == ("x",)


def test_services_by_namespace():
    world = World()
    other = WEB._replace(namespace="other")
    world.register("a")
    world.register("a", key=other)
    assert {service.key for service in world.state.services_of("")} == {WEB, other}
    assert [service.key for service in world.state.services_of("other")] == [other]
    assert list(world.state.services_of("nowhere")) == []


def test_check_finds_what_does_not_hold():
    def broken(damage) -> None:
        world = World()
        world.register("a")
        world.state.check()
        damage(world.state)
        with pytest.raises((AssertionError, KeyError)):
            check(world.state)

    broken(lambda state: setattr(state, "instance_count", 2))
    broken(lambda state: setattr(state.services[WEB].tally, "callable", 0))
    broken(lambda state: setattr(state.ephemeral, "expected", 5))
    broken(lambda state: state.leases.clear())
    broken(lambda state: state.leases[1001].detach(WEB, "a"))
    broken(lambda state: state.silent.setdefault(1001))
    broken(lambda state: state.namespaces.clear())
    broken(lambda state: state.services[WEB].log.clear())
    broken(lambda state: state.services[WEB].instances.clear())


def test_a_journal_is_named_by_its_first_commit():
    """Two registries that kept nothing have the same positions and different histories."""
    first, second = State(), State()
    first.begin(1, 1_000, "a")
    second.begin(1, 2_000, "a")
    name = first.history
    assert name
    assert name != second.history
    first.begin(2, 3_000, "b")
    assert first.history == name
    assert load_state(dump_state(first)).history == name
