import random
from pathlib import Path

import pytest

from townhall.engine.lossy import LossyDisk
from townhall.model.errors import EngineFailed

D = Path("/d")


def outcomes(prepare, look, seeds=range(80)):
    """Everything that a power loss may leave."""
    found = set()
    for seed in seeds:
        disk = LossyDisk(random.Random(seed))
        prepare(disk)
        disk.power_loss()
        found.add(look(disk))
    return found


def content(disk, name="f"):
    return disk.open(D / name).read_at(0, size=10_000) if name in disk.names(D) else None


def durable_file(disk, data=b""):
    file = disk.open(D / "f", create=True)
    if data:
        file.write_at(0, data)
    file.sync()
    disk.sync_directory(D)
    return file


def test_what_was_synced_survives():
    assert outcomes(lambda disk: durable_file(disk, b"abc"), content) == {b"abc"}


def test_what_was_not_synced_is_kept_lost_or_torn_at_any_byte():
    def prepare(disk):
        durable_file(disk).write_at(0, b"abcd")

    assert outcomes(prepare, content) >= {b"", b"a", b"ab", b"abc", b"abcd"}


def test_sectors_may_arrive_out_of_order():
    def prepare(disk):
        durable_file(disk).write_at(0, b"a" * 512 + b"b" * 512)

    found = outcomes(prepare, content)
    assert bytes(512) + b"b" * 512 in found
    assert any(data.startswith(b"a" * 512) and b"b" not in data for data in found)


def test_a_file_without_its_directory_synced_may_be_gone():
    def prepare(disk):
        file = disk.open(D / "f", create=True)
        file.write_at(0, b"abc")
        file.sync()

    assert outcomes(prepare, content) == {None, b"abc"}


def test_a_rename_may_be_undone_and_a_removal_too():
    def rename(disk):
        durable_file(disk, b"abc")
        disk.rename(D / "f", D / "g")

    assert outcomes(rename, lambda disk: tuple(disk.names(D))) == {("f",), ("g",)}

    def remove(disk):
        durable_file(disk, b"abc")
        disk.remove(D / "f")

    assert outcomes(remove, content) == {None, b"abc"}


def test_a_failed_sync_leaves_what_reads_well_and_may_not_be_there():
    def prepare(disk):
        file = durable_file(disk)
        file.write_at(0, b"abc")
        disk.failing_syncs = 1
        with pytest.raises(OSError, match="sync failed"):
            file.sync()
        assert content(disk) == b"abc"
        file.sync()  # Succeeds, and makes nothing durable: the page counts as written.

    assert outcomes(prepare, content) >= {b"", b"abc"}


def test_everything_fails_once_the_power_is_gone():
    disk = LossyDisk(random.Random(0))
    file = durable_file(disk, b"abc")
    disk.calls_left = 1
    file.write_at(0, b"xyz")
    for call in (lambda: file.write_at(0, b"1"), file.sync, lambda: disk.sync_directory(D), lambda: file.truncate(0)):
        with pytest.raises(OSError, match="power"):
            call()
    disk.power_loss()
    assert len(content(disk)) == 3


def test_a_sync_under_way_when_the_power_goes_is_not_answered():
    disk = LossyDisk(random.Random(0))
    file = durable_file(disk)
    file.write_at(0, b"abc")
    disk.calls_left = 1
    with pytest.raises(OSError, match="power"):
        file.sync()


def test_a_full_disk_takes_what_fits_and_then_refuses():
    disk = LossyDisk(random.Random(0))
    disk.capacity = 5
    file = disk.open(D / "f", create=True)
    assert file.write_at(0, b"abcdefg") == 5
    assert file.write_at(0, b"ABC") == 3
    with pytest.raises(OSError, match="no space"):
        file.write_at(5, b"x")
    with pytest.raises(OSError, match="no space"):
        file.allocate(6)
    disk.write_size_max = 2
    assert file.write_at(0, b"abc") == 2


def test_names_locks_and_missing_files():
    disk = LossyDisk(random.Random(0))
    disk.open(D / "inner" / "x", create=True)
    disk.open(D / "y", create=True).close()
    assert disk.names(D) == ["inner", "y"]
    with pytest.raises(FileNotFoundError):
        disk.open(D / "z")
    with pytest.raises(FileNotFoundError):
        disk.remove(D / "z")
    lock = disk.lock(D / "LOCK")
    with pytest.raises(EngineFailed):
        disk.lock(D / "LOCK")
    lock.release()
    disk.lock(D / "LOCK")


def test_rot_stays():
    disk = LossyDisk(random.Random(0))
    durable_file(disk, b"abc")
    disk.flip(D / "f", 1)
    disk.power_loss()
    assert content(disk) == b"a" + bytes([ord("b") ^ 0xFF]) + b"c"
