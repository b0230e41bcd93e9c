"""The few calls by which the file engine touches a disk, so that a test can lose, tear and fail them.

Durability is in the caller's hands and the names say where it begins: ``write_at`` may be lost or torn by a power cut
until ``sync`` returns; ``open(create=True)``, ``rename`` and ``remove`` until ``sync_directory`` of the directory does.
All calls raise ``OSError`` as the operating system does and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import weakref
from pathlib import Path
from typing import Protocol

from townhall.model.errors import EngineFailed, EngineFull

__all__ = ["Disk", "DiskFile", "DiskLock", "PosixDisk", "PosixFile", "PosixLock", "failure", "is_full", "write_all"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskFile(Protocol):
    """An open file."""

    def size(self) -> int:
        """Present length in bytes."""
        ...

    def read_at(self, offset: int, *, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """Write and return how many bytes were taken, which may be fewer than given."""
        ...

    def allocate(self, size: int) -> None:
        """Reserve space up to ``size`` bytes; the file grows to it and reads as zeros there."""
        ...

    def truncate(self, size: int) -> None:
        """Cut to ``size`` bytes."""
        ...

    def sync(self) -> None:
        """Make what was written durable. After an error nothing is known about what was written since the last sync."""
        ...

    def close(self) -> None:
        """Release; idempotent."""
        ...


class DiskLock(Protocol):
    """A held lock."""

    def release(self) -> None:
        """Let others in; idempotent."""
        ...


class Disk(Protocol):
    """Files and directories."""

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> DiskFile:
        """Open a file; ``create`` makes it, or empties one that exists."""
        ...

    def names(self, path: Path) -> list[str]:
        """What a directory holds, in any order."""
        ...

    def make_directory(self, path: Path) -> None:
        """Make a directory and its parents; one that exists is fine."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Move a file over another, atomically."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Make the directory's entries durable."""
        ...

    def lock(self, path: Path) -> DiskLock:
        """Take the lock file or raise ``EngineFailed`` naming the process that holds it (``fields["pid"]``)."""
        ...


def write_all(file: DiskFile, offset: int, data: bytes) -> None:
    """Write the whole of ``data``, going on after short writes. Raises ``OSError``."""
    taken = file.write_at(offset, data)
    if taken == len(data):
        return
    rest = memoryview(data)
    while taken < len(data):
        more = file.write_at(offset + taken, rest[taken:])
        if more <= 0:
            raise OSError(errno.EIO, "the disk takes no more bytes and gives no reason")
        taken += more


def is_full(error: OSError) -> bool:
    """Whether the disk, the quota or the allowed file size is used up, rather than something being broken."""
    return error.errno in _FULL


def failure(error: OSError, *, doing: str) -> EngineFull | EngineFailed:
    """The error that says in our words what the operating system refused."""
    said = error.strerror or str(error)
    if isinstance(error.filename, (str, os.PathLike)) and str(error.filename) not in doing:
        said = f"{said}: {error.filename}"
    if is_full(error):
        return EngineFull(f"no room while {doing}: {said}", advice="free disk space; writes go on by themselves then")
    return EngineFailed(f"failed while {doing}: {said}", advice="check the disk and the directory's permissions")


class PosixFile:
    """A real file, by its descriptor."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def size(self) -> int:
        """See ``DiskFile``."""
        return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, *, size: int) -> bytes:
        """See ``DiskFile``."""
        block = os.pread(self._descriptor, size, offset)
        if len(block) == size or not block:
            return block
        parts = [block]
        missing = size - len(block)
        while missing and (block := os.pread(self._descriptor, missing, offset + size - missing)):
            parts.append(block)
            missing -= len(block)
        return b"".join(parts)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """See ``DiskFile``."""
        return os.pwrite(self._descriptor, data, offset)

    def allocate(self, size: int) -> None:
        """See ``DiskFile``."""
        os.posix_fallocate(self._descriptor, 0, size)

    def truncate(self, size: int) -> None:
        """See ``DiskFile``."""
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """See ``DiskFile``."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """See ``DiskFile``."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class PosixLock:
    """An flock that ends with its process, also when a forked child lives on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        """See ``DiskLock``."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
            _held.discard(self)


# An flock belongs to the open file, which a forked child shares: a child that writes a snapshot and outlives its
# killed parent would keep the next start out. So every child closes its copies.
_held: weakref.WeakSet[PosixLock] = weakref.WeakSet()


def _release_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)


class PosixDisk:
    """The file system of this machine."""

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> PosixFile:
        """See ``Disk``."""
        flags = os.O_RDWR if write or create else os.O_RDONLY
        if create:
            flags |= os.O_CREAT | os.O_TRUNC
        return PosixFile(os.open(path, flags | os.O_CLOEXEC, 0o600))

    def names(self, path: Path) -> list[str]:
        """See ``Disk``."""
        return os.listdir(path)

    def make_directory(self, path: Path) -> None:
        """See ``Disk``."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def rename(self, old: Path, new: Path) -> None:
        """See ``Disk``."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """See ``Disk``."""
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        """See ``Disk``."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> PosixLock:
        """See ``Disk``."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            # The number only helps people; a full disk must not keep the server from starting and serving reads.
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise EngineFailed(
                f"{path.parent} is in use by process {holder or 'unknown'}",
                advice="stop that process or choose another data directory",
                pid=holder,
            ) from error
        except OSError:
            os.close(descriptor)
            raise
        return PosixLock(descriptor)
