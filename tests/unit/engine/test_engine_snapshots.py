import pytest
from engine_cases import flip

from townhall.engine.disk import PosixDisk
from townhall.engine.snapshots import (
    newest_snapshot,
    read_snapshot,
    snapshot_path,
    snapshot_positions,
    write_snapshot,
)
from townhall.model.errors import Compacted, Conflict, Damaged, EngineFailed

DISK = PosixDisk()


def test_the_newest_wins_and_the_older_go(tmp_path):
    assert newest_snapshot(DISK, tmp_path) == 0
    assert list(read_snapshot(DISK, tmp_path, 0)) == []
    write_snapshot(DISK, tmp_path, 5, [b"five"])
    write_snapshot(DISK, tmp_path, 9, [b"nine", b""])
    assert snapshot_positions(DISK, tmp_path) == [9]
    assert list(read_snapshot(DISK, tmp_path, 9)) == [b"nine", b""]
    with pytest.raises(Conflict) as caught:
        write_snapshot(DISK, tmp_path, 8, [])
    assert caught.value.fields["snapshot"] == 9


def test_a_late_writer_removes_nothing_newer(tmp_path):
    def chunks():
        yield b"old"
        write_snapshot(DISK, tmp_path, 9, [b"nine"])

    write_snapshot(DISK, tmp_path, 5, chunks())
    assert newest_snapshot(DISK, tmp_path) == 9
    assert list(read_snapshot(DISK, tmp_path, 9)) == [b"nine"]


def test_a_reader_finishes_what_it_began_although_it_is_replaced(tmp_path):
    write_snapshot(DISK, tmp_path, 5, [b"a", b"b"])
    reading = read_snapshot(DISK, tmp_path, 5)
    assert next(reading) == b"a"
    write_snapshot(DISK, tmp_path, 6, [b"c"])
    assert next(reading) == b"b"
    with pytest.raises(Compacted):
        next(read_snapshot(DISK, tmp_path, 5))


def test_every_changed_byte_is_damage_with_position(tmp_path):
    write_snapshot(DISK, tmp_path, 5, [b"aaa", b"bb"])
    path = snapshot_path(tmp_path, 5)
    for offset in range(path.stat().st_size):
        flip(path, offset)
        with pytest.raises(Damaged) as caught:
            list(read_snapshot(DISK, tmp_path, 5))
        assert caught.value.fields["position"] == 5
        assert caught.value.advice
        flip(path, offset)


def test_a_snapshot_under_the_name_of_another_position_is_damage(tmp_path):
    write_snapshot(DISK, tmp_path, 5, [b"a"])
    snapshot_path(tmp_path, 5).rename(snapshot_path(tmp_path, 6))
    with pytest.raises(Damaged):
        list(read_snapshot(DISK, tmp_path, 6))


def test_an_unreadable_place_is_a_failure(tmp_path):
    with pytest.raises(EngineFailed):
        newest_snapshot(DISK, tmp_path / "missing")
    snapshot_path(tmp_path, 3).mkdir()
    with pytest.raises(EngineFailed):
        list(read_snapshot(DISK, tmp_path, 3))
