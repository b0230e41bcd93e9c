"""The writer: groups, order, answers, and what it does when the engine fails."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

import pytest
from running_hub import API, WEB, Running, put, register, running, until

from townhall.core import Commit, Outcome, Rules, facts
from townhall.core.codec import encode_commit
from townhall.core.commands import CompactSpace, Deregister, LapseLeases, PatchInstance, Transact
from townhall.engine.faults import Fault, FaultPlan, FaultyEngine
from townhall.engine.memory import MemoryEngine
from townhall.hub import writer as module
from townhall.hub.hub import INTERNAL, HubOptions
from townhall.model import limits
from townhall.model.errors import (
    Conflict,
    EngineFailed,
    EngineFull,
    NotFound,
    OutcomeUnknown,
    OverLimit,
    Stopping,
    TooLarge,
    TownhallError,
)
from townhall.model.guard import Alarm
from townhall.model.keys import Get, Put, Transaction


class Grouping(MemoryEngine):
    """Notes how many blobs came at once."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []

    async def append(self, blobs: Sequence[bytes], expect: int) -> int:
        self.groups.append(len(blobs))
        return await super().append(blobs, expect)


def faulty(*script: Fault | None, inner: MemoryEngine | None = None) -> FaultyEngine:
    plan = FaultPlan(script={number: fault for number, fault in enumerate(script, 1) if fault})
    return FaultyEngine(inner or MemoryEngine(), plan, random.Random(1))


def test_strangers_share_a_group_and_positions_are_dense() -> None:
    engine = Grouping()

    async def body(bench: Running) -> None:
        outcomes = await asyncio.gather(*[bench.send(register(f"i{number}")) for number in range(50)])
        assert [outcome.position for outcome in outcomes if isinstance(outcome, Outcome)] == list(range(1, 51))
        assert engine.groups == [50]
        assert bench.hub.state.position == 50

    running(body, engine)


def test_commands_on_one_thing_keep_their_order_in_groups_of_their_own() -> None:
    engine = Grouping()

    async def body(bench: Running) -> None:
        await asyncio.gather(*[bench.send(put(b"k", b"%d" % number)) for number in range(5)])
        assert engine.groups == [1] * 5
        kv = bench.hub.reader(INTERNAL).get("native", b"k")
        assert kv is not None
        assert kv.value == b"4"

    running(body, engine)


def test_a_stranger_overtakes_but_nobody_who_meets_one_that_waits() -> None:
    engine = Grouping()

    async def body(bench: Running) -> None:
        answered: list[str] = []
        await bench.done(put(b"0"))
        engine.groups.clear()

        def send(name: str, key: bytes) -> None:
            bench.hub.submit(put(key, name.encode()), INTERNAL, lambda _: answered.append(name))

        send("a1", b"a")
        send("a2", b"a")
        send("b1", b"b")
        both = Transact(space="native", transaction=Transaction(success=(Get(b"a"), *put(b"c").transaction.success)))
        bench.hub.submit(both, INTERNAL, lambda _: answered.append("both"))
        send("c1", b"c")
        await bench.done(register())
        assert engine.groups[0] == 3, "a1, b1 and the registration"
        await until(lambda: len(answered) == 5)
        assert answered == ["a1", "b1", "a2", "both", "c1"]

    running(body, engine)


def test_a_queue_for_one_key_is_not_walked_from_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    footprint = module.footprint

    def counting(command: object, state: object) -> object:
        nonlocal looked
        looked += 1
        return footprint(command, state)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "footprint", counting)

    async def body(bench: Running) -> None:
        await asyncio.gather(*[bench.send(put(b"k")) for _ in range(300)])
        assert looked < 300 * (module.WAITING_SCAN_COUNT + 5)

    running(body)


def test_what_must_be_alone_is_alone() -> None:
    engine = Grouping()

    async def body(bench: Running) -> None:
        granted = await bench.done(register("x"))
        lease = granted.result.lease  # type: ignore[attr-defined]
        engine.groups.clear()
        await asyncio.gather(
            bench.send(register("a")), bench.send(LapseLeases(leases=((lease, 1),))), bench.send(register("b"))
        )
        assert engine.groups == [1, 1, 1]

    running(body, engine)


def test_refusals_and_commands_that_change_nothing_need_no_append() -> None:
    engine = Grouping()

    async def body(bench: Running) -> None:
        refused = await bench.result(Deregister(key=WEB, id="nobody"))
        assert isinstance(refused, NotFound)
        read = await bench.done(Transact(space="native", transaction=Transaction(success=(Get(b"k"),))))
        assert (read.position, read.facts) == (0, ())
        assert read.result.responses[0].count == 0  # type: ignore[attr-defined]
        assert engine.groups == []
        first = await bench.done(register())
        again = await bench.done(register())
        assert (first.position, again.position, again.facts) == (1, 1, ())

    running(body, engine)


def test_results_with_numbers_from_evolve_are_settled() -> None:
    async def body(bench: Running) -> None:
        outcomes = await asyncio.gather(bench.send(put(b"a")), bench.send(put(b"b")))
        revisions = [outcome.result.revision for outcome in outcomes]  # type: ignore[union-attr, attr-defined]
        assert revisions == [2, 3]

    running(body)


def test_done_is_never_called_from_within_submit() -> None:
    async def body(bench: Running) -> None:
        inside = True
        calls: list[bool] = []
        bench.hub.submit(register(), INTERNAL, lambda _: calls.append(inside))
        bench.hub.writer.failure = EngineFailed("broken")
        bench.hub.submit(register("b"), INTERNAL, lambda _: calls.append(inside))
        bench.hub.writer.failure = None
        inside = False
        await bench.done(register("c"))
        assert calls == [False, False]

    running(body)


def test_a_callback_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def body(bench: Running) -> None:
        def broken(result: object) -> None:
            raise ConnectionResetError("the client is gone")

        bench.hub.submit(register("a"), INTERNAL, broken)
        await bench.done(register("b"))
        await bench.done(register("c"))
        assert bench.hub.writer.callback_errors == 1
        assert bench.hub.state.instance_count == 3

    with caplog.at_level(logging.ERROR):
        running(body)
    assert "answering a command failed" in caplog.text


def test_a_bug_in_deciding_is_one_commands_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decide = module.decide

    def broken(state: object, command: object, context: object) -> object:
        if isinstance(command, CompactSpace):
            raise ZeroDivisionError("a bug")
        return decide(state, command, context)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "decide", broken)

    async def body(bench: Running) -> None:
        results = await asyncio.gather(
            bench.send(CompactSpace(space="native", revision=1)), bench.send(register()), return_exceptions=True
        )
        assert type(results[0]) is TownhallError
        assert isinstance(results[1], Outcome)

    with caplog.at_level(logging.ERROR):
        running(body)
    assert "a bug" in caplog.text


def test_too_many_waiting_commands_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_COMMANDS_MAX", 3)

    async def body(bench: Running) -> None:
        outside = INTERNAL.__class__(management=True)
        results: list[object] = []
        for number in range(5):
            bench.hub.submit(register(f"i{number}"), outside, results.append)
        await bench.done(register("own"))
        await until(lambda: len(results) == 5)
        assert sum(isinstance(result, OverLimit) for result in results) == 2
        assert bench.hub.state.instance_count == 4, "the registry's own commands still have room"

    running(body)


def test_a_group_is_limited_in_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUP_COMMITS_MAX", 10)
    engine = Grouping()

    async def body(bench: Running) -> None:
        await asyncio.gather(*[bench.send(register(f"i{number}")) for number in range(25)])
        assert engine.groups == [10, 10, 5]

    running(body, engine)


def test_a_group_is_limited_in_size_and_a_commit_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMIT_SIZE_MAX", 1_000)
    engine = Grouping()

    async def body(bench: Running) -> None:
        commands = [put(b"%d" % number, b"x" * 400) for number in range(4)]
        await bench.done(put(b"0"))
        engine.groups.clear()
        results = await asyncio.gather(
            *[bench.send(command) for command in commands], bench.send(put(b"z", b"x" * 2_000))
        )
        assert [type(result) for result in results] == [Outcome] * 4 + [TooLarge]
        assert engine.groups == [2, 2]

    running(body, engine)


def test_a_full_disk_refuses_and_gets_well_again(caplog: pytest.LogCaptureFixture) -> None:
    async def body(bench: Running) -> None:
        assert isinstance(await bench.result(register("a")), EngineFull)
        assert bench.hub.writer.full
        assert bench.hub.status()["engine"] == "full"
        assert bench.hub.reader(INTERNAL).instances(WEB) == ()
        outcome = await bench.done(register("a"))
        assert outcome.position == 1
        assert bench.hub.status()["engine"] == "ok"

    with caplog.at_level(logging.WARNING):
        running(body, faulty(Fault.FULL))
    said = [record.getMessage() for record in caplog.records if record.name == "townhall.hub.writer"]
    assert [line.partition(":")[0] for line in said] == [
        "writes are refused",
        "there is room in the journal again, writes are accepted",
    ]


def test_the_log_does_not_repeat_that_the_disk_is_full(caplog: pytest.LogCaptureFixture) -> None:
    async def body(bench: Running) -> None:
        for _ in range(3):
            assert isinstance(await bench.result(register("a")), EngineFull)

    with caplog.at_level(logging.ERROR):
        running(body, faulty(Fault.FULL, Fault.FULL, Fault.FULL))
    assert caplog.text.count("writes are refused") == 1


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_DURABLE, Fault.UNKNOWN_LOST, Fault.TORN])
def test_an_unknown_outcome_ends_writing_but_not_reading(fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    memory = MemoryEngine()

    async def body(bench: Running) -> None:
        await bench.done(register("a"))
        results = await asyncio.gather(*[bench.send(put(b"k", b"%d" % number)) for number in range(3)])
        assert all(isinstance(result, OutcomeUnknown) for result in results)
        assert isinstance(await bench.result(register("b")), OutcomeUnknown)
        assert [instance.id for instance in bench.hub.reader(INTERNAL).instances(WEB)] == ["a"]
        status = bench.hub.status()
        assert (status["engine"], status["ready"]) == ("failed", False)
        assert "may or may not" in str(status["engine_error"])

    with caplog.at_level(logging.ERROR):
        running(body, faulty(None, fault, inner=memory))
    assert "no more writes are accepted" in caplog.text

    async def after(bench: Running) -> None:
        durable = fault is Fault.UNKNOWN_DURABLE
        assert (bench.hub.reader(INTERNAL).get("native", b"k") is not None) == durable
        await bench.done(register("b"))

    running(after, memory)


def test_an_engine_that_breaks_its_contract_counts_as_unknown(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryEngine):
        async def append(self, blobs: Sequence[bytes], expect: int) -> int:
            raise RuntimeError("a bug in the engine")

    async def body(bench: Running) -> None:
        assert isinstance(await bench.result(register()), OutcomeUnknown)

    with caplog.at_level(logging.ERROR):
        running(body, Broken())
    assert "a bug in the engine" in caplog.text


class Shared(MemoryEngine):
    """Somebody else appends just before our second group."""

    def __init__(self, *, liar: bool = False) -> None:
        super().__init__()
        self.appends = 0
        self.liar = liar

    async def append(self, blobs: Sequence[bytes], expect: int) -> int:
        self.appends += 1
        if self.appends == 2:
            if self.liar:
                raise Conflict("somebody was faster")
            instance = register("other")
            fact = facts.ServicePut(instance.key, {"by": "another"}, facts.ServiceSettings())
            await super().append([encode_commit(Commit(0, 5, "there", (fact,)))], expect)
        return await super().append(blobs, expect)


def test_a_conflict_is_followed_and_decided_again() -> None:
    async def body(bench: Running) -> None:
        woken: list[int] = []
        bench.hub.watch([WEB], lambda: woken.append(1))
        await bench.done(register("a", API))
        outcomes = await asyncio.gather(bench.send(register("b", API)), bench.send(register("c", API)))
        assert [outcome.position for outcome in outcomes if isinstance(outcome, Outcome)] == [3, 4]
        assert bench.hub.reader(INTERNAL).service(WEB).metadata == {"by": "another"}
        assert bench.hub.writer.conflicts == 1
        await asyncio.sleep(0)
        assert woken == [1], "what others write wakes our watchers too"

    running(body, Shared())


def test_a_conflict_without_news_is_a_broken_engine(caplog: pytest.LogCaptureFixture) -> None:
    async def body(bench: Running) -> None:
        await bench.done(register("a", API))
        assert isinstance(await bench.result(register("b", API)), EngineFailed)

    with caplog.at_level(logging.ERROR):
        running(body, Shared(liar=True))


def test_a_bug_in_evolving_ends_writing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    evolve = module.evolve

    def broken(state: object, commit: Commit, changes: object) -> object:
        if commit.position == 2:
            raise ZeroDivisionError("a bug")
        return evolve(state, commit, changes)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "evolve", broken)

    async def body(bench: Running) -> None:
        results = await asyncio.gather(bench.send(register("a")), bench.send(register("b")), bench.send(register("c")))
        assert isinstance(results[0], Outcome)
        assert [type(result) for result in results[1:]] == [OutcomeUnknown, OutcomeUnknown]
        assert isinstance(await bench.result(register("d")), OutcomeUnknown)

    with caplog.at_level(logging.CRITICAL):
        running(body)


def test_a_bug_in_the_writer_itself_is_seen_and_told(caplog: pytest.LogCaptureFixture) -> None:
    class Miscounting(MemoryEngine):
        async def append(self, blobs: Sequence[bytes], expect: int) -> int:
            return await super().append(blobs, expect) + 1

    async def body(bench: Running) -> None:
        bench.send(register("a"))
        await until(lambda: bench.hub.writer.failure is not None)
        assert isinstance(await bench.result(register("b")), OutcomeUnknown)

    with caplog.at_level(logging.CRITICAL):
        running(body, Miscounting())
    assert "the writer broke" in caplog.text


def test_stopping_answers_what_waits_and_refuses_the_rest() -> None:
    async def main() -> None:
        bench = Running()
        await bench.hub.start()
        waiting = [bench.send(put(b"k", b"%d" % number)) for number in range(5)]
        stop = asyncio.ensure_future(bench.hub.stop())
        await asyncio.sleep(0)
        late = bench.send(register())
        await asyncio.wait_for(stop, 120)
        assert [type(result) for result in await asyncio.gather(*waiting)] == [Outcome] * 5
        assert isinstance(await late, Stopping)
        await bench.hub.stop()

    asyncio.run(main())


def test_time_in_the_journal_never_goes_back() -> None:
    async def body(bench: Running) -> None:
        first = await bench.done(register("a"))
        bench.clock.advance(-5_000)
        second = await bench.done(register("b"))
        bench.clock.advance(10_000)
        third = await bench.done(PatchInstance(key=WEB, id="b", weight=2.0))
        assert first.time_ms == second.time_ms < third.time_ms

    running(body)


def test_a_callback_may_submit() -> None:
    async def body(bench: Running) -> None:
        chained = asyncio.get_running_loop().create_future()

        def again(result: Outcome | TownhallError) -> None:
            bench.hub.submit(register("b"), INTERNAL, chained.set_result)

        bench.hub.submit(register("a"), INTERNAL, again)
        outcome = await asyncio.wait_for(chained, 120)
        assert outcome.position == 2

    running(body)


def test_a_refusal_may_be_journaled_with_its_reason() -> None:
    async def body(bench: Running) -> None:
        value = b"v" * 2_000
        full = Transact(space="etcd", transaction=Transaction(success=(Put(b"k", value),)), alarm=True)
        result = await bench.result(full)
        assert isinstance(result, OverLimit)
        assert bench.hub.state.guards["etcd"].alarms == {Alarm.NO_SPACE}
        assert bench.hub.state.position == 1

    running(body, options=HubOptions(node="here", rules=Rules(space_size_max=1_000)))
