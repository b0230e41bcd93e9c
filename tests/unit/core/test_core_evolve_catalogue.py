"""What facts do to instances, beyond what the decisions' tests show."""

from __future__ import annotations

from core_world import WEB, World

from townhall.core import Changes, commands, facts
from townhall.core.evolve_catalogue import remove, restate
from townhall.model.instance import CLEAR, Evidence, ServiceSettings, Verdict
from townhall.model.lease import EndReason


def test_since_moves_only_with_the_verdict():
    world = World()
    world.register("a")
    began = world.now_ms
    world.wait(5)
    world.run(commands.PatchInstance(key=WEB, id="a", zone="z"))
    assert world.instance("a").since == began
    world.wait(5)
    world.run(commands.SetMaintenance(key=WEB, id="a", reason="disk"))
    assert world.instance("a").since == began + 10
    world.wait(5)
    world.run(commands.SetMaintenance(key=WEB, id="a", reason="another disk"))
    assert (world.instance("a").since, world.instance("a").reason) == (began + 10, "another disk")


def test_the_same_evidence_again_is_no_change():
    world = World()
    world.register("a")
    service = world.state.services[WEB]
    changes = Changes(world.state.position)
    restate(world.state, service, service.instances["a"], Evidence(), changes)
    assert changes.services == set()
    assert service.instances["a"].evidence is CLEAR


def test_evidence_that_is_gone_is_the_shared_one_again():
    world = World()
    world.register("a")
    world.run(commands.SetMaintenance(key=WEB, id="a", reason="disk"))
    world.run(commands.SetMaintenance(key=WEB, id="a", reason=None))
    assert world.instance("a").evidence is CLEAR


def test_a_registration_without_its_lease_is_ignored():
    world = World()
    world.register("a")
    instance = world.instance("a")
    world.commit((facts.LeaseEnded(instance.lease, EndReason.REVOKED),))
    world.commit((facts.Registered(instance, True),))
    assert world.state.services == {}


def test_a_change_of_an_instance_that_is_gone_is_ignored():
    world = World()
    world.register("a", persistent=True)
    instance = world.instance("a")
    world.commit((facts.Deregistered(WEB, "a"),))
    world.commit((facts.Registered(instance, False),))
    assert world.state.services == {}


def test_silent_removals_count_and_deliberate_ones_do_not():
    world = World()
    for id_ in "abc":
        world.register(id_)
    service = world.state.services[WEB]
    changes = Changes(world.state.position)
    remove(world.state, service, service.instances["a"], changes, silent=True)
    remove(world.state, service, service.instances["b"], changes, silent=False)
    assert service.tally.gone == {"a": world.now_ms}
    assert world.state.ephemeral.gone == {(WEB, "a"): world.now_ms}


def test_who_was_kept_out_on_purpose_is_not_missed():
    world = World()
    for id_ in "ab":
        world.register(id_)
    world.run(commands.StartDrain(key=WEB, id="a"))
    world.run(commands.EndLease(id=world.instance("a").lease, reason=EndReason.EXPIRED))
    assert world.reader.floor(WEB).known == 1


def test_another_lease_brings_its_own_silence():
    """A fact in the journal may put an instance on a lease that has lapsed; then it is as silent as the lease."""
    world = World()
    world.run(commands.GrantLease(id=7))
    world.register("a")
    world.run(commands.LapseLeases(leases=((7, 1),)))
    instance = world.instance("a")
    moved = type(instance)(key=WEB, id="a", address="127.0.0.1", lease=7, incarnation=instance.incarnation)
    world.commit((facts.Registered(moved, False),))
    world.state.check()
    assert world.instance("a").verdict is Verdict.SUSPECT


def test_deleting_a_service_that_has_instances_again_leaves_it_to_them():
    world = World()
    world.run(commands.PutService(key=WEB, metadata={"k": "v"}, settings=ServiceSettings(floor=0.1)))
    world.register("a")
    world.commit((facts.ServiceDeleted(WEB),))
    world.state.check()
    service = world.state.services[WEB]
    assert (service.explicit, service.metadata, service.settings.floor) == (False, {}, 0.5)
