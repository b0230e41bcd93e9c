"""The removal floor: scenarios from start to end, and its arithmetic."""

from __future__ import annotations

import pytest
from core_world import WEB, World

from townhall.core import Rules, commands
from townhall.core.floor import known_count, needed_count
from townhall.core.tally import Tally
from townhall.model import limits
from townhall.model.instance import ServiceKey, ServiceSettings, Verdict
from townhall.model.lease import LeaseKind

IDS = tuple("abcdefghij")


def world_of(count: int, **rules) -> World:
    world = World(Rules(**rules))
    for id_ in IDS[:count]:
        world.register(id_)
    return world


@pytest.mark.parametrize(
    ("known", "ratio", "needed"), [(10, 0.5, 5), (3, 0.5, 1), (2, 0.5, 0), (9, 0.85, 7), (10, 0.0, 0), (4, 1.0, 4)]
)
def test_what_must_stay(known, ratio, needed):
    assert needed_count(known, ratio=ratio, instances_min=limits.FLOOR_INSTANCES_MIN) == needed


def test_known_counts_what_went_within_the_window():
    tally = Tally(callable=2, expected=3)
    for at_ms, name in enumerate("abcde"):
        tally.note_gone(name, 1_000 + at_ms)
    assert known_count(tally, now_ms=1_002 + 500, window_ms=500) == 3 + 2


def test_all_silent_at_once():
    world = world_of(10)
    world.lapse(*IDS)
    status = world.reader.floor(WEB)
    assert (status.known, status.callable, status.silent, status.held, status.engaged) == (10, 5, 10, 5, True)
    assert all(world.instance(id_).verdict is Verdict.SUSPECT for id_ in IDS)
    assert world.callable_ids() == list("fghij")
    assert "removal floor" in world.instance("f").reason


def test_half_silent_at_once_passes_and_one_more_is_held():
    world = world_of(10)
    world.lapse(*IDS[:5])
    assert world.callable_ids() == list("fghij")
    world.lapse("f")
    assert world.callable_ids() == list("fghij")
    assert world.instance("f").evidence.held


def test_a_lone_instance_may_die():
    world = world_of(2)
    world.lapse("a")
    world.lapse("b")
    assert world.callable_ids() == []
    world.wait(2 * limits.LEASE_TTL_DEFAULT_MS)
    world.sweep()
    assert world.reader.instances(WEB) == ()


def test_scale_in_passes_whatever_the_floor_says():
    world = world_of(10)
    for id_ in IDS[:9]:
        world.run(commands.Deregister(key=WEB, id=id_))
    assert world.callable_ids() == ["j"]


@pytest.mark.parametrize(
    "deliberate",
    [
        lambda id_: commands.StartDrain(key=WEB, id=id_),
        lambda id_: commands.SetMaintenance(key=WEB, id=id_, reason="disk"),
        lambda id_: commands.SetOverride(key=WEB, id=id_, verdict=Verdict.DOWN),
        lambda id_: commands.PatchInstance(key=WEB, id=id_, enabled=False),
    ],
)
def test_what_is_kept_out_on_purpose_is_not_expected(deliberate):
    """Eight of ten in maintenance: two count, so there is no floor, and a crash of the ninth is seen as one."""
    world = world_of(10)
    for id_ in IDS[:8]:
        world.run(deliberate(id_))
    assert world.reader.floor(WEB).known == 2
    world.lapse("i")
    assert world.callable_ids() == ["j"]


def test_swept_instances_count_for_the_window():
    world = world_of(4)
    world.lapse("a", "b")
    world.wait(2 * limits.LEASE_TTL_DEFAULT_MS)
    world.sweep()
    assert [i.id for i in world.reader.instances(WEB)] == ["c", "d"]
    world.lapse("c")
    assert world.instance("c").evidence.held, "two of four are gone already"
    world.wait(limits.FLOOR_WINDOW_MS)
    world.sweep()
    assert not world.instance("c").evidence.held, "the two are forgotten, and two instances have no floor"
    world.sweep()
    assert [i.id for i in world.reader.instances(WEB)] == ["d"]


def test_one_that_comes_back_is_not_counted_twice():
    world = world_of(4)
    world.lapse("a", "b")
    world.wait(2 * limits.LEASE_TTL_DEFAULT_MS)
    world.sweep()
    assert world.reader.floor(WEB).known == 4
    world.register("a")
    assert world.reader.floor(WEB).known == 4


def test_a_renewal_ends_a_hold():
    world = world_of(3)
    world.lapse(*"abc")
    held = world.callable_ids()
    assert held == ["c"]
    world.run(commands.RecoverLease(id=world.instance("c").lease))
    assert world.instance("c").verdict is Verdict.UP
    assert world.reader.floor(WEB).held == 0


def test_new_instances_release_what_is_held():
    world = world_of(6)
    world.lapse(*IDS[:6])
    assert world.callable_ids() == list("def")
    for id_ in ("x1", "x2", "x3", "x4", "x5", "x6"):
        world.register(id_)
    world.sweep()
    assert world.callable_ids() == ["x1", "x2", "x3", "x4", "x5", "x6"]


def test_the_hold_lets_go_at_last():
    world = world_of(3, floor_window_ms=1)
    world.lapse(*"abc")
    world.wait(limits.FLOOR_HOLD_MAX_MS - 1)
    world.sweep()
    assert world.callable_ids() == ["c"]
    world.wait(1)
    world.sweep()
    assert world.callable_ids() == []
    world.sweep()
    assert world.reader.instances(WEB) == ()


def test_a_held_instance_is_not_swept():
    world = world_of(3)
    world.lapse(*"abc")
    for _ in range(3):
        world.wait(2 * limits.LEASE_TTL_DEFAULT_MS)
        world.sweep()
    assert [i.id for i in world.reader.instances(WEB)] == ["c"]


def test_callers_reports_end_a_hold():
    world = world_of(3)
    world.lapse(*"abc")
    incarnation = world.instance("c").incarnation
    world.run(commands.MarkReported(key=WEB, id="c", incarnation=incarnation, report="9 of 9 calls failed"))
    assert world.callable_ids() == []
    assert not world.instance("c").evidence.held


def test_callers_cannot_talk_a_whole_service_down():
    world = world_of(4)
    for id_ in IDS[:4]:
        report = commands.MarkReported(key=WEB, id=id_, incarnation=world.instance(id_).incarnation, report="failed")
        world.run(report)
    assert world.callable_ids() == ["c", "d"]


def test_a_broken_connection_obeys_the_floor_too():
    world = world_of(10)
    leases = tuple(world.instance(id_).lease for id_ in IDS)
    world.run(commands.SetConnection(leases=leases, up=False))
    assert world.callable_ids() == list("fghij")
    world.run(commands.SetConnection(leases=leases, up=True))
    assert world.callable_ids() == list(IDS)


def test_a_hold_survives_the_lapse_that_follows_a_broken_connection():
    world = world_of(3)
    leases = tuple(world.instance(id_).lease for id_ in "abc")
    world.run(commands.SetConnection(leases=leases, up=False))
    world.lapse(*"abc")
    assert world.callable_ids() == ["c"]


def test_the_operator_sets_the_ratio():
    for ratio, left in ((0.0, 0), (0.5, 5), (1.0, 10)):
        world = world_of(10, registry_floor=0.0)
        world.run(commands.PutService(key=WEB, settings=ServiceSettings(floor=ratio)))
        world.lapse(*IDS)
        assert len(world.callable_ids()) == left


@pytest.mark.parametrize(
    ("count", "rules", "left"),
    [
        (limits.FLOOR_REGISTRY_INSTANCES_MIN, {}, 10),
        (limits.FLOOR_REGISTRY_INSTANCES_MIN - 1, {}, 0),
        (6, {"registry_floor_instances_min": 3}, 3),
        (20, {"registry_floor": 0.0}, 0),
    ],
)
def test_the_registry_has_a_floor_of_its_own(count, rules, left):
    """Every service is too small for a floor, but together they cannot all be dead."""
    world = World(Rules(**rules))
    keys = [ServiceKey("default", "default", f"s{n}") for n in range(count)]
    for key in keys:
        world.register("a", key=key)
    leases = [world.instance("a", key).lease for key in keys]
    world.run(commands.LapseLeases(leases=tuple((lease, 1) for lease in leases)))
    assert sum(bool(world.callable_ids(key)) for key in keys) == left
    assert world.reader.registry_floor().held == left


def test_persistent_instances_are_none_of_the_registrys_floor():
    world = World(Rules(registry_floor=1.0, registry_floor_instances_min=1))
    world.register("a")
    world.register("p", persistent=True)
    report = commands.MarkReported(key=WEB, id="p", incarnation=world.instance("p").incarnation, report="failed")
    world.run(report)
    assert world.callable_ids() == ["a"]


def test_instances_of_one_lease_stand_and_fall_together():
    world = World()
    world.run(commands.GrantLease(id=7, kind=LeaseKind.INSTANCE))
    for id_ in "abc":
        world.register(id_, lease=7)
    world.lapse("a")
    assert world.callable_ids() == list("abc")
    assert world.state.leases[7].held == 3


def test_a_hold_keeps_only_what_was_callable():
    world = world_of(4)
    world.run(commands.PatchInstance(key=WEB, id="a", ready=False))
    world.run(commands.MarkReported(key=WEB, id="b", incarnation=world.instance("b").incarnation, report="failed"))
    world.lapse("c", "d", "a", "b")
    assert world.callable_ids() == ["d"]


def test_the_worked_example_of_the_documentation():
    world = world_of(10)
    world.lapse(*IDS)
    world.wait(2 * limits.LEASE_TTL_DEFAULT_MS)
    world.sweep()
    status = world.reader.floor(WEB)
    assert (status.known, status.needed, status.callable, status.held) == (10, 5, 5, 5)
    world.wait(limits.FLOOR_WINDOW_MS)
    world.sweep()
    status = world.reader.floor(WEB)
    assert (status.known, status.needed, status.held) == (5, 2, 2)
    world.sweep()
    world.wait(limits.FLOOR_HOLD_MAX_MS)
    world.sweep()
    world.sweep()
    assert world.reader.instances(WEB) == ()
