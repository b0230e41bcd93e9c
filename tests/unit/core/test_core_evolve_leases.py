"""What facts do to leases, beyond what the decisions' and the floor's tests show."""

from __future__ import annotations

from core_world import WEB, World

from townhall.core import commands, facts
from townhall.core.evolve_leases import granted
from townhall.core.state import State
from townhall.model.instance import Verdict
from townhall.model.lease import EndReason, LeaseKind


def test_granting_again_changes_the_ttl_and_keeps_what_hangs_on_it():
    world = World()
    world.run(commands.GrantLease(id=7))
    world.register("a", lease=7)
    world.commit((facts.LeaseGranted(7, 9_000, "n2", 3, LeaseKind.INSTANCE),))
    lease = world.reader.lease(7)
    assert (lease.ttl_ms, lease.owner, lease.epoch, lease.attached()) == (9_000, "n2", 3, ((WEB, "a"),))


def test_granted_notes_the_change():
    from townhall.core import Changes

    state, changes = State(), Changes(1)
    granted(state, facts.LeaseGranted(7, 5_000, "n1", 1, LeaseKind.KEYS), changes)
    assert changes.leases == {7}
    assert state.leases[7].kind is LeaseKind.KEYS


def test_a_fan_out_is_one_commit():
    world = World()
    world.run(commands.GrantLease(id=7))
    for id_ in "abc":
        world.register(id_, lease=7)
    world.lapse("a")
    position = world.state.position
    assert {world.instance(id_).revision for id_ in "abc"} == {position}
    assert [id_ for at, id_ in world.state.services[WEB].log if at == position] == ["a", "b", "c"]


def test_silent_leases_are_kept_in_order():
    world = World()
    for id_ in "abcd":
        world.register(id_, persistent=False, key=WEB._replace(name=id_))
    leases = [world.instance(id_, WEB._replace(name=id_)).lease for id_ in "abcd"]
    for lease in reversed(leases):
        world.run(commands.LapseLeases(leases=((lease, 1),)))
    assert list(world.state.silent) == leases[::-1]
    world.run(commands.RecoverLease(id=leases[2]))
    world.run(commands.EndLease(id=leases[0]))
    assert list(world.state.silent) == [leases[3], leases[1]]


def test_facts_that_come_too_late_are_ignored():
    world = World()
    world.register("a")
    lease = world.instance("a").lease
    for fact in (
        facts.LeaseRecovered(lease),
        facts.HoldReleased(lease),
        facts.LeaseConnectionChanged((lease,), True),
        facts.LeaseEnded(99, EndReason.EXPIRED),
        facts.LeaseLapsed(99, False),
    ):
        before = world.instance("a")
        world.commit((fact,))
        assert world.instance("a") is before
    world.lapse("a")
    lapsed_at = world.instance("a").evidence.lapsed_at
    world.wait(5)
    world.commit((facts.LeaseLapsed(lease, True),))
    assert world.instance("a").evidence.lapsed_at == lapsed_at


def test_a_connection_that_comes_back_does_not_undo_a_lapse():
    world = World()
    world.register("a")
    lease = world.instance("a").lease
    world.run(commands.SetConnection(leases=(lease,), up=False))
    world.lapse("a")
    world.run(commands.SetConnection(leases=(lease,), up=True))
    assert (world.instance("a").verdict, world.instance("a").reason) == (Verdict.SUSPECT, "lease lapsed")


def test_take_over_by_the_fact_alone():
    world = World()
    for id_ in (7, 8):
        world.run(commands.GrantLease(id=id_))
    world.commit((facts.LeasesTakenOver("n1", "n2"),))
    assert {(lease.owner, lease.epoch) for lease in world.reader.leases()} == {("n2", 2)}
    world.commit((facts.LeasesTakenOver("n1", "n3"),))
    assert {(lease.owner, lease.epoch) for lease in world.reader.leases()} == {("n2", 2)}
