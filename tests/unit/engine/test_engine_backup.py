import asyncio
import os
import random

import pytest
from engine_cases import append, entries, filled, flip

from townhall.engine import Entry, Opened
from townhall.engine import backup as backup_module
from townhall.engine.backup import Stock, backup, restore, verify_backup
from townhall.engine.disk import PosixDisk
from townhall.engine.file import FileEngine
from townhall.engine.recordfile import RecordWriter
from townhall.model import limits
from townhall.model.errors import AlreadyExists, Compacted, Damaged, EngineFailed, EngineFull


def restored(source, target):
    stock = restore(source, target)
    engine = FileEngine(target)
    assert engine.open() == Opened(stock.snapshot, stock.tail)
    found = (list(engine.snapshot()), entries(engine, stock.snapshot))
    assert append(engine, [b"goes on"], stock.tail) == stock.tail + 1
    engine.close()
    return found


def test_a_running_engine_is_backed_up_and_restored(tmp_path):
    engine = filled(tmp_path / "d", groups=5)
    engine.save(3, [b"one", b"", b"two"])
    assert backup(engine, tmp_path / "b") == Stock(3, 10)
    after = entries(engine, 3)
    engine.close()
    assert verify_backup(tmp_path / "b") == Stock(3, 10)
    assert restored(tmp_path / "b", tmp_path / "new") == ([b"one", b"", b"two"], after)


def test_without_a_snapshot_and_with_nothing_behind_it(tmp_path):
    engine = filled(tmp_path / "d", groups=2)
    backup(tmp_path / "d", tmp_path / "journal-only")
    engine.save(4, [b"all"])
    backup(tmp_path / "d", tmp_path / "snapshot-only")
    engine.close()
    assert restored(tmp_path / "journal-only", tmp_path / "one")[1] == [
        Entry(1, b"a0"),
        Entry(2, b"b0"),
        Entry(3, b"a1"),
        Entry(4, b"b1"),
    ]
    assert restored(tmp_path / "snapshot-only", tmp_path / "two") == ([b"all"], [])


def test_an_empty_registry_has_a_backup_too(tmp_path):
    filled(tmp_path / "d", groups=0).close()
    assert backup(tmp_path / "d", tmp_path / "b") == Stock(0, 0)
    assert restored(tmp_path / "b", tmp_path / "new") == ([], [])


def test_groups_are_cut_by_size_and_count(tmp_path, monkeypatch):
    monkeypatch.setattr(backup_module, "REPLAY_BLOCK_SIZE", 10)
    monkeypatch.setattr(backup_module, "_GROUP_COUNT_MAX", 3)
    engine = filled(tmp_path / "d", groups=20)
    append(engine, [b"x" * 50, b""])
    backup(engine, tmp_path / "b")
    before = entries(engine)
    engine.close()
    assert restored(tmp_path / "b", tmp_path / "new")[1] == before


def test_a_backup_beside_appends_is_a_prefix(tmp_path):
    engine = filled(tmp_path / "d", groups=1)

    async def both():
        loop = asyncio.get_running_loop()
        pending = loop.run_in_executor(None, backup, engine, tmp_path / "b")
        position = 2
        while not pending.done() or position < 12:
            position = await engine.append([b"%d" % position] * 2, position)
        return await pending

    stock = asyncio.run(both())
    before = entries(engine)
    engine.close()
    assert stock.tail % 2 == 0
    assert restored(tmp_path / "b", tmp_path / "new")[1] == before[: stock.tail]


def test_an_existing_file_is_never_replaced(tmp_path):
    filled(tmp_path / "d").close()
    (tmp_path / "b").write_text("precious")
    with pytest.raises(AlreadyExists):
        backup(tmp_path / "d", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "precious"
    with pytest.raises(EngineFailed):
        backup(tmp_path / "d", tmp_path / "missing" / "b")
    with pytest.raises(EngineFailed):
        backup(tmp_path / "nothing", tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == ["b", "d"]


def test_restore_refuses_a_directory_in_use_or_not_empty(tmp_path):
    engine = filled(tmp_path / "d")
    backup(engine, tmp_path / "b")
    with pytest.raises(EngineFailed, match=f"in use by process {os.getpid()}"):
        restore(tmp_path / "b", tmp_path / "d")
    engine.close()
    with pytest.raises(EngineFailed, match="not empty") as caught:
        restore(tmp_path / "b", tmp_path / "d")
    assert caught.value.advice
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "other").write_text("")
    with pytest.raises(EngineFailed, match="not empty"):
        restore(tmp_path / "b", tmp_path / "e")


def test_every_changed_or_missing_byte_of_a_backup_is_noticed_before_anything_is_made(tmp_path):
    engine = filled(tmp_path / "d", groups=2)
    engine.save(1, [b"chunk"])
    backup(engine, tmp_path / "b")
    engine.close()
    data = (tmp_path / "b").read_bytes()
    for offset in range(len(data)):
        flip(tmp_path / "b", offset)
        with pytest.raises(Damaged):
            restore(tmp_path / "b", tmp_path / "new")
        (tmp_path / "b").write_bytes(data[:offset])
        with pytest.raises(Damaged):
            verify_backup(tmp_path / "b")
        (tmp_path / "b").write_bytes(data)
    assert not (tmp_path / "new").exists()
    with pytest.raises(EngineFailed):
        restore(tmp_path / "missing", tmp_path / "new")


START, CHUNK, GROUP, TAIL = 1, 2, 3, 4
ZERO, ONE = bytes(8), (1).to_bytes(8, "little")
ENTRY = ONE + (1).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"x"


@pytest.mark.parametrize(
    "records",
    [
        [],
        [(TAIL, ZERO)],
        [(START, ZERO)],
        [(START, ZERO), (START, ZERO), (TAIL, ZERO)],
        [(START, ZERO), (GROUP, ENTRY), (TAIL, ZERO)],
        [(START, ONE), (GROUP, ENTRY), (TAIL, ONE)],
        [(START, ZERO), (GROUP, ENTRY), (CHUNK, b""), (TAIL, ONE)],
        [(START, ZERO), (TAIL, ZERO), (GROUP, ENTRY)],
    ],
)
def test_records_that_make_no_sense_together_are_damage(tmp_path, records):
    with RecordWriter(PosixDisk(), tmp_path / "b", b"THBAK\0\0\1") as writer:
        for kind, data in records:
            writer.add(kind, data)
        writer.finish()
    with pytest.raises(Damaged):
        verify_backup(tmp_path / "b")


def test_a_backup_starts_over_when_the_journal_is_trimmed_meanwhile(tmp_path, monkeypatch):
    engine = filled(tmp_path / "d")
    real = FileEngine.follow
    trims = iter([True, True, False])

    def follow(self, after):
        if next(trims):
            raise Compacted("trimmed meanwhile", oldest=5)
        return real(self, after)

    with monkeypatch.context() as patched:
        patched.setattr(FileEngine, "follow", follow)
        assert backup(engine, tmp_path / "b") == Stock(0, 10)
        trims = iter([True] * 100)
        with pytest.raises(EngineFailed, match="trimmed faster"):
            backup(engine, tmp_path / "c")
        assert len(list(trims)) == 100 - limits.BACKUP_ATTEMPTS_MAX
    engine.close()
    assert sorted(os.listdir(tmp_path)) == ["b", "d"]


def test_an_interrupted_restore_leaves_what_no_engine_opens(tmp_path, monkeypatch):
    engine = filled(tmp_path / "d", groups=2)
    backup(engine, tmp_path / "b")
    engine.close()

    def refuse(*_):
        raise OSError(28, "no space left")

    monkeypatch.setattr("townhall.engine.directory.DataDirectory.complete", refuse)
    with pytest.raises(EngineFull):
        restore(tmp_path / "b", tmp_path / "new")
    monkeypatch.undo()
    with pytest.raises(EngineFailed, match="no FORMAT"):
        FileEngine(tmp_path / "new").open()


def test_large_backups_stream(tmp_path):
    rng = random.Random(0)
    engine = FileEngine(tmp_path / "d")
    engine.open()
    for _ in range(5):
        append(engine, [rng.randbytes(700_000)] * 3)
    engine.save(2, (rng.randbytes(500_000) for _ in range(10)))
    backup(engine, tmp_path / "b")
    before = (list(engine.snapshot()), entries(engine, 2))
    engine.close()
    assert restored(tmp_path / "b", tmp_path / "new") == before
