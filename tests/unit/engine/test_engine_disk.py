import errno
import os
import signal
import time

import pytest

from townhall.engine import disk as disk_module
from townhall.engine.disk import PosixDisk, failure, is_full, write_all
from townhall.model.errors import EngineFailed, EngineFull


class Stubborn:
    """A file that takes at most three bytes at a time, and at some point none."""

    def __init__(self, room):
        self.data = b""
        self.room = room

    def write_at(self, offset, data):
        assert offset == len(self.data)
        taken = bytes(data[: min(3, self.room - offset)])
        self.data += taken
        return len(taken)


def test_write_all_goes_on_after_short_writes():
    file = Stubborn(room=100)
    write_all(file, 0, b"0123456789")
    assert file.data == b"0123456789"


def test_write_all_does_not_spin_on_a_disk_that_takes_nothing():
    with pytest.raises(OSError, match="no more bytes"):
        write_all(Stubborn(room=5), 0, b"0123456789")


def test_files_read_write_grow_and_shrink(tmp_path):
    file = PosixDisk().open(tmp_path / "f", create=True)
    assert file.write_at(3, b"abc") == 3
    assert file.size() == 6
    assert file.read_at(0, size=100) == b"\0\0\0abc"
    assert file.read_at(4, size=1) == b"b"
    file.allocate(5000)
    assert file.size() == 5000
    file.truncate(4)
    file.sync()
    assert file.read_at(0, size=10) == b"\0\0\0a"
    file.close()
    file.close()
    assert (tmp_path / "f").stat().st_mode & 0o077 == 0


def test_reads_go_on_after_short_reads(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"0123456789")
    file = PosixDisk().open(tmp_path / "f")
    real = os.pread
    monkeypatch.setattr(disk_module.os, "pread", lambda fd, size, offset: real(fd, min(size, 3), offset))
    assert file.read_at(1, size=7) == b"1234567"
    assert file.read_at(1, size=50) == b"123456789"
    file.close()


def test_directories(tmp_path):
    disk = PosixDisk()
    disk.make_directory(tmp_path / "a" / "b")
    disk.make_directory(tmp_path / "a" / "b")
    disk.open(tmp_path / "a" / "x", create=True).close()
    disk.rename(tmp_path / "a" / "x", tmp_path / "a" / "y")
    assert sorted(disk.names(tmp_path / "a")) == ["b", "y"]
    disk.remove(tmp_path / "a" / "y")
    disk.sync_directory(tmp_path / "a")
    assert disk.names(tmp_path / "a") == ["b"]


def test_a_lock_names_who_holds_it(tmp_path):
    disk = PosixDisk()
    lock = disk.lock(tmp_path / "LOCK")
    with pytest.raises(EngineFailed, match=rf"in use by process {os.getpid()}") as caught:
        disk.lock(tmp_path / "LOCK")
    assert caught.value.fields["pid"] == str(os.getpid())
    assert "stop that process" in caught.value.advice
    lock.release()
    lock.release()
    disk.lock(tmp_path / "LOCK").release()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """A compaction that outlives a killed server must not keep the next one out."""
    disk = PosixDisk()
    lock = disk.lock(tmp_path / "LOCK")
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        lock.release()
        deadline = time.monotonic() + 120
        while True:  # The child gives it up a moment after the fork.
            try:
                disk.lock(tmp_path / "LOCK").release()
                break
            except EngineFailed:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, EngineFull),
        (errno.EDQUOT, EngineFull),
        (errno.EFBIG, EngineFull),
        (errno.EIO, EngineFailed),
        (errno.EACCES, EngineFailed),
    ],
)
def test_failures_say_what_was_being_done(number, kind):
    error = OSError(number, os.strerror(number))
    assert is_full(error) == (kind is EngineFull)
    translated = failure(error, doing="writing X")
    assert type(translated) is kind
    assert "writing X" in translated.message
    assert translated.advice
