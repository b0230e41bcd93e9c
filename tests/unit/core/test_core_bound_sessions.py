"""Sessions that name checks: they end with the first that turns critical or goes, deterministically."""

from __future__ import annotations

from typing import Any

import pytest
from core_keys_world import SPACE, KeysWorld
from core_world import WEB, World, replay

from townhall.core import Shared, commands
from townhall.core.claims import Claims
from townhall.core.codec import dump_state, load_state
from townhall.core.evolve_keys import check_failed
from townhall.core.footprint import footprint
from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.errors import Conflict, InvalidField, NotFound
from townhall.model.keys import Put
from townhall.model.lease import EndReason, SessionBehavior

PASSING, CRITICAL = CheckStatus.PASSING, CheckStatus.CRITICAL


def bound(*, own: bool = True, **fields: Any) -> KeysWorld:
    """Session ``s`` on a check of an instance (or, not ``own``, of a whole node) that passes, and holds ``lock``."""
    world = KeysWorld()
    world.register("a", node="n")
    about = {"key": WEB, "instance": "a"} if own else {}
    world.run(commands.PutCheck(node="n", id="c", status=PASSING, **about))
    world.run(commands.OpenSession(id="s", node="n", checks=("c",), **fields))
    world.put(b"lock", session="s")
    return world


def say(status: CheckStatus) -> commands.SetCheck:
    return commands.SetCheck(node="n", id="c", status=status)


ENDS = {
    "critical": lambda world: say(CRITICAL),
    "put critical": lambda world: commands.PutCheck(node="n", id="c", key=WEB, instance="a", status=CRITICAL),
    "deleted": lambda world: commands.DeleteCheck(node="n", id="c"),
    "deregistered": lambda world: commands.Deregister(key=WEB, id="a"),
    "lease": lambda world: commands.EndLease(id=world.instance("a").lease, reason=EndReason.EXPIRED),
    "node": lambda world: commands.DeleteNode(name="n"),
    "registered": lambda world: commands.Register(
        key=WEB, id="a", address="127.0.0.1", node="n",
        checks=(commands.PutCheck(node="n", id="c", status=CRITICAL),)),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("ttl_ms", [0, 10_000])
def test_what_ends_it(end, ttl_ms):
    world = bound(ttl_ms=ttl_ms, lock_delay_ms=15_000)
    command = ENDS[end](world)
    claims = footprint(command, world.state)
    if end not in ("node",):
        assert ("session", "s") in claims, "it ends with the command, so nothing that relies on it may stand beside it"
    world.run(command)
    assert (world.state.sessions, world.state.bound) == ({}, {})
    assert not any(lease.sessions for lease in world.state.leases.values())
    assert all(lease.instance_count for lease in world.state.leases.values()), "its own lease goes with it"
    lock = world.get(b"lock")
    assert lock is not None
    assert (lock.session, world.changes[-1].sessions) == ("", True)
    assert world.state.spaces[SPACE].lock_delays[b"lock"] == world.now_ms + 15_000
    again = replay(world.journal)
    assert list(dump_state(again)) == list(dump_state(world.state))


def test_behavior_delete_deletes():
    world = bound(own=False, behavior=SessionBehavior.DELETE)
    world.run(say(CheckStatus.WARNING))
    assert "s" in world.state.sessions, "a warning ends nothing"
    world.run(say(CRITICAL))
    assert world.get(b"lock") is None


def test_a_session_of_another_check_stays():
    world = bound()
    world.run(commands.PutCheck(node="n", id="d", status=PASSING))
    world.run(commands.OpenSession(id="t", node="n", checks=("d",)))
    world.run(say(CRITICAL))
    assert list(world.state.sessions) == ["t"]
    world.run(commands.CloseSession(id="t"))
    assert world.state.bound == {}


def test_what_it_may_name():
    world = bound()
    world.run(commands.PutCheck(node="n", id="bad", status=CRITICAL))
    for checks, error in ((("ghost",), NotFound), (("bad",), Conflict), (("c",) * (limits.CHECKS_PER_INSTANCE_MAX + 1), InvalidField)):  # fmt: skip
        with pytest.raises(error):
            world.run(commands.OpenSession(node="n", checks=checks))


def test_a_session_opens_beside_nothing_that_ends_its_check():
    world = bound()
    opened = footprint(commands.OpenSession(node="n", checks=("c",)), world.state)
    assert opened == {Shared(("check", "n", "c")), Shared((WEB, "a"))}
    for command in (say(CRITICAL), commands.Deregister(key=WEB, id="a")):
        claims = Claims()
        assert claims.admit(footprint(command, world.state))
        assert not claims.admit(opened)
    claims = Claims()
    assert claims.admit(footprint(say(CRITICAL), world.state))
    lock = commands.Transact(space=SPACE, transaction=commands.Transaction(success=(Put(b"other", b"v", session="s"),)))
    assert not claims.admit(footprint(lock, world.state))


def test_a_snapshot_knows_what_ends_them():
    world = bound()
    again = load_state(dump_state(world.state))
    again.check()
    assert again.bound == {("n", "c"): {"s"}}


def test_a_check_that_nobody_names():
    world = World()
    changes = world.commit(())
    check_failed(world.state, ("n", "c"), changes)
    assert not changes.sessions
