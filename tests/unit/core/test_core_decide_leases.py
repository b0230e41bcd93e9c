"""Decisions about leases; the floor's part in them is in test_core_floor."""

from __future__ import annotations

import pytest
from core_world import WEB, World

from townhall.core import Rules, commands
from townhall.core.decide_leases import lease_ttl_ms
from townhall.model import limits
from townhall.model.errors import AlreadyExists, Fenced, InvalidField, LeaseNotFound, OverLimit
from townhall.model.instance import Verdict
from townhall.model.keys import Put, Transaction
from townhall.model.lease import EndReason, LeaseKind


def test_grant():
    world = World()
    granted = world.run(commands.GrantLease(ttl_ms=5_000, kind=LeaseKind.KEYS))
    assert (granted.id, granted.ttl_ms) == (1001, 5_000)
    lease = world.reader.lease(1001)
    assert (lease.ttl_ms, lease.owner, lease.epoch, lease.kind, lease.own) == (5_000, "n1", 1, LeaseKind.KEYS, False)
    assert world.run(commands.GrantLease(id=7)).id == 7
    with pytest.raises(AlreadyExists):
        world.run(commands.GrantLease(id=7))
    with pytest.raises(InvalidField):
        world.run(commands.GrantLease(id=-1))
    with pytest.raises(InvalidField):
        world.run(commands.GrantLease(ttl_ms=1))
    assert lease_ttl_ms(0, Rules()) == limits.LEASE_TTL_DEFAULT_MS


def test_too_many_leases():
    world = World(Rules(leases_count_max=1))
    world.run(commands.GrantLease(id=7))
    for id_ in (0, 8):
        with pytest.raises(OverLimit):
            world.run(commands.GrantLease(id=id_))


def test_end_takes_everything_with_it():
    world = World()
    world.run(commands.GrantLease(id=7))
    world.register("a", lease=7)
    world.register("b", lease=7)
    world.run(commands.Transact(space="native", transaction=Transaction(success=(Put(b"k", b"v", lease=7),))))
    world.run(commands.EndLease(id=7))
    assert world.state.services == {}
    assert world.reader.get("native", b"k") is None
    assert world.reader.floor(WEB).known == 0
    with pytest.raises(LeaseNotFound):
        world.run(commands.EndLease(id=7))


def test_a_stale_epoch_is_fenced():
    world = World()
    world.run(commands.GrantLease(id=7))
    world.run(commands.TakeOverLeases(owner="n1"), node="n2")
    assert (world.reader.lease(7).owner, world.reader.lease(7).epoch) == ("n2", 2)
    with pytest.raises(Fenced):
        world.run(commands.EndLease(id=7, epoch=1, reason=EndReason.EXPIRED))
    world.run(commands.LapseLeases(leases=((7, 1),)))
    assert not world.reader.lease(7).silent
    world.run(commands.EndLease(id=7, epoch=2))


def test_take_over():
    world = World()
    world.run(commands.TakeOverLeases())
    assert world.state.position == 0
    world.run(commands.GrantLease(id=7))
    world.run(commands.TakeOverLeases(owner="n9"), node="n2")
    assert world.reader.lease(7).owner == "n1"
    world.run(commands.TakeOverLeases(), node="n2")
    assert (world.reader.lease(7).owner, world.reader.lease(7).epoch) == ("n2", 2)


def test_a_lapse_has_two_stages():
    world = World()
    world.register("a")
    world.lapse("a")
    instance = world.instance("a")
    assert (instance.verdict, instance.reason, instance.since) == (Verdict.SUSPECT, "lease lapsed", world.now_ms)
    world.wait(limits.LEASE_TTL_DEFAULT_MS * limits.EVICTION_GRACE_TTLS - 1)
    world.sweep()
    assert world.instance("a")
    world.wait(1)
    world.sweep()
    assert world.state.leases == {}


def test_a_lapse_of_keys_ends_at_once():
    world = World()
    world.run(commands.GrantLease(id=7, kind=LeaseKind.KEYS))
    world.run(commands.Transact(space="native", transaction=Transaction(success=(Put(b"k", b"v", lease=7),))))
    world.run(commands.LapseLeases(leases=((7, 1),)))
    assert world.reader.get("native", b"k") is None
    assert world.state.leases == {}


def test_recover_after_a_lapse_and_a_broken_connection():
    world = World()
    world.register("a")
    lease = world.instance("a").lease
    position = world.state.position
    world.run(commands.RecoverLease(id=lease))
    assert world.state.position == position
    world.run(commands.SetConnection(leases=(lease,), up=False))
    world.lapse("a")
    world.run(commands.RecoverLease(id=lease))
    assert world.instance("a").verdict is Verdict.UP
    assert not world.reader.lease(lease).silent
    with pytest.raises(LeaseNotFound):
        world.run(commands.RecoverLease(id=99))


def test_a_connection_breaks_and_comes_back():
    world = World()
    world.register("a")
    world.run(commands.GrantLease(id=7, kind=LeaseKind.KEYS))
    leases = (world.instance("a").lease, 7, 99)
    world.run(commands.SetConnection(leases=leases, up=False))
    assert (world.instance("a").verdict, world.instance("a").reason) == (Verdict.SUSPECT, "connection lost")
    assert world.reader.lease(7).connected, "keys live by their TTL alone"
    position = world.state.position
    world.run(commands.SetConnection(leases=leases, up=False))
    assert world.state.position == position
    world.run(commands.SetConnection(leases=leases, up=True))
    assert world.instance("a").verdict is Verdict.UP


def test_a_lost_connection_alone_is_not_swept():
    world = World()
    world.register("a")
    world.run(commands.SetConnection(leases=(world.instance("a").lease,), up=False))
    world.wait(10 * limits.LEASE_TTL_DEFAULT_MS)
    world.sweep()
    assert world.instance("a")


def test_a_sweep_is_braked(monkeypatch):
    world = World(Rules(registry_floor=0.0))
    ids = [f"i{n}" for n in range(10)]
    for n, id_ in enumerate(ids):
        world.register(id_, key=WEB._replace(name=f"s{n}"))
    leases = tuple((lease, 1) for lease in world.state.leases)
    world.run(commands.LapseLeases(leases=leases))
    world.wait(limits.LEASE_TTL_DEFAULT_MS)
    world.run(commands.Sweep(count_max=4))
    assert len(world.state.leases) == 6
    monkeypatch.setattr(limits, "SWEEP_SCAN_MAX", 2)
    for _ in range(200):  # Each sweep looks at two of them, chosen by the time.
        world.wait(1_000)
        world.run(commands.Sweep(count_max=limits.LAPSES_PER_SWEEP_MAX))
    assert world.state.leases == {}


def test_an_empty_lease_lapses_and_goes():
    world = World()
    world.run(commands.GrantLease(id=7))
    world.run(commands.LapseLeases(leases=((7, 1), (7, 1))))
    world.wait(limits.LEASE_TTL_DEFAULT_MS)
    world.sweep()
    assert world.state.leases == {}
