"""What every engine promises, written once against the contract."""

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest
from engine_cases import MAKERS, append, entries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.engine import Engine, Entry, Opened
from townhall.model import limits
from townhall.model.errors import Compacted, Conflict, EngineFailed, TooLarge


@pytest.fixture(params=MAKERS)
def engine(request, tmp_path):
    made: Engine = MAKERS[request.param](tmp_path / "data")
    assert made.open() == Opened(0, 0)
    yield made
    made.close()


def reopen(engine: Engine) -> Opened:
    engine.close()
    return engine.open()


def test_positions_are_dense_from_one_and_groups_keep_their_order(engine):
    assert append(engine, [b"a", b"", b"c"], 0) == 3
    assert append(engine, [b"d"], 3) == 4
    assert engine.tail() == 4
    assert entries(engine) == [Entry(1, b"a"), Entry(2, b""), Entry(3, b"c"), Entry(4, b"d")]
    assert all(isinstance(entry, Entry) for entry in engine.follow(0))


def test_follow_begins_behind_any_position_also_within_a_group(engine):
    append(engine, [b"%d" % number for number in range(1, 8)])
    append(engine, [b"8", b"9"])
    for after in range(12):
        assert entries(engine, after) == [Entry(number, b"%d" % number) for number in range(after + 1, 10)]


def test_an_empty_group_changes_nothing(engine):
    append(engine, [b"a"])
    assert append(engine, []) == 1
    assert entries(engine) == [Entry(1, b"a")]


def test_another_tail_than_expected_is_a_conflict_and_changes_nothing(engine):
    append(engine, [b"a", b"b"])
    for expect in (0, 1, 3):
        with pytest.raises(Conflict) as caught:
            append(engine, [b"x"], expect)
        assert caught.value.fields["tail"] == 2
    assert entries(engine) == [Entry(1, b"a"), Entry(2, b"b")]
    assert append(engine, [b"c"], 2) == 3


def test_a_group_over_the_limit_is_refused_whole(engine):
    class Long(bytes):
        def __len__(self):
            return limits.GROUP_SIZE_MAX

    with pytest.raises(TooLarge):
        append(engine, [b"a", Long()])
    assert engine.tail() == 0
    assert append(engine, [b"a"], 0) == 1


def test_everything_is_there_after_reopening(engine):
    append(engine, [b"a" * 100, b"b" * 5000])
    append(engine, [b"c"])
    before = entries(engine)
    assert reopen(engine) == Opened(0, 3)
    assert entries(engine) == before
    assert append(engine, [b"d"], 3) == 4
    assert reopen(engine) == Opened(0, 4)
    assert entries(engine) == [*before, Entry(4, b"d")]


def test_large_entries(engine):
    large = bytes(range(256)) * 20_000
    append(engine, [large, b"x", large])
    append(engine, [large])
    assert [entry.blob for entry in engine.follow(0)] == [large, b"x", large, large]


def test_the_snapshot_slot_holds_the_chunks_as_given(engine):
    assert list(engine.snapshot()) == []
    append(engine, [b"a", b"b", b"c"])
    engine.save(2, iter([b"one", b"", b"three" * 1000]))
    assert list(engine.snapshot()) == [b"one", b"", b"three" * 1000]
    assert reopen(engine) == Opened(2, 3)
    assert list(engine.snapshot()) == [b"one", b"", b"three" * 1000]
    assert entries(engine, 2) == [Entry(3, b"c")]
    engine.save(3, [b"next"])
    assert list(engine.snapshot()) == [b"next"]
    engine.save(3, [])
    assert list(engine.snapshot()) == []
    assert reopen(engine) == Opened(3, 3)


def test_an_older_snapshot_or_one_ahead_of_the_journal_is_refused(engine):
    append(engine, [b"a", b"b"])
    engine.save(2, [b"two"])
    for position in (1, 3):
        with pytest.raises(Conflict):
            engine.save(position, [b"other"])
    assert list(engine.snapshot()) == [b"two"]


def test_a_snapshot_whose_chunks_fail_leaves_the_old_one(engine):
    def broken():
        yield b"first"
        raise KeyError("source")

    append(engine, [b"a", b"b"])
    engine.save(1, [b"one"])
    with pytest.raises(KeyError):
        engine.save(2, broken())
    assert list(engine.snapshot()) == [b"one"]
    assert reopen(engine) == Opened(1, 2)
    assert list(engine.snapshot()) == [b"one"]


def test_trim_forgets_only_what_a_snapshot_covers(engine):
    for number in range(1, 41):
        append(engine, [b"%d" % number * 20])
    with pytest.raises(Conflict):
        engine.trim(1)
    engine.save(30, [b"s"])
    engine.trim(20)
    engine.trim(10)
    with pytest.raises(Conflict):
        engine.trim(31)
    assert [entry.position for entry in engine.follow(20)] == list(range(21, 41))
    assert reopen(engine) == Opened(30, 40)
    assert [entry.position for entry in engine.follow(30)] == list(range(31, 41))
    with contextlib.suppress(Compacted):
        assert entries(engine)[0].position == 1


def test_appends_go_on_when_all_was_trimmed(engine):
    append(engine, [b"a", b"b"])
    engine.save(2, [b"s"])
    engine.trim(2)
    assert reopen(engine) == Opened(2, 2)
    assert append(engine, [b"c"], 2) == 3
    assert entries(engine, 2) == [Entry(3, b"c")]
    assert reopen(engine) == Opened(2, 3)
    assert entries(engine, 2) == [Entry(3, b"c")]


def test_close_is_idempotent_and_a_closed_engine_takes_nothing(engine):
    append(engine, [b"a"])
    engine.close()
    engine.close()
    with pytest.raises(EngineFailed):
        append(engine, [b"b"], 1)
    assert engine.open() == Opened(0, 1)


def test_cancelling_the_caller_never_leaves_half_a_group(engine):
    async def cancelled():
        task = asyncio.ensure_future(engine.append([b"a", b"b"], 0))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    engine.close()
    assert engine.open().tail in {0, 2}
    assert entries(engine) in ([], [Entry(1, b"a"), Entry(2, b"b")])


def test_follow_beside_append_sees_whole_prefixes(engine):
    async def both():
        position = 0
        for number in range(30):
            pending = asyncio.ensure_future(engine.append([b"x%d" % number] * 3, position))
            await asyncio.sleep(0)
            seen = [entry.position for entry in engine.follow(0)]
            assert seen == list(range(1, len(seen) + 1))
            assert len(seen) % 3 == 0
            assert len(seen) >= position
            position = await pending
            assert [entry.position for entry in engine.follow(position - 2)] == [position - 1, position]

    asyncio.run(both())


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.binary(max_size=300), min_size=1, max_size=6)),
        st.tuples(st.just("save"), st.integers(0, 30), st.lists(st.binary(max_size=200), max_size=4)),
        st.tuples(st.just("trim"), st.integers(0, 30)),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=OPERATIONS)
def test_any_sequence_agrees_with_a_list(name, operations):
    with tempfile.TemporaryDirectory() as root:
        engine = MAKERS[name](Path(root) / "data")
        engine.open()
        model: list[bytes] = []
        snapshot, chunks = 0, []
        for operation in operations:
            match operation:
                case ("append", blobs):
                    assert append(engine, blobs, len(model)) == len(model) + len(blobs)
                    model += blobs
                case ("save", position, given_chunks):
                    # A snapshot of position 0 is none at all.
                    if 0 < position <= len(model) and position >= snapshot:
                        engine.save(position, given_chunks)
                        snapshot, chunks = position, given_chunks
                case ("trim", upto):
                    if upto <= snapshot:
                        engine.trim(upto)
                case ("reopen",):
                    assert reopen(engine) == Opened(snapshot, len(model))
            assert engine.tail() == len(model)
            assert list(engine.snapshot()) == chunks
            expected = [Entry(number, blob) for number, blob in enumerate(model, 1)]
            assert entries(engine, snapshot) == expected[snapshot:]
            with contextlib.suppress(Compacted):
                assert entries(engine, 0) == expected
        engine.close()
