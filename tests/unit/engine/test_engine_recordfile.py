import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.engine import recordfile
from townhall.engine.disk import PosixDisk
from townhall.engine.lossy import LossyDisk
from townhall.engine.recordfile import RecordWriter, read_records
from townhall.model.errors import Damaged, EngineFailed, EngineFull

MAGIC = b"MAGIC\0\0\1"
PATH = Path("/d/file")


def write(disk, records, path=PATH):
    with RecordWriter(disk, path, MAGIC) as writer:
        for kind, data in records:
            writer.add(kind, data)
        writer.finish()


def read(disk, path=PATH):
    file = disk.open(path)
    try:
        return list(read_records(file, MAGIC, name=str(path)))
    finally:
        file.close()


def lossy():
    return LossyDisk(random.Random(0))


@given(st.lists(st.tuples(st.integers(1, 2**32 - 1), st.binary(max_size=100))))
def test_records_come_back(records):
    disk = lossy()
    write(disk, records)
    assert read(disk) == records


@pytest.mark.parametrize("block_size", [1, 7, 100])
def test_blocks_of_any_size_give_the_same(monkeypatch, block_size):
    monkeypatch.setattr(recordfile, "REPLAY_BLOCK_SIZE", block_size)
    monkeypatch.setattr(recordfile, "SNAPSHOT_SYNC_SIZE", 64)
    disk = lossy()
    records = [(1, b"x" * size) for size in (0, 1, 50, 300)]
    write(disk, records)
    assert read(disk) == records


def test_every_changed_missing_or_added_byte_is_noticed(tmp_path):
    path = tmp_path / "file"
    write(PosixDisk(), [(1, b"first"), (2, b""), (2, b"second")], path)
    data = path.read_bytes()
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        with pytest.raises(Damaged):
            read(PosixDisk(), path)
        path.write_bytes(data[:index])
        with pytest.raises(Damaged):
            read(PosixDisk(), path)
    path.write_bytes(data + b"\0")
    with pytest.raises(Damaged):
        read(PosixDisk(), path)


def test_records_that_are_doubled_or_out_of_place_are_noticed(tmp_path):
    path = tmp_path / "file"
    write(PosixDisk(), [(1, b"aa"), (1, b"bb")], path)
    data = path.read_bytes()
    magic, one, two, end = data[:8], data[8:22], data[22:36], data[36:]
    for wrong in (one + one + two, two + one, two, one):
        path.write_bytes(magic + wrong + end)
        with pytest.raises(Damaged) as caught:
            read(PosixDisk(), path)
        assert caught.value.fields["offset"] in {0, 8, 22}


def test_what_was_not_finished_leaves_nothing(tmp_path):
    def broken():
        yield 1, b"x"
        raise KeyError

    with pytest.raises(KeyError):
        write(PosixDisk(), broken(), tmp_path / "file")
    with RecordWriter(PosixDisk(), tmp_path / "file", MAGIC) as writer:
        writer.add(1, b"x")
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_name_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file"
    with RecordWriter(PosixDisk(), path, MAGIC) as one, RecordWriter(PosixDisk(), path, MAGIC) as two:
        one.add(1, b"one")
        two.add(1, b"two")
        two.finish()
        one.finish()
    assert read(PosixDisk(), path) == [(1, b"one")]
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_file_is_flushed_on_the_way_so_that_others_do_not_wait_for_all_of_it(monkeypatch):
    monkeypatch.setattr(recordfile, "REPLAY_BLOCK_SIZE", 100)
    monkeypatch.setattr(recordfile, "SNAPSHOT_SYNC_SIZE", 400)
    disk = lossy()
    with RecordWriter(disk, PATH, MAGIC) as writer:
        for _ in range(3):
            writer.add(1, b"x" * 100)
        disk.failing_syncs = 1
        with pytest.raises(EngineFailed):
            writer.add(1, b"x" * 100)
        writer.add(1, b"x" * 100)


def test_a_full_disk_and_a_failed_sync_are_told_apart():
    disk = lossy()
    disk.capacity = 50
    with pytest.raises(EngineFull):
        write(disk, [(1, b"x" * 100)])
    disk.capacity = 1000
    disk.failing_syncs = 1
    with pytest.raises(EngineFailed):
        write(disk, [(1, b"x")])
    assert disk.names(PATH.parent) == []
    with pytest.raises(EngineFailed):
        write(PosixDisk(), [], Path("/nonexistent/directory/file"))
