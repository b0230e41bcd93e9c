import asyncio
import os
import random
import subprocess
import sys
import threading

import pytest
from engine_cases import append, entries, filled, flip, last_segment

from townhall.engine import Entry, Opened
from townhall.engine.file import FileEngine
from townhall.engine.lossy import LossyDisk
from townhall.model.errors import Compacted, Conflict, Damaged, EngineFailed, EngineFull, OutcomeUnknown


def test_the_directory_is_locked_against_a_second_engine(tmp_path):
    engine = filled(tmp_path / "d")
    with pytest.raises(EngineFailed, match=f"process {os.getpid()}"):
        FileEngine(tmp_path / "d").open()
    engine.close()
    second = FileEngine(tmp_path / "d")
    assert second.open().tail == 10
    second.close()


def test_a_failed_open_leaves_the_lock_to_others(tmp_path):
    filled(tmp_path).close()
    flip(last_segment(tmp_path), 40)
    for _ in range(2):
        with pytest.raises(Damaged):
            FileEngine(tmp_path).open()


def test_an_acknowledged_group_survives_the_process(tmp_path):
    """The child exits without closing, right after its append was answered."""
    program = (
        "import asyncio, os, pathlib, sys\n"
        "from townhall.engine.file import FileEngine\n"
        "engine = FileEngine(pathlib.Path(sys.argv[1]))\n"
        "engine.open()\n"
        "asyncio.run(engine.append([b'a', b'b'], 0))\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 9
    engine = FileEngine(tmp_path)
    assert engine.open() == Opened(0, 2)
    assert entries(engine) == [Entry(1, b"a"), Entry(2, b"b")]
    engine.close()


def test_read_only_looks_on_while_another_writes(tmp_path):
    engine = filled(tmp_path)
    reader = FileEngine(tmp_path, read_only=True)
    assert reader.open() == Opened(0, 10)
    append(engine, [b"later"])
    assert len(entries(reader)) == 10
    with pytest.raises(EngineFailed, match="read-only"):
        append(reader, [b"x"])
    with pytest.raises(EngineFailed, match="read-only"):
        reader.trim(0)
    reader.close()
    assert reader.open().tail == 11
    reader.close()
    engine.close()


def test_read_only_needs_data_and_makes_nothing(tmp_path):
    with pytest.raises(EngineFailed):
        FileEngine(tmp_path / "none", read_only=True).open()
    assert not (tmp_path / "none").exists()


def test_another_process_compacts_and_the_writer_trims(tmp_path):
    engine = FileEngine(tmp_path, segment_size=100)
    engine.open()
    for number in range(10):
        append(engine, [b"%d" % number * 50])
    compactor = FileEngine(tmp_path, read_only=True)
    compactor.open()
    compactor.save(8, (entry.blob for entry in compactor.follow(0) if entry.position <= 8))
    with pytest.raises(Conflict):
        compactor.save(11, [])
    compactor.close()
    engine.trim(8)
    with pytest.raises(Compacted):
        engine.follow(0)
    assert [entry.position for entry in engine.follow(8)] == [9, 10]
    engine.close()
    assert engine.open() == Opened(8, 10)
    assert len(list(engine.snapshot())) == 8
    engine.close()


def test_the_snapshot_read_is_the_one_that_open_told_of(tmp_path):
    engine = filled(tmp_path)
    engine.save(3, [b"three"])
    compactor = FileEngine(tmp_path, read_only=True)
    compactor.open()
    compactor.save(5, [b"five"])
    compactor.close()
    with pytest.raises(Compacted):
        list(engine.snapshot())
    engine.close()
    assert engine.open().snapshot == 5
    assert list(engine.snapshot()) == [b"five"]
    engine.close()


def test_what_was_torn_is_dropped_and_counted(tmp_path):
    engine = filled(tmp_path)
    engine.close()
    with last_segment(tmp_path).open("ab") as file:
        file.write(b"half a group")
    assert engine.open() == Opened(0, 10)
    assert engine.torn_size == 12
    engine.close()
    assert engine.open() == Opened(0, 10)
    assert engine.torn_size == 0
    engine.close()


def test_errors_pass_through_the_writing_thread(tmp_path):
    disk = LossyDisk(random.Random(0))
    engine = filled(tmp_path, disk=disk, segment_size=500)
    disk.capacity = 700
    with pytest.raises(EngineFull):
        append(engine, [b"x" * 900])
    disk.capacity = 1 << 40
    assert append(engine, [b"x" * 900]) == 11
    disk.failing_syncs = 1
    with pytest.raises((OutcomeUnknown, EngineFailed)):
        append(engine, [b"y"])
    with pytest.raises(EngineFailed):
        append(engine, [b"y"])
    engine.close()
    assert engine.open().tail in {11, 12}
    append(engine, [b"z"])
    engine.close()


def test_writing_happens_in_a_thread_of_its_own_that_ends_with_close(tmp_path):
    engine = filled(tmp_path)
    assert any(thread.name.startswith("townhall-journal") for thread in threading.enumerate())
    engine.close()
    assert not any(thread.name.startswith("townhall-journal") for thread in threading.enumerate())


def test_close_waits_for_the_group_under_way(tmp_path):
    engine = FileEngine(tmp_path)
    engine.open()

    async def close_at_once():
        pending = asyncio.ensure_future(engine.append([b"a"], 0))
        await asyncio.sleep(0)
        engine.close()
        return await pending

    assert asyncio.run(close_at_once()) == 1
    assert engine.open().tail == 1
    engine.close()


def test_the_loop_goes_on_while_a_group_is_written(tmp_path, monkeypatch):
    engine = filled(tmp_path)
    released = threading.Event()
    monkeypatch.setattr("townhall.engine.disk.PosixFile.sync", lambda _: released.wait(120))

    async def main():
        pending = asyncio.ensure_future(engine.append([b"a"], 10))
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not pending.done()
        assert engine.tail() == 10
        assert entries(engine, 10) == []
        released.set()
        assert await pending == 11

    asyncio.run(main())
    engine.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_can_save(tmp_path):
    engine = filled(tmp_path)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            engine.save(10, [b"from the child"])
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    engine.trim(10)
    engine.close()
    assert engine.open() == Opened(10, 10)
    assert list(engine.snapshot()) == [b"from the child"]
    engine.close()
