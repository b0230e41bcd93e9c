"""The keyspace beside its naive model, driven through decide and evolve as the hub does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from unittest import mock

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from model.naive_keyspace import NaiveKeyspace
from townhall.core import Context, Decision, Rules, Unsettled, commands, history, query_keys
from townhall.core.codec import decode_commit, dump_state, encode_commit, load_state
from townhall.core.decide import decide
from townhall.core.evolve import evolve
from townhall.core.facts import Commit
from townhall.core.keyspace import Keyspace
from townhall.core.state import State
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import Compacted, InvalidField, TownhallError
from townhall.model.keys import Compare, CompareTarget, Delete, Get, Put, Relation, Transaction
from townhall.model.lease import LeaseKind, SessionBehavior

HISTORY_COUNT_MAX = 18
KEYS = [b"a", b"aa", b"ab", b"b", b"c", b"\xff", b"\xff\xff"]
ENDS = [b"", b"\0", b"ab", b"b", b"c", b"\xff", b"\xff\xff"]
SPANS = [(b"a", b""), (b"ab", b""), (b"\0", b"\0"), (b"a", b"b"), (b"ab", b"\0"), (b"c", b"a"), (b"b", b"\xff")]

keys = st.sampled_from(KEYS)
ends = st.sampled_from(ENDS)
values = st.sampled_from([b"", b"1", b"22"])
numbers = st.integers(0, 12)


class Ids:
    def __init__(self) -> None:
        self.last = 0

    def lease_id(self) -> int:
        self.last += 1
        return self.last

    def secret(self) -> str:
        return "secret"

    def name(self) -> str:
        self.last += 1
        return f"session-{self.last}"


@st.composite
def compares(draw: st.DrawFn) -> Compare:
    target = draw(st.sampled_from(CompareTarget))
    relation = draw(st.sampled_from(Relation))
    textual = target in (CompareTarget.VALUE, CompareTarget.SESSION)
    value: int | bytes = draw(values) if textual else draw(numbers)
    return Compare(draw(keys), target, relation, value, draw(ends))


gets = st.builds(
    Get, keys, ends, st.integers(0, 3), keys_only=st.booleans(), count_only=st.booleans(), revision=st.just(0)
)
puts = st.builds(
    Put,
    keys,
    values,
    flags=st.integers(0, 3),
    session=st.sampled_from([None, None, ""]),
    extra=st.sampled_from([None, b"", b"x"]),
)
deletes = st.builds(Delete, keys, ends)
operations = st.recursive(
    gets | puts | deletes,
    lambda inner: st.builds(
        Transaction,
        st.lists(compares(), max_size=2).map(tuple),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=6,
)
transactions = st.builds(
    Transaction,
    st.lists(compares(), max_size=2).map(tuple),
    st.lists(operations, max_size=4).map(tuple),
    st.lists(operations, max_size=2).map(tuple),
)


class KeyspaceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patches = ExitStack()
        for target, name, value in (
            (limits, "KEY_HISTORY_COUNT_MAX", HISTORY_COUNT_MAX),
            (limits, "KEY_PURGE_COUNT_MAX", 3),
            (limits, "KEY_PURGE_STEP_COUNT", 1),
            (history, "_EXACT_COUNT", 3),
            (history, "_COLLAPSE_COUNT", 4),
        ):
            self.patches.enter_context(mock.patch.object(target, name, value))
        self.state = State()
        self.naive = NaiveKeyspace(HISTORY_COUNT_MAX)
        self.context = Context(1_000, Ids(), Actor(internal=True), Rules(), "node")
        self.leases: list[int] = []
        self.sessions: list[str] = []

    def teardown(self) -> None:
        self.patches.close()

    # --- doing

    def do(self, command: commands.Command) -> object:
        decision = decide(self.state, command, self.context)
        if isinstance(decision, TownhallError):
            raise decision
        assert isinstance(decision, Decision)
        if not decision.facts:
            return decision.result
        position = self.state.position + 1
        commit = decode_commit(encode_commit(Commit(0, self.context.now_ms, "node", decision.facts)), position)
        changes = evolve(self.state, commit)
        result = decision.result
        return result.settle(changes) if isinstance(result, Unsettled) else result

    def transact(self, transaction: Transaction) -> None:
        try:
            result = self.do(commands.Transact(space="etcd", transaction=transaction))
        except InvalidField as refusal:
            if refusal.fields["field"] != "operations":
                raise
            return  # Two fates for one key: test_core_transaction_rules says which.
        expected = self.naive.transact(transaction)
        assert msgspec.to_builtins(result) == msgspec.to_builtins(expected)

    @initialize()
    def begin(self) -> None:
        self.transact(Transaction(success=(Put(b"a", b"0"),)))

    @rule(put=puts)
    def put(self, put: Put) -> None:
        self.transact(Transaction(success=(put,)))

    @rule(key=keys, count=st.integers(1, 8))
    def put_often(self, key: bytes, count: int) -> None:
        for _ in range(count):
            self.transact(Transaction(success=(Put(key, b"again"),)))

    @rule(transaction=transactions)
    def any_transaction(self, transaction: Transaction) -> None:
        self.transact(transaction)

    @rule(delete=deletes)
    def delete(self, delete: Delete) -> None:
        self.transact(Transaction(success=(delete,)))

    @rule(data=st.data(), key=keys, end=ends)
    def read_an_old_revision(self, data: st.DataObject, key: bytes, end: bytes) -> None:
        revision = data.draw(st.integers(max(1, self.naive.compacted), self.naive.revision))
        self.transact(Transaction(success=(Put(b"z", b""), Get(key, end, 2, revision=revision))))

    @rule(data=st.data(), key=keys, ignore=st.booleans())
    def keep_parts(self, data: st.DataObject, key: bytes, ignore: bool) -> None:
        if key in self.naive.now:
            put = Put(key, b"" if ignore else b"new", ignore_value=ignore, ignore_lease=not ignore)
            self.transact(Transaction(success=(put,)))

    @rule(share=st.floats(0, 1))
    def compact(self, share: float) -> None:
        revision = int(self.naive.revision * share)
        command = commands.CompactSpace(space="etcd", revision=revision)
        if self.naive.compacted > 0 and revision <= self.naive.compacted:
            with pytest.raises(Compacted):
                self.do(command)
        else:
            self.do(command)
            self.naive.compact(revision)

    # --- leases and sessions

    @rule()
    def grant(self) -> None:
        granted = self.do(commands.GrantLease(ttl_ms=5_000, kind=LeaseKind.KEYS))
        assert isinstance(granted, commands.LeaseGrant)
        self.leases.append(granted.id)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), key=keys, value=values)
    def put_on_lease(self, data: st.DataObject, key: bytes, value: bytes) -> None:
        self.transact(Transaction(success=(Put(key, value, data.draw(st.sampled_from(self.leases))),)))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def end_lease(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        self.leases.remove(lease)
        self.do(commands.EndLease(id=lease))
        self.naive.delete_all(sorted(self.naive.on_lease(lease)))

    @rule(behavior=st.sampled_from(SessionBehavior), ttl_ms=st.sampled_from([0, 10_000]))
    def open_session(self, behavior: SessionBehavior, ttl_ms: int) -> None:
        opened = self.do(commands.OpenSession(behavior=behavior, ttl_ms=ttl_ms, lock_delay_ms=0))
        assert isinstance(opened, str)
        self.sessions.append(opened)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), key=keys)
    def lock(self, data: st.DataObject, key: bytes) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        held = self.naive.now.get(key)
        if held is None or held.session in ("", session):
            self.transact(Transaction(success=(Put(key, b"locked", session=session),)))
        else:
            taken = commands.Transact(space="etcd", transaction=Transaction(success=(Put(key, b"", session=session),)))
            with pytest.raises(TownhallError, match="another session"):
                self.do(taken)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), expire=st.booleans())
    def close_session(self, data: st.DataObject, expire: bool) -> None:
        name = data.draw(st.sampled_from(self.sessions))
        self.sessions.remove(name)
        session = self.state.sessions[name]
        lapse = expire and session.lease
        self.do(commands.LapseLeases(leases=((session.lease, 1),)) if lapse else commands.CloseSession(id=name))
        held = self.naive.locked_by(name)
        (self.naive.delete_all if session.behavior is SessionBehavior.DELETE else self.naive.release_all)(held)
        assert session.lease not in self.state.leases

    # --- snapshots

    @rule(meanwhile=puts)
    def dump_and_load(self, meanwhile: Put) -> None:
        chunks = dump_state(self.state)
        expected = list(self.state.spaces["etcd"].dump())
        self.transact(Transaction(success=(meanwhile,)))
        loaded = load_state(chunks)
        loaded.check()
        assert list(loaded.spaces["etcd"].dump()) == expected

    @rule()
    def go_on_from_a_snapshot(self) -> None:
        size = self.state.spaces["etcd"].size
        self.state = load_state(list(dump_state(self.state)))
        assert self.state.spaces["etcd"].size == size

    # --- comparing

    @invariant()
    def everything_agrees(self) -> None:
        space, naive = self.state.spaces.get("etcd"), self.naive
        if space is None:
            return
        self.state.check()
        assert (space.revision, space.compacted) == (naive.revision, naive.compacted)
        assert space.key_count == len(naive.now)
        for start, end in SPANS:
            assert space.count(start, end) == naive.range(start, end, naive.revision)[1]
            self.ranges_agree(space, start, end)
            self.events_agree(start, end)

    def ranges_agree(self, space: Keyspace, start: bytes, end: bytes) -> None:
        for revision in self.readable():
            kvs, count = self.naive.range(start, end, revision)
            assert space._range_undone(start, end or start + b"\0", revision, 0) == (kvs, count)
            for limit in (0, 1, 2):
                expected = (kvs[: limit or None], count)
                assert space.range_at(start, end, revision, limit=limit) == expected, (start, end, revision, limit)
            kv = self.naive.states[revision].get(start)
            assert query_keys.get(self.state, "etcd", start, revision=revision) == kv

    def events_agree(self, start: bytes, end: bytes) -> None:
        space = self.state.spaces["etcd"]
        for after in self.readable():
            found = self.naive.events(start, end, after - 1)
            for limit in (0, 1, 3):
                # What was written together is told together, so the last revision may go beyond the limit.
                last = found[limit - 1].revision if 0 < limit <= len(found) else self.naive.revision
                expected = [event for event in found if event.revision <= last]
                assert list(query_keys.key_events(self.state, "etcd", start, end, after - 1, limit=limit)) == expected
                if end:
                    assert space._events_by_key(start, end, after - 1, limit) == expected
        if self.naive.compacted > 1:
            with pytest.raises(Compacted):
                query_keys.key_events(self.state, "etcd", start, end, self.naive.compacted - 2)

    def readable(self) -> Iterator[int]:
        yield from range(max(1, self.naive.compacted), self.naive.revision + 1)


TestKeyspace = KeyspaceMachine.TestCase
TestKeyspace.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
