"""Decisions about keys and sessions, their limits and their footprints."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from core_keys_world import SPACE, KeysWorld
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.core import EVERYTHING, KeyRange, Rules, Shared, commands
from townhall.core.claims import Claims
from townhall.core.decide_keys import (
    close_session_footprint,
    compact_space_footprint,
    lease_end_footprint,
    open_session_footprint,
    transact_footprint,
)  # fmt: skip
from townhall.core.footprint import footprint
from townhall.core.history import KEY_OVERHEAD_SIZE
from townhall.core.transaction_rules import spans
from townhall.model import limits
from townhall.model.errors import AlreadyExists, Compacted, InvalidField, NotFound, OverLimit
from townhall.model.keys import Compare, CompareTarget, Delete, Get, Operation, Put, Relation, Transaction
from townhall.model.lease import LeaseKind, SessionBehavior


@pytest.fixture
def world() -> KeysWorld:
    world = KeysWorld()
    world.put(b"there")
    return world


def transact(*operations: Operation, compares: tuple[Compare, ...] = ()) -> commands.Transact:
    return commands.Transact(space=SPACE, transaction=Transaction(compares, operations))


# --- footprints


def test_puts_of_different_keys_share_a_group_and_get_their_own_revisions(world: KeysWorld) -> None:
    wanted = [transact(Put(b"k%d" % number, b"")) for number in range(10)]
    claims = Claims()
    assert all(claims.admit(footprint(command, world.state)) for command in wanted)
    decided = [world.decide(command) for command in wanted]
    answers = [decision.result.settle(world.commit(decision.facts)) for decision in decided]  # type: ignore[union-attr]
    assert [answer.revision for answer in answers] == list(range(3, 13))


CREATED = Compare(b"a", CompareTarget.CREATE, Relation.EQUAL, 0)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (transact(Put(b"a", b"")), transact(Put(b"b", b"")), True),
        (transact(Put(b"a", b"")), transact(Put(b"a", b"")), False),
        (transact(Put(b"a", b"")), transact(Delete(b"a")), False),
        (transact(Put(b"a", b"")), transact(Delete(b"a", b"c")), False),
        (transact(Put(b"c", b"")), transact(Delete(b"a", b"c")), True),
        (transact(Put(b"new", b"")), transact(Put(b"x", b""), Get(b"a", b"\0")), False),
        (transact(Put(b"a", b"")), transact(Put(b"b", b""), compares=(CREATED,)), False),
        (transact(Put(b"x", b""), compares=(CREATED,)), transact(Put(b"y", b""), compares=(CREATED,)), True),
        (transact(Put(b"a", b"", 7)), transact(Put(b"b", b"", 7)), True),
        (transact(Put(b"a", b"", 7)), commands.EndLease(id=7), False),
        (transact(Put(b"a", b"", session="s")), commands.CloseSession(id="s"), False),
        (transact(Put(b"a", b"", session="s")), transact(Put(b"b", b"", session="s")), True),
        (transact(Put(b"a", b"")), transact(Get(b"a", b"\0")), True),
        (transact(Put(b"a", b"")), commands.Transact(space="other", transaction=Transaction()), True),
    ],
)
def test_what_may_be_decided_side_by_side(
    world: KeysWorld, first: commands.Command, second: commands.Command, together: bool
) -> None:
    claims = Claims()
    assert claims.admit(footprint(first, world.state))
    assert claims.admit(footprint(second, world.state)) is together


_KEYS = st.sampled_from([b"a", b"b", b"c"])
_ENDS = st.sampled_from([b"", b"", b"c", b"\0"])
_OPERATIONS = st.one_of(
    st.builds(Put, _KEYS, st.just(b"")), st.builds(Get, _KEYS, _ENDS), st.builds(Delete, _KEYS, _ENDS)
)
_TRANSACTIONS = st.builds(
    Transaction,
    st.lists(
        st.builds(Compare, _KEYS, st.just(CompareTarget.MOD), st.just(Relation.EQUAL), st.just(0), _ENDS), max_size=2
    ).map(tuple),
    st.lists(_OPERATIONS, max_size=3).map(tuple),
    st.lists(_OPERATIONS, max_size=2).map(tuple),
)


def _all_claims(transaction: Transaction) -> frozenset[Hashable]:
    """A claim for each compare and operation."""
    found = [(KeyRange(SPACE, start, end), write) for start, end, write in spans(transaction)]
    if not any(write for _, write in found):
        return frozenset()
    return frozenset(span if write else Shared(span) for span, write in found)


@given(st.lists(_TRANSACTIONS, min_size=2, max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_key_that_is_read_and_written_needs_no_more_than_one_claim(transactions: list[Transaction]) -> None:
    world = KeysWorld()
    world.put(b"there")
    plain, short = Claims(), Claims()
    for transaction in transactions:
        command = commands.Transact(space=SPACE, transaction=transaction)
        claims = transact_footprint(world.state, command)
        assert claims <= _all_claims(transaction)
        assert short.admit(claims) == plain.admit(_all_claims(transaction))


def test_a_put_that_makes_a_space_claims_it(world: KeysWorld) -> None:
    command = commands.Transact(space="new", transaction=Transaction(success=(Put(b"k", b""),)))
    assert transact_footprint(world.state, command) == {KeyRange("new", b"k"), ("space", "new")}
    assert transact_footprint(world.state, transact(Put(b"k", b""))) == {KeyRange(SPACE, b"k")}
    reading = transact(Get(b"k", b"l"), compares=(CREATED,))
    assert transact_footprint(world.state, reading) == frozenset()
    inner = Transaction(success=(Put(b"p", b"", 7, session="s"),))
    assert transact_footprint(world.state, transact(inner, Get(b"k"))) == {
        KeyRange(SPACE, b"p"), Shared(KeyRange(SPACE, b"k")), Shared(("lease", 7)), Shared(("session", "s")),
    }  # fmt: skip


def test_the_end_of_a_lease_or_session_claims_the_keys_that_go_with_it(world: KeysWorld) -> None:
    session = world.open_session(ttl_ms=10_000)
    session_lease = world.state.sessions[session].lease
    lease = world.grant()
    world.put(b"leased", lease=lease)
    world.put(b"locked", session=session)
    assert lease_end_footprint(world.state, world.state.leases[lease]) == {("lease", lease), KeyRange(SPACE, b"leased")}
    closing = {("session", session), ("lease", session_lease), KeyRange(SPACE, b"locked")}
    assert close_session_footprint(world.state, commands.CloseSession(id=session)) == closing
    assert lease_end_footprint(world.state, world.state.leases[session_lease]) == closing
    for number in range(64):
        world.put(b"%d" % number, lease=lease)
        world.put(b"l%d" % number, session=session)
    assert lease_end_footprint(world.state, world.state.leases[lease]) == EVERYTHING
    assert lease_end_footprint(world.state, world.state.leases[session_lease]) == EVERYTHING
    assert close_session_footprint(world.state, commands.CloseSession(id=session)) == EVERYTHING


def test_the_other_footprints(world: KeysWorld) -> None:
    assert open_session_footprint(world.state, commands.OpenSession()) == frozenset()
    assert open_session_footprint(world.state, commands.OpenSession(id="s")) == {("session", "s")}
    assert compact_space_footprint(world.state, commands.CompactSpace(space=SPACE, revision=2)) == {
        ("compacted", SPACE)
    }


# --- spaces


def test_a_space_has_a_quota(world: KeysWorld) -> None:
    world.rules = Rules(space_size_max=3 * (KEY_OVERHEAD_SIZE + 100))
    with pytest.raises(OverLimit) as caught:
        world.put(b"k", bytes(1_000))
    assert caught.value.fields["limit"] == world.rules.space_size_max
    world.put(b"k", bytes(90))
    world.put(b"l", bytes(90))
    with pytest.raises(OverLimit):
        world.put(b"m", b"")
    world.put(b"l", bytes(10))  # what takes no more room goes on
    world.do(Delete(b"k"))
    world.put(b"m", b"")


def test_spaces_are_named_and_counted(world: KeysWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidField):
        world.run(commands.Transact(space="", transaction=Transaction(success=(Put(b"k", b""),))))
    monkeypatch.setattr(limits, "SPACES_COUNT_MAX", 1)
    with pytest.raises(OverLimit):
        world.run(commands.Transact(space="second", transaction=Transaction(success=(Put(b"k", b""),))))
    world.put(b"k")


def test_an_emptied_space_goes_on_with_its_revisions(world: KeysWorld) -> None:
    assert world.do(Delete(b"\0", b"\0")).revision == 3
    assert world.do(Get(b"k")).revision == 3
    assert world.put(b"k") == 4


def test_compaction_is_refused_twice_in_the_future_and_elsewhere(world: KeysWorld) -> None:
    world.put(b"k")
    world.put(b"k")

    def compact(revision: int, space: str = SPACE) -> None:
        world.run(commands.CompactSpace(space=space, revision=revision))

    compact(0)
    for revision in (-1, 5):
        with pytest.raises(InvalidField):
            compact(revision)
    compact(3)
    for revision in (0, 2, 3):
        with pytest.raises(Compacted) as caught:
            compact(revision)
        assert caught.value.fields["oldest"] == 3
    with pytest.raises(NotFound):
        compact(1, "absent")
    compact(4)
    assert world.space.compacted == 4


# --- sessions


def test_a_session_with_a_ttl_has_a_lease_of_its_own(world: KeysWorld) -> None:
    opened = world.open_session(name="n", node="here", ttl_ms=10_000, data={"a": "b"}, behavior=SessionBehavior.DELETE)
    session = world.state.sessions[opened]
    lease = world.state.leases[session.lease]
    assert (lease.kind, lease.ttl_ms, lease.sessions) == (LeaseKind.KEYS, 10_000, {opened})
    assert (session.name, session.node, session.data, session.behavior) == ("n", "here", {"a": "b"}, "delete")
    assert session.created_revision == world.state.position
    assert world.state.sessions[world.open_session()].lease == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"ttl_ms": 1}, "ttl"),
        ({"ttl_ms": -1}, "ttl"),
        ({"lock_delay_ms": -1}, "lock_delay"),
        ({"lock_delay_ms": limits.SESSION_LOCK_DELAY_MAX_MS + 1}, "lock_delay"),
        ({"name": "x" * 1_000}, "name"),
        ({"id": "x\x01"}, "id"),
        ({"data": {"": "x"}}, "data"),
        ({"behavior": "explode"}, "behavior"),
    ],
)
def test_sessions_out_of_bounds(world: KeysWorld, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        world.open_session(**fields)
    assert caught.value.fields["field"] == field


def test_sessions_are_named_once_and_counted(world: KeysWorld) -> None:
    assert world.open_session(id="mine") == "mine"
    with pytest.raises(AlreadyExists):
        world.open_session(id="mine")
    world.rules = Rules(leases_count_max=1)
    with pytest.raises(OverLimit):
        world.open_session()


def test_closing_ends_the_sessions_own_lease(world: KeysWorld) -> None:
    opened = world.open_session(ttl_ms=10_000)
    lease = world.state.sessions[opened].lease
    world.close(opened)
    assert lease not in world.state.leases
    with pytest.raises(NotFound):
        world.close(opened)
    shared = world.open_session(ttl_ms=10_000)
    lease = world.state.sessions[shared].lease
    world.put(b"k", lease=lease)
    world.close(shared)
    assert lease in world.state.leases, "a key hangs on it, so somebody else uses it"
