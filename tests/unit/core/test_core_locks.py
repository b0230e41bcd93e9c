"""Locks and elections: who holds, who waits, and what a fencing number promises."""

from __future__ import annotations

import pytest
from core_keys_world import KeysWorld

from townhall.core import KeyRange, commands, locks
from townhall.core.commands import TransactResult
from townhall.model import limits
from townhall.model.errors import Conflict, InvalidField, LeaseNotFound, OverLimit
from townhall.model.keys import KeyValue, Put, Transaction


@pytest.fixture
def world() -> KeysWorld:
    return KeysWorld()


def acquire(world: KeysWorld, lease: int, lock: str = "jobs", value: bytes = b"") -> locks.Standing:
    result = world.run(locks.acquire(lock, lease=lease, value=value))
    assert isinstance(result, TransactResult)
    return locks.standing_after(lock, lease=lease, result=result)


def look(world: KeysWorld, lease: int, lock: str = "jobs") -> locks.Standing | None:
    return locks.standing(lock, lease=lease, keys=world.reader.range(locks.SPACE, *locks.span_of(lock)))


def test_the_first_holds_and_the_others_wait_in_turn(world: KeysWorld) -> None:
    leases = [world.grant() for _ in range(3)]
    stood = [acquire(world, lease) for lease in reversed(leases)]
    assert [standing.ahead for standing in stood] == [0, 1, 2]
    assert [standing.held for standing in stood] == [True, False, False]
    assert [standing.fencing for standing in stood] == [2, 3, 4]
    assert {standing.holder.lease for standing in stood} == {leases[2]}
    assert acquire(world, leases[1]) == stood[1], "asking again keeps the place"
    assert acquire(world, leases[0], lock="other").held


def test_a_lock_goes_to_the_next_when_it_is_released_or_its_lease_ends(world: KeysWorld) -> None:
    first, second, third = (world.grant() for _ in range(3))
    fencing = [acquire(world, lease).fencing for lease in (first, second, third)]
    world.run(locks.release("jobs", lease=first))
    now = look(world, second)
    assert now is not None
    assert now.held
    world.run(commands.EndLease(id=second))
    now = look(world, third)
    assert now is not None
    assert (now.held, now.fencing) == (True, fencing[2])
    assert look(world, first) is look(world, second) is None
    assert fencing == sorted(set(fencing)), "a later holder has a higher number"
    assert acquire(world, first).ahead == 1


def test_a_release_under_an_old_number_takes_nothing_from_the_new_standing(world: KeysWorld) -> None:
    lease = world.grant()
    old = acquire(world, lease).fencing
    world.run(locks.release("jobs", lease=lease))
    new = acquire(world, lease).fencing
    assert not world.run(locks.release("jobs", lease=lease, fencing=old)).succeeded
    assert look(world, lease) is not None
    released = world.run(locks.release("jobs", lease=lease, fencing=new))
    assert (released.succeeded, len(released.responses[0])) == (True, 1)
    assert look(world, lease) is None
    assert world.run(locks.release("jobs", lease=lease)).responses == ((),)


def test_a_leader_proclaims_and_keeps_its_lease(world: KeysWorld) -> None:
    leader, follower = world.grant(), world.grant()
    fencing = acquire(world, leader, value=b"one").fencing
    acquire(world, follower)
    assert world.run(locks.proclaim("jobs", lease=leader, fencing=fencing, value=b"two")).succeeded
    seen = look(world, follower)
    assert seen is not None
    assert (seen.holder.value, seen.holder.lease, seen.holder.create_revision) == (b"two", leader, fencing)
    world.run(commands.EndLease(id=leader))
    assert not world.run(locks.proclaim("jobs", lease=leader, fencing=fencing, value=b"three")).succeeded


def test_an_ended_lease_cannot_lock(world: KeysWorld) -> None:
    lease = world.grant()
    world.run(commands.EndLease(id=lease))
    with pytest.raises(LeaseNotFound):
        acquire(world, lease)


def test_foreign_keys_in_the_queue_do_not_hold(world: KeysWorld) -> None:
    lease = world.grant()
    for key in (b"locks/jobs/junk", b"locks/jobs/7", locks.key_of("jobs", lease)):
        world.run(commands.Transact(space=locks.SPACE, transaction=Transaction(success=(Put(key, b""),))))
    with pytest.raises(Conflict):
        acquire(world, lease)
    other = acquire(world, world.grant())
    assert other.held
    assert locks.lease_of(KeyValue(b"locks/jobs/junk", b"", 1, 1, 1)) == 0
    assert locks.lease_of(other.holder) == other.lease


def test_what_a_waiter_watches_is_the_queue_and_nothing_else(world: KeysWorld) -> None:
    watched = locks.interest("jobs")
    assert watched == KeyRange("native", b"locks/jobs/", b"locks/jobs0")
    assert locks.key_of("jobs", 255) == b"locks/jobs/ff"
    for name in ("a/b", "", "x" * 1_000):
        with pytest.raises(InvalidField):
            locks.interest(name)
    names = ["jobs", "jobs2", "job", "jobs-"]
    inside = [name for name in names if watched.start <= locks.key_of(name, 1) < watched.end]
    assert inside == ["jobs"]


def test_the_queue_is_limited(world: KeysWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCK_WAITERS_MAX", 2)
    for _ in range(2):
        locks.admit("jobs", world.reader.range(locks.SPACE, *locks.span_of("jobs")))
        acquire(world, world.grant())
    with pytest.raises(OverLimit):
        locks.admit("jobs", world.reader.range(locks.SPACE, *locks.span_of("jobs")))
