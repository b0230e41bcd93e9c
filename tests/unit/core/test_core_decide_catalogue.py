"""Decisions about instances and services."""

from __future__ import annotations

import pytest
from core_world import WEB, World

from townhall.core import Rules, commands
from townhall.core.decide_catalogue import definition
from townhall.model import limits
from townhall.model.errors import Conflict, Fenced, InvalidField, NotFound, OverLimit
from townhall.model.instance import CLEAR, ServiceKey, ServiceSettings, Verdict

DB = ServiceKey("default", "default", "db")


def world_with(id_: str = "a", **fields) -> World:
    world = World()
    world.register(id_, **fields)
    return world


def test_deregister_takes_its_own_lease_with_it():
    world = world_with()
    world.run(commands.Deregister(key=WEB, id="a"))
    assert world.state.leases == {}
    assert world.state.services == {}
    with pytest.raises(NotFound):
        world.run(commands.Deregister(key=WEB, id="a"))


def test_deregister_leaves_a_lease_that_was_granted_by_itself():
    world = World()
    world.run(commands.GrantLease(id=7))
    world.register("a", lease=7)
    world.run(commands.Deregister(key=WEB, id="a"))
    assert world.state.leases.keys() == {7}


def test_a_late_deregistration_of_the_old_process_is_fenced():
    world = world_with(claim="p1")
    old = world.instance("a")
    world.register("a", claim="p2")
    with pytest.raises(Fenced):
        world.run(commands.Deregister(key=WEB, id="a", claim="p1"))
    with pytest.raises(Fenced) as refused:
        world.run(commands.Deregister(key=WEB, id="a", incarnation=old.incarnation))
    assert refused.value.fields["incarnation"] == world.instance("a").incarnation
    world.run(commands.Deregister(key=WEB, id="a", claim="p2", incarnation=world.instance("a").incarnation))


def test_patch_changes_what_is_given():
    world = world_with(tags=("v1",), metadata={"a": "1", "b": "2"}, zone="z1")
    after = world.run(
        commands.PatchInstance(key=WEB, id="a", metadata={"a": None, "c": "3"}, weight=0.0, zone="z2", tags=())
    )
    instance = world.instance("a")
    assert (instance.metadata, instance.weight, instance.zone, instance.tags) == ({"b": "2", "c": "3"}, 0.0, "z2", ())
    assert definition(after) == definition(instance)
    position = world.state.position
    world.run(commands.PatchInstance(key=WEB, id="a", weight=0.0))
    assert world.state.position == position


def test_patch_of_enabled_and_ready_moves_the_verdict_and_keeps_evidence():
    world = world_with(ready=False)
    assert world.instance("a").verdict is Verdict.STARTING
    world.run(commands.PatchInstance(key=WEB, id="a", ready=True))
    assert world.instance("a").verdict is Verdict.UP
    world.lapse("a")
    world.run(commands.PatchInstance(key=WEB, id="a", enabled=False))
    assert world.instance("a").verdict is Verdict.MAINTENANCE
    world.run(commands.PatchInstance(key=WEB, id="a", enabled=True))
    assert world.instance("a").verdict is Verdict.SUSPECT


def test_patch_is_fenced_and_limited():
    world = world_with()
    with pytest.raises(Fenced):
        world.run(commands.PatchInstance(key=WEB, id="a", incarnation=99))
    with pytest.raises(InvalidField):
        world.run(commands.PatchInstance(key=WEB, id="a", tags=("t",) * (limits.TAGS_COUNT_MAX + 1)))
    many = {str(n): "" for n in range(limits.METADATA_COUNT_MAX + 1)}
    with pytest.raises(InvalidField):
        world.run(commands.PatchInstance(key=WEB, id="a", metadata=many))
    with pytest.raises(InvalidField):
        world.run(commands.PatchInstance(key=WEB, id="a", metadata={"a": "x" * limits.METADATA_SIZE_MAX}))


def test_the_definition_holds_nothing_that_evolve_derives():
    world = world_with()
    world.lapse("a")
    stripped = definition(world.instance("a"))
    assert (stripped.evidence, stripped.verdict, stripped.revision, stripped.stamp) == (CLEAR, Verdict.UP, 0, 0)


def test_override_and_back():
    world = world_with()
    world.run(commands.SetOverride(key=WEB, id="a", verdict=Verdict.DOWN, reason="x" * 2_000))
    instance = world.instance("a")
    assert instance.verdict is Verdict.DOWN
    assert len(instance.reason) == limits.REASON_SIZE_MAX
    assert instance.reason.endswith("…")
    world.run(commands.SetOverride(key=WEB, id="a", verdict=None))
    assert world.instance("a").evidence is CLEAR
    position = world.state.position
    world.run(commands.SetOverride(key=WEB, id="a", verdict=None))
    assert world.state.position == position


def test_an_override_ends_a_hold():
    world = World()
    for id_ in "abc":
        world.register(id_)
    world.lapse(*"abc")
    assert world.callable_ids() == ["c"]
    world.run(commands.SetOverride(key=WEB, id="c", verdict=Verdict.SUSPECT))
    assert world.callable_ids() == []


def test_maintenance_needs_no_reason():
    world = world_with()
    world.run(commands.SetMaintenance(key=WEB, id="a", reason=""))
    assert (world.instance("a").verdict, world.instance("a").reason) == (Verdict.MAINTENANCE, "maintenance")
    world.run(commands.SetMaintenance(key=WEB, id="a", reason=None))
    assert world.instance("a").verdict is Verdict.UP


def test_drain():
    world = world_with()
    deadline = world.run(commands.StartDrain(key=WEB, id="a"))
    assert deadline == world.now_ms + ServiceSettings().drain_deadline_ms
    started = world.instance("a").evidence.draining_at
    world.wait(120)
    assert world.run(commands.StartDrain(key=WEB, id="a")) == deadline, "the one that runs goes on"
    assert world.run(commands.StartDrain(key=WEB, id="a", deadline_ms=5)) == world.now_ms + 5
    assert world.instance("a").evidence.draining_at == started
    world.run(commands.CancelDrain(key=WEB, id="a"))
    assert world.instance("a").verdict is Verdict.UP
    world.run(commands.CancelDrain(key=WEB, id="a"))
    with pytest.raises(InvalidField):
        world.run(commands.StartDrain(key=WEB, id="a", deadline_ms=-1))
    with pytest.raises(Fenced):
        world.run(commands.StartDrain(key=WEB, id="a", incarnation=99))


def test_reports_mark_and_clear():
    world = world_with()
    mark = commands.MarkReported(key=WEB, id="a", incarnation=1, report="5 of 5 calls failed")
    world.run(mark)
    assert (world.instance("a").verdict, world.instance("a").reason) == (Verdict.SUSPECT, "5 of 5 calls failed")
    position = world.state.position
    world.run(mark)
    world.run(commands.MarkReported(key=WEB, id="a", incarnation=99, report=""))
    world.run(commands.MarkReported(key=WEB, id="gone", incarnation=1, report=""))
    assert world.state.position == position
    world.run(commands.MarkReported(key=WEB, id="a", incarnation=1, report=""))
    assert world.instance("a").verdict is Verdict.UP


def test_services_of_their_own():
    world = World()
    world.run(commands.PutService(key=DB, metadata={"team": "x"}))
    assert world.reader.service(DB).metadata == {"team": "x"}
    world.run(commands.PutService(key=DB, settings=ServiceSettings(floor=0.7)))
    service = world.reader.service(DB)
    assert (service.metadata, service.settings.floor) == ({"team": "x"}, 0.7)
    position = world.state.position
    world.run(commands.PutService(key=DB))
    assert world.state.position == position
    world.register("a", key=DB)
    with pytest.raises(Conflict):
        world.run(commands.DeleteService(key=DB))
    world.run(commands.Deregister(key=DB, id="a"))
    assert world.reader.service(DB).explicit
    world.run(commands.DeleteService(key=DB))
    with pytest.raises(NotFound):
        world.run(commands.DeleteService(key=DB))


def test_service_bounds():
    world = World(Rules(services_count_max=1))
    for settings in (ServiceSettings(floor=1.1), ServiceSettings(protect=-0.1), ServiceSettings(drain_deadline_ms=-1)):
        with pytest.raises(InvalidField):
            world.run(commands.PutService(key=DB, settings=settings))
    many = {str(n): "" for n in range(limits.METADATA_COUNT_MAX + 1)}
    with pytest.raises(InvalidField):
        world.run(commands.PutService(key=DB, metadata=many))
    world.run(commands.PutService(key=DB))
    with pytest.raises(OverLimit):
        world.run(commands.PutService(key=WEB))
