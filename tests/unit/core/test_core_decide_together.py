"""Several commands as one commit: what may stand together, and that it is as good as one after the other."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from core_keys_world import SPACE, KeysWorld
from core_world import WEB, World
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.core import EVERYTHING, commands, decide_together
from townhall.core.commands import Expected, Together
from townhall.core.footprint import footprint, within_together
from townhall.core.state import State
from townhall.model import limits
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.check import CheckStatus
from townhall.model.errors import Conflict, Denied, InvalidField, NotFound, TownhallError
from townhall.model.instance import ServiceKey
from townhall.model.keys import Compare, CompareTarget, Put, Relation, Transaction

DB = ServiceKey("default", "default", "db")
PASSING, CRITICAL = CheckStatus.PASSING, CheckStatus.CRITICAL


def node(name: str = "n", **fields: Any) -> commands.PutNode:
    return commands.PutNode(name=name, **fields)


def register(id_: str, key: ServiceKey = WEB, **fields: Any) -> commands.Register:
    return commands.Register(key=key, id=id_, **{"address": "127.0.0.1", "persistent": True, "node": "n", **fields})


def check(id_: str, instance: str = "", status: CheckStatus | None = PASSING) -> commands.PutCheck:
    return commands.PutCheck(node="n", id=id_, key=WEB if instance else None, instance=instance, status=status)


def put(key: bytes, compares: tuple[Compare, ...] = ()) -> commands.Transact:
    return commands.Transact(space=SPACE, transaction=Transaction(compares, success=(Put(key, b"v"),)))


def test_one_commit():
    world = KeysWorld()
    results = world.run(Together(commands=(node(), register("a"), check("c"), put(b"k"))))
    assert world.state.position == 1
    assert results[3].revision == world.state.spaces[SPACE].revision, "numbers that only evolve gives are settled"
    assert {world.state.nodes["n"].revision, world.instance("a").revision, world.state.checks["n", "c"].revision} == {1}


def test_all_or_none():
    world = KeysWorld()
    for bad in (commands.DeleteCheck(node="n", id="ghost"), put(b"k", (absent(b"k", 7),))):
        with pytest.raises((NotFound, Conflict)):
            world.run(Together(commands=(node(), put(b"other"), bad)) if bad.__class__ is commands.DeleteCheck
                      else Together(commands=(node(), bad)))  # fmt: skip
    assert (world.state.position, world.state.nodes, world.state.spaces) == (0, {}, {})


def absent(key: bytes, revision: int = 0) -> Compare:
    return Compare(key, CompareTarget.MOD, Relation.EQUAL, revision)


@pytest.mark.parametrize(
    "pair",
    [
        (node(), node()),
        (register("a"), register("a")),
        (register("a"), commands.Deregister(key=WEB, id="a")),
        (check("c"), check("c")),
        (put(b"k"), put(b"k")),
        (node(), commands.DeleteNode(name="other")),
        (Together(commands=()), node()),
    ],
)
def test_what_cannot_stand_together(pair):
    world = World()
    with pytest.raises((InvalidField, NotFound)):
        world.run(Together(commands=pair))
    assert world.state.position == 0


def test_not_too_many():
    with pytest.raises(InvalidField):
        World().run(Together(commands=tuple(node(f"n{n}") for n in range(limits.TOGETHER_COUNT_MAX + 1))))


def test_a_node_ends_with_what_is_on_it_and_nothing_else_may_touch_that():
    world = World()
    world.run(node())
    world.run(register("a"))
    world.run(check("c", "a"))
    world.run(commands.OpenSession(id="s", node="n", ttl_ms=10_000))
    end = commands.DeleteNode(name="n")
    for other in (register("a"), check("c"), node(), commands.CloseSession(id="s")):
        with pytest.raises(InvalidField):
            world.run(Together(commands=(end, other)))
    world.run(Together(commands=(end, register("b"), node("m"))))
    assert [one.id for one in world.reader.node_instances("n")] == ["b"]
    assert (list(world.state.nodes), world.state.checks, world.state.sessions) == (["m"], {}, {})
    assert footprint(Together(commands=(end,)), world.state) == EVERYTHING


def test_a_check_goes_from_what_is_registered_anew():
    world = World()
    world.run(register("a"))
    world.run(check("c", "a"))
    delete = commands.DeleteCheck(node="n", id="c")
    assert within_together(world.state, delete) == frozenset({("check", "n", "c")})
    world.run(Together(commands=(register("a", tags=("new",)), delete)))
    assert (world.state.checks, world.instance("a").tags) == ({}, ("new",))


def test_what_is_expected():
    world = World()
    world.run(node())
    world.run(register("a"))
    world.run(check("c", "a"))
    good = (
        Expected(node="n", revision=1),
        Expected(node="n", instance="a", revision=3),  # its check came at 3
        Expected(node="n", check="c", revision=3),
        Expected(node="m", revision=0),
        Expected(node="n", instance="b", revision=0),
        Expected(node="n", check="d", revision=0),
    )
    together = Together(commands=(node("m"),), expected=good)
    claims = footprint(together, world.state)
    assert {("node", "n"), ("node", "m"), (WEB, "a"), ("check", "n", "c"), ("check", "n", "d")} == claims
    for one in good:
        wrong = Expected(node=one.node, check=one.check, instance=one.instance, revision=one.revision + 1)
        with pytest.raises(Conflict):
            world.run(Together(commands=(node("x"),), expected=(wrong,)))
    world.run(together)
    assert "m" in world.state.nodes


def test_rights_are_those_of_all():
    world = World()
    world.run(register("a"))
    world.run(commands.BootstrapAccess())
    actor = Actor("t", (Rule(Resource.NODE, Level.WRITE, "n"),))
    world.run(Together(commands=(node(),)), actor)
    with pytest.raises(Denied):
        world.run(Together(commands=(node("n2"), register("b"))), actor)
    with pytest.raises(Denied):
        world.run(Together(commands=(node("n2"),), expected=(Expected(node="n", instance="a", revision=1),)), actor)
    with pytest.raises(Denied):
        world.run(Together(commands=(node("n2"),), expected=(Expected(node="m", revision=0),)), actor)


# --- beside its naive model: one command after the other ---------------------------------------------------------------

names = st.sampled_from(["n", "m"])
ids = st.sampled_from(["a", "b"])
keys = st.sampled_from([WEB, DB])
statuses = st.sampled_from([PASSING, CRITICAL, None])
single = st.one_of(
    st.builds(commands.PutNode, name=names, address=st.sampled_from(["127.0.0.1", "127.0.0.2"])),
    st.builds(commands.DeleteNode, name=names),
    st.builds(commands.Register, key=keys, id=ids, address=st.just("127.0.0.1"), node=names, port=st.integers(0, 1),
              persistent=st.booleans()),
    st.builds(commands.Deregister, key=keys, id=ids),
    st.builds(commands.PutCheck, node=names, id=ids, status=statuses),
    st.builds(commands.PutCheck, node=names, id=st.just("own"), key=keys, instance=ids, status=statuses),
    st.builds(commands.SetCheck, node=names, id=ids, status=st.sampled_from([PASSING, CRITICAL])),
    st.builds(commands.DeleteCheck, node=names, id=ids),
    st.builds(commands.OpenSession, id=st.sampled_from(["s", "t"]), node=names, checks=st.lists(ids, max_size=1).map(tuple),
              ttl_ms=st.sampled_from([0, 10_000])),
    st.builds(commands.CloseSession, id=st.sampled_from(["s", "t"])),
    st.builds(lambda key, session: commands.Transact(
        space=SPACE, transaction=Transaction(success=(Put(key, b"v", session=session),))),
        key=st.sampled_from([b"k", b"l"]), session=st.sampled_from([None, "s", "t"])),
)  # fmt: skip


def picture(state: State) -> tuple[Any, ...]:
    """What stands, without positions and what follows from them."""
    return (
        {name: (one.address, one.id) for name, one in state.nodes.items()},
        {(key, id_): (one.address, one.port, one.verdict, bool(one.lease))
         for key, service in state.services.items() for id_, one in service.instances.items()},
        {name: (one.status, one.key, one.instance) for name, one in state.checks.items()},
        {id_: (one.node, one.checks) for id_, one in state.sessions.items()},
        {kv.key: (kv.value, kv.session, kv.lock_index) for space in state.spaces.values()
         for kv in space.range(b"\0", b"\0")[0]},
        len(state.leases),
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(single, min_size=1, max_size=4), max_size=12))
def test_together_is_as_good_as_one_after_the_other(rounds):
    world, naive = World(), World()
    for wanted in rounds:
        before = world.state.position
        try:
            world.run(Together(commands=tuple(wanted)))
        except TownhallError:
            assert world.state.position == before, "refused, so nothing happened"
            # Something must go on: the same commands by themselves.
            for one in wanted:
                for each in (world, naive):
                    with suppress(TownhallError):
                        each.run(one)
        else:
            assert world.state.position <= before + 1
            for one in wanted:
                naive.run(one)
        assert picture(world.state) == picture(naive.state)


def test_the_module_is_what_the_table_calls():
    assert decide_together.__all__ == ["decide_together"]
