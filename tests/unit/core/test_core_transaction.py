"""What transactions write and answer: etcd's rules, and Consul's locks on them."""

from __future__ import annotations

import pytest
from core_keys_world import KeysWorld
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.core.commands import RangeResult, TransactResult
from townhall.core.transaction import Ground, Unnumbered, evaluate, guard_revision
from townhall.model import limits
from townhall.model.errors import Compacted, Conflict, InvalidField, LeaseNotFound, NotFound, OverLimit, TownhallError
from townhall.model.keys import Compare, CompareTarget, Delete, Get, KeyValue, Operation, Put, Relation, Transaction

VERSION, CREATE, MOD, VALUE, LEASE, SESSION = CompareTarget
EQUAL, GREATER, LESS, NOT_EQUAL = Relation


@pytest.fixture
def world() -> KeysWorld:
    return KeysWorld()


def keys(result: object) -> list[bytes]:
    assert isinstance(result, RangeResult)
    return [kv.key for kv in result.kvs]


# --- compares


def test_an_absent_key_compares_as_zero(world: KeysWorld) -> None:
    world.put(b"other")
    for target in (VERSION, CREATE, MOD, LEASE):
        assert world.holds(b"k", target, EQUAL, 0)
        assert not world.holds(b"k", target, GREATER, 0)
        assert world.holds(b"k", target, LESS, 1)
    assert world.holds(b"k", SESSION, EQUAL, b"")


@pytest.mark.parametrize("relation", list(Relation))
def test_comparing_the_value_of_an_absent_key_fails(world: KeysWorld, relation: Relation) -> None:
    assert not world.holds(b"k", VALUE, relation, b"")
    assert not world.holds(b"k", VALUE, relation, b"", b"l")


def test_compares_of_a_key(world: KeysWorld) -> None:
    lease = world.grant()
    world.put(b"k", b"1")
    world.put(b"k", b"5", lease=lease)
    for target, value in ((VERSION, 2), (CREATE, 2), (MOD, 3), (LEASE, lease)):
        assert world.holds(b"k", target, EQUAL, value)
        assert world.holds(b"k", target, GREATER, value - 1)
        assert world.holds(b"k", target, LESS, value + 1)
        assert world.holds(b"k", target, NOT_EQUAL, value + 1)
        assert not world.holds(b"k", target, NOT_EQUAL, value)
    assert world.holds(b"k", VALUE, EQUAL, b"5")
    assert world.holds(b"k", VALUE, GREATER, b"10")  # bytes, not numbers


def test_a_compare_of_a_range_must_hold_for_all_its_keys(world: KeysWorld) -> None:
    world.do(Put(b"a", b"1"), Put(b"b", b"2"))
    assert world.holds(b"a", VALUE, GREATER, b"0", b"c")
    assert not world.holds(b"a", VALUE, EQUAL, b"1", b"c")
    assert world.holds(b"a", CREATE, EQUAL, 2, b"\0")
    assert world.holds(b"x", CREATE, EQUAL, 0, b"z")
    assert not world.holds(b"x", CREATE, GREATER, 0, b"z")


@given(st.sampled_from([b"k", b"none"]), st.sampled_from(CompareTarget), st.sampled_from(Relation), st.integers(0, 4))
def test_a_key_compares_like_the_range_of_it_alone(
    key: bytes, target: CompareTarget, relation: Relation, number: int
) -> None:
    world = KeysWorld()
    world.put(b"k", b"2", lease=world.grant())
    world.put(b"k", b"2")
    value: int | bytes = b"%d" % number if target in (VALUE, SESSION) else number
    assert world.holds(key, target, relation, value) == world.holds(key, target, relation, value, key + b"\0")


_KEYS = st.sampled_from([b"a", b"b"])
_PUTS = st.builds(Put, _KEYS, st.sampled_from([b"1", b"2"]), st.sampled_from([0, 0, 7]), ignore_lease=st.booleans())
_COMPARES = st.lists(
    st.builds(Compare, _KEYS, st.just(VERSION), st.sampled_from(Relation), st.integers(0, 1)), max_size=2
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_COMPARES, _PUTS, _PUTS, st.booleans())
def test_a_branch_of_one_put_is_as_with_a_read_behind_it(
    compares: list[Compare], success: Put, failure: Put, there: bool
) -> None:
    world = KeysWorld()
    world.put(b"a" if there else b"z")
    ground = Ground(world.state, world.space, 0)

    def outcome(*after: Operation) -> object:
        try:
            found = evaluate(ground, Transaction(tuple(compares), (success, *after), (failure, *after)))
        except TownhallError as error:
            return type(error), str(error)
        assert isinstance(found.result, Unnumbered)
        return list(found.writes), found.growth, found.result.succeeded, found.result.responses[0]

    assert outcome() == outcome(Get(b"none"))


def test_all_compares_must_hold_and_choose_the_branch(world: KeysWorld) -> None:
    absent, present = Compare(b"k", CREATE, EQUAL, 0), Compare(b"k", CREATE, GREATER, 0)
    create = Transaction((absent,), (Put(b"k", b"1"), Get(b"k")), (Get(b"k"),))
    first = world.txn(create)
    assert (first.succeeded, first.revision) == (True, 2)
    again = world.txn(create)
    assert (again.succeeded, again.revision) == (False, 2)
    assert keys(again.responses[0]) == [b"k"]
    assert not world.txn(Transaction((absent, present))).succeeded
    assert world.txn(Transaction((present, present))).succeeded
    assert world.txn(Transaction()).responses == ()


def test_nested_compares_look_at_the_keys_before_the_transaction(world: KeysWorld) -> None:
    inner = Transaction((Compare(b"k", CREATE, EQUAL, 0),), (Put(b"was-absent", b""),), (Put(b"was-there", b""),))
    result = world.do(Put(b"k", b""), inner)
    nested = result.responses[1]
    assert isinstance(nested, TransactResult)
    assert (nested.succeeded, nested.revision) == (True, result.revision)
    assert world.get(b"was-absent") is not None


# --- numbers


def test_all_writes_share_one_revision_and_reads_see_the_ones_before(world: KeysWorld) -> None:
    world.put(b"x/0", b"old")
    result = world.do(Get(b"x/", b"x0"), Put(b"x/1", b"x"), Put(b"x/2", b""), Get(b"x/", b"x0", limit=2), Get(b"x/1"))
    assert result.revision == 3
    before, _, _, after, own = result.responses
    assert isinstance(before, RangeResult)
    assert isinstance(after, RangeResult)
    assert isinstance(own, RangeResult)
    assert (before.revision, before.count) == (2, 1)
    assert (after.revision, after.count, after.more, keys(after)) == (3, 3, True, [b"x/0", b"x/1"])
    assert own.kvs == [KeyValue(b"x/1", b"x", 3, 3, 1)] == [world.get(b"x/1")]


def test_the_answers_of_a_mere_read_have_the_current_revision(world: KeysWorld) -> None:
    world.put(b"k")
    nothing = world.do(Get(b"k"), Delete(b"absent"), Transaction())
    assert nothing.revision == 2
    read, deleted, nested = nothing.responses
    assert isinstance(read, RangeResult)
    assert isinstance(nested, TransactResult)
    assert (read.revision, deleted, nested.revision) == (2, (), 2)
    assert world.space.revision == 2


def test_deletes_answer_what_they_removed_and_hide_it(world: KeysWorld) -> None:
    world.put(b"x/1", b"1")
    world.put(b"x/2", b"2")
    result = world.do(Delete(b"x/", b"x0"), Get(b"x/", b"x0"), Delete(b"x/1"))
    removed, read, again = result.responses
    assert [kv.value for kv in removed] == [b"1", b"2"]  # type: ignore[attr-defined]
    assert keys(read) == []
    assert again == ()
    assert result.revision == 4


def test_what_a_nested_transaction_wrote_can_be_deleted_by_the_next(world: KeysWorld) -> None:
    result = world.do(Transaction(success=(Put(b"k", b"1"),)), Transaction(success=(Delete(b"a", b"\0"),)))
    deleted = result.responses[1]
    assert isinstance(deleted, TransactResult)
    assert deleted.responses == ((KeyValue(b"k", b"1", 2, 2, 1),),)
    assert world.get(b"k") is None
    assert [event.after is None for event in world.reader.key_events("etcd", b"k", b"", 1)] == [False, True]


def test_count_only_keys_only_and_limits(world: KeysWorld) -> None:
    world.do(Put(b"a", b"1"), Put(b"b", b"2"), Put(b"c", b"3"))
    for extra in ((), (Put(b"z", b""),)):  # from the space alone, and with writes lying over it
        operations: tuple[Operation, ...] = (
            *extra,
            Get(b"a", b"d", count_only=True, limit=1),
            Get(b"a", b"d", keys_only=True, limit=2),
            Get(b"a", b"d", limit=3),
        )
        count, names, whole = world.do(*operations).responses[len(extra) :]
        assert isinstance(count, RangeResult)
        assert isinstance(names, RangeResult)
        assert isinstance(whole, RangeResult)
        assert (count.kvs, count.count, count.more) == ([], 3, False)
        assert ([(kv.key, kv.value) for kv in names.kvs], names.more) == ([(b"a", b""), (b"b", b"")], True)
        assert (whole.count, whole.more) == (3, False)


def test_reads_at_an_old_revision(world: KeysWorld) -> None:
    world.put(b"k", b"1")
    world.put(b"k", b"2")
    _, then = world.do(Put(b"l", b""), Get(b"k", b"\0", revision=2)).responses
    assert isinstance(then, RangeResult)
    assert [kv.value for kv in then.kvs] == [b"1"]
    with pytest.raises(InvalidField, match="future"):
        world.do(Put(b"l", b""), Get(b"k", revision=99))
    world.space.compact(3)
    with pytest.raises(Compacted) as caught:
        world.do(Get(b"k", revision=2))
    assert caught.value.fields["oldest"] == 3
    assert world.space.revision == 4, "a refused transaction writes nothing"
    guard_revision(world.space, 3)


def test_evaluation_changes_nothing_and_leaves_the_revision_open(world: KeysWorld) -> None:
    world.put(b"k", b"1")
    evaluated = evaluate(Ground(world.state, world.space, 0), Transaction(success=(Put(b"k", b"22"), Get(b"k"))))
    assert isinstance(evaluated.result, Unnumbered)
    assert evaluated.growth == 1
    kv = world.get(b"k")
    assert kv is not None
    assert kv.value == b"1"


# --- puts


def test_put_answers_the_previous_key_and_keeps_what_it_is_told_to(world: KeysWorld) -> None:
    lease = world.grant()
    assert world.do(Put(b"k", b"1", lease)).responses == (None,)
    (before,) = world.do(Put(b"k", b"", ignore_value=True)).responses
    assert isinstance(before, KeyValue)
    kv = world.get(b"k")
    assert kv is not None
    assert (before.lease, kv.value, kv.lease, kv.version) == (lease, b"1", 0, 2)
    world.put(b"k", b"2", lease=lease)
    world.put(b"k", b"3", ignore_lease=True)
    kv = world.get(b"k")
    assert kv is not None
    assert (kv.value, kv.lease) == (b"3", lease)
    for put in (Put(b"absent", b"", ignore_value=True), Put(b"absent", b"", ignore_lease=True)):
        with pytest.raises(NotFound):
            world.do(put)


@pytest.mark.parametrize("lease", [1, -1])
def test_an_unknown_lease_is_refused(world: KeysWorld, lease: int) -> None:
    with pytest.raises(LeaseNotFound):
        world.put(b"k", lease=lease)
    assert "etcd" not in world.state.spaces


def test_a_lease_carries_so_many_keys(world: KeysWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASE_ATTACHMENTS_MAX", 2)
    lease = world.grant()
    world.put(b"a", lease=lease)
    world.put(b"b", lease=lease)
    world.put(b"b", lease=lease)
    with pytest.raises(OverLimit):
        world.put(b"c", lease=lease)


def test_flags_and_extra(world: KeysWorld) -> None:
    world.put(b"k", flags=(1 << 64) - 1, extra=b"acl")
    world.put(b"k", flags=7)
    kv = world.get(b"k")
    assert kv is not None
    assert (kv.flags, kv.extra) == (7, b"acl")
    world.put(b"k", extra=b"")
    kv = world.get(b"k")
    assert kv is not None
    assert (kv.flags, kv.extra) == (0, b"")


# --- locks


def test_a_lock_is_taken_kept_and_released(world: KeysWorld) -> None:
    mine, other = world.open_session(), world.open_session()
    world.put(b"k", b"1", session=mine)
    kv = world.get(b"k")
    assert kv is not None
    assert (kv.session, kv.lock_index) == (mine, 1)
    with pytest.raises(Conflict) as caught:
        world.put(b"k", b"2", session=other)
    assert caught.value.fields["session"] == mine
    world.put(b"k", b"3", session=mine)  # again: the same hold
    world.put(b"k", b"4")  # a plain write over a lock goes through and leaves it
    kv = world.get(b"k")
    assert kv is not None
    assert (kv.value, kv.session, kv.lock_index) == (b"4", mine, 1)
    assert world.holds(b"k", SESSION, EQUAL, mine.encode())
    world.put(b"k", b"5", session="")
    world.put(b"k", b"6", session=other)
    kv = world.get(b"k")
    assert kv is not None
    assert (kv.session, kv.lock_index) == (other, 2)


def test_a_lock_needs_a_session_and_waits_for_the_lock_delay(world: KeysWorld) -> None:
    with pytest.raises(NotFound):
        world.put(b"k", session="nobody")
    mine, other = world.open_session(lock_delay_ms=15_000), world.open_session()
    world.put(b"k", session=mine)
    world.close(mine)
    with pytest.raises(Conflict, match="without releasing") as caught:
        world.put(b"k", session=other)
    assert caught.value.fields["until_ms"] == world.now_ms + 15_000
    world.put(b"k")  # only locking waits
    world.wait(15_000)
    world.put(b"k", session=other)
