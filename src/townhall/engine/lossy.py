"""A disk in memory that does what real ones do at the worst moment: the file engine's fake, for tests and simulation.

It keeps what programs see apart from what would survive. A power cut forgets what was not synced, except that any part
of it may have reached the disk all the same: each write that was under way is kept whole, lost, cut at an arbitrary
byte, or kept by some of its sectors only. Creations, renames and removals are kept in order up to some point. A failed
sync behaves as Linux does: the data stays readable, counts as written, and is not on the disk.

Everything follows from the ``random.Random`` that is passed in.
"""

from __future__ import annotations

import errno
import random
from pathlib import Path

from townhall.model.errors import EngineFailed

__all__ = ["LossyDisk"]

_SECTOR_SIZE = 512
_Change = tuple[int, bytes] | int
"""A write (offset, data), or a new length."""


class _Content:
    """One file's bytes, wherever it is linked."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.durable = bytearray()
        self.pending: list[_Change] = []


class LossyDisk:
    """See ``Disk``. ``power_loss`` cuts the power; afterwards the same object is the disk as the next start finds it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.capacity = 1 << 62
        """Bytes all files may hold together; beyond, writes are short and then refused."""
        self.write_size_max = 1 << 62
        """Bytes that one write takes at most."""
        self.failing_syncs = 0
        """How many of the next syncs fail."""
        self.calls_left = 1 << 62
        """Calls until the power goes: the last one is under way, and everything after it fails until ``power_loss``."""
        self.calls_count = 0
        """Changing calls so far."""
        self._seen: dict[Path, _Content] = {}
        self._durable: dict[Path, _Content] = {}
        self._moves: list[tuple[Path | None, Path | None, _Content]] = []
        self._locked: set[Path] = set()

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> _LossyFile:
        """See ``Disk``."""
        if create:
            self.step()
            content = self._seen[path] = _Content()
            self._moves.append((None, path, content))
        elif path not in self._seen:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return _LossyFile(self, self._seen[path], writable=write or create)

    def names(self, path: Path) -> list[str]:
        """See ``Disk``."""
        inner = {other.relative_to(path).parts[0] for other in self._seen if path in other.parents}
        return sorted(inner)

    def make_directory(self, path: Path) -> None:
        """Directories need no making here; they survive."""

    def rename(self, old: Path, new: Path) -> None:
        """See ``Disk``."""
        self.step()
        content = self._seen[new] = self._seen.pop(old)
        self._moves.append((old, new, content))

    def remove(self, path: Path) -> None:
        """See ``Disk``."""
        self.step()
        if path not in self._seen:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self._moves.append((path, None, self._seen.pop(path)))

    def sync_directory(self, path: Path) -> None:
        """See ``Disk``."""
        self.step()
        self._fail_if_asked()
        kept = [move for move in self._moves if path not in {at.parent for at in move[:2] if at}]
        for move in self._moves:
            if move not in kept:
                self._move(move)
        self._moves = kept

    def lock(self, path: Path) -> _LossyLock:
        """See ``Disk``."""
        if path in self._locked:
            raise EngineFailed(f"{path.parent} is in use by process 0", pid="0")
        self._locked.add(path)
        return _LossyLock(self._locked, path)

    def power_loss(self) -> None:
        """Cut the power and switch it on again: what was not synced is lost, kept or torn, as the dice fall."""
        for move in self._moves[: self._rng.randint(0, len(self._moves))]:
            self._move(move)
        self._moves.clear()
        self._seen = dict(self._durable)
        for content in self._seen.values():
            self.settle(content)
            content.seen = bytearray(content.durable)
        self._locked.clear()
        self.calls_left = 1 << 62
        self.failing_syncs = 0

    def flip(self, path: Path, offset: int) -> None:
        """Change one byte, as rot does."""
        for data in (self._seen[path].seen, self._seen[path].durable):
            if offset < len(data):
                data[offset] ^= 0xFF

    def settle(self, content: _Content) -> None:
        """Let the dice decide what of the pending changes reached the disk."""
        mode = self._rng.choice(("none", "all", "prefix", "sectors"))
        keep = self._rng.randint(0, len(content.pending)) if mode == "prefix" else len(content.pending)
        for number, change in enumerate([] if mode == "none" else content.pending):
            if number > keep:
                break
            if isinstance(change, int) or mode == "all" or (number < keep and mode == "prefix"):
                apply_change(content.durable, change)
            elif mode == "prefix":
                apply_change(content.durable, (change[0], change[1][: self._rng.randint(0, len(change[1]))]))
            else:
                self._apply_sectors(content.durable, change)
        content.pending.clear()

    def step(self) -> None:
        """Count a call that changes something; raise when the power is gone."""
        self.calls_count += 1
        self.calls_left -= 1
        if self.calls_left < 0:
            raise OSError(errno.EIO, "the power is gone")

    def sync(self, content: _Content) -> None:
        """Make a file's pending changes durable, or fail as asked."""
        self.step()
        try:
            self._fail_if_asked()
        except OSError:
            self.settle(content)
            raise
        if self.calls_left == 0:
            # The power goes while this is under way: power_loss decides what of it was done.
            raise OSError(errno.EIO, "the power is gone")
        for change in content.pending:
            apply_change(content.durable, change)
        content.pending.clear()

    def room(self, content: _Content, end: int) -> int:
        """How far towards ``end`` a file may grow."""
        others = sum(len(other.seen) for other in self._seen.values() if other is not content)
        return min(end, max(self.capacity - others, len(content.seen)))

    def _fail_if_asked(self) -> None:
        if self.failing_syncs > 0:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, "the sync failed")

    def _move(self, move: tuple[Path | None, Path | None, _Content]) -> None:
        old, new, content = move
        if old is not None:
            self._durable.pop(old, None)
        if new is not None:
            self._durable[new] = content

    def _apply_sectors(self, data: bytearray, change: tuple[int, bytes]) -> None:
        offset, written = change
        stop = offset + len(written)
        if self._rng.random() < 0.5 and stop > len(data):
            data.extend(bytes(stop - len(data)))
        at = offset
        while at < stop:
            edge = min((at // _SECTOR_SIZE + 1) * _SECTOR_SIZE, stop)
            if self._rng.random() < 0.5:
                apply_change(data, (at, written[at - offset : edge - offset]))
            at = edge


class _LossyLock:
    def __init__(self, locked: set[Path], path: Path) -> None:
        self._locked = locked
        self._path = path

    def release(self) -> None:
        self._locked.discard(self._path)


class _LossyFile:
    def __init__(self, disk: LossyDisk, content: _Content, *, writable: bool) -> None:
        self._disk = disk
        self._content = content
        self._writable = writable

    def size(self) -> int:
        return len(self._content.seen)

    def read_at(self, offset: int, *, size: int) -> bytes:
        return bytes(self._content.seen[offset : offset + size])

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        assert self._writable
        self._disk.step()
        end = self._disk.room(self._content, offset + len(data))
        taken = min(end - offset, self._disk.write_size_max)
        if data and taken <= 0:
            raise OSError(errno.ENOSPC, "no space left")
        self._change((offset, bytes(data[:taken])))
        return taken

    def allocate(self, size: int) -> None:
        assert self._writable
        self._disk.step()
        if self._disk.room(self._content, size) < size:
            raise OSError(errno.ENOSPC, "no space left")
        if size > self.size():
            self._change(size)

    def truncate(self, size: int) -> None:
        assert self._writable
        self._disk.step()
        self._change(size)

    def sync(self) -> None:
        self._disk.sync(self._content)

    def close(self) -> None:
        """Nothing is held."""

    def _change(self, change: _Change) -> None:
        self._content.pending.append(change)
        apply_change(self._content.seen, change)


def apply_change(data: bytearray, change: _Change) -> None:
    """Do a write or a change of length to bytes."""
    if isinstance(change, int):
        del data[change:]
        data.extend(bytes(change - len(data)))
        return
    offset, written = change
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written
