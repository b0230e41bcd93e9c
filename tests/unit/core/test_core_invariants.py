"""That the invariants hold is asserted all over the tests; here, that each part of them is looked at."""

from __future__ import annotations

import pytest
from core_world import WEB, World
from msgspec.structs import force_setattr

from townhall.core import commands
from townhall.core.invariants import check
from townhall.model.instance import Evidence, Verdict
from townhall.model.keys import Put, Transaction


def world() -> World:
    world = World()
    world.register("a")
    world.run(commands.GrantLease(id=7))
    world.run(commands.Transact(space="native", transaction=Transaction(success=(Put(b"k", b"v", lease=7),))))
    world.run(commands.OpenSession(id="s", ttl_ms=5_000))
    world.run(commands.PutToken())
    world.run(commands.PutPolicy(name="p", rules=()))
    check(world.state)
    return world


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: force_setattr(state.services[WEB].instances["a"], "verdict", Verdict.DOWN),
        lambda state: force_setattr(state.services[WEB].instances["a"], "revision", 99),
        lambda state: force_setattr(state.services[WEB].instances["a"], "id", "b"),
        lambda state: force_setattr(state.services[WEB].instances["a"], "evidence", Evidence(held=True)),
        lambda state: setattr(state.leases[1001], "held", 1),
        lambda state: setattr(state.leases[1001], "lapsed_at", 5),
        lambda state: setattr(state.leases[7], "keys", None),
        lambda state: setattr(state.leases[7], "keys", {("native", b"other")}),
        lambda state: state.leases[7].attach(WEB, "a"),
        lambda state: state.leases.pop(state.sessions["s"].lease),
        lambda state: state.sessions.clear(),
        lambda state: state.secrets.clear(),
        lambda state: state.policies.update(q=state.policies["p"]),
        lambda state: state.listings.clear(),
        lambda state: setattr(state.services[WEB].tally, "gone", {}),
        lambda state: state.services[WEB].tally.note_gone("a", 5),
        lambda state: setattr(state.services[WEB], "generation", 9),
    ],
)
def test_damage_is_found(damage):
    state = world().state
    damage(state)
    with pytest.raises((AssertionError, KeyError)):
        check(state)
