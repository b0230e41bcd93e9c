"""The data directory: what lies where, which version wrote it, and who has it.

::

    FORMAT                   'townhall-data 1', written last when a directory is made
    LOCK                     held with flock by the server; contains its process id
    journal/<position>.seg   segments, named after their first position
    snapshot/<position>.snap the snapshot, named after the position it stands for

Names with 20 digits sort as their numbers do. Other files in the directory belong to others and are left alone.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from townhall.engine.disk import Disk, DiskLock, failure, write_all
from townhall.engine.recordfile import TEMPORARY_SUFFIX
from townhall.model.errors import EngineFailed

__all__ = ["FORMAT_VERSION", "DataDirectory"]

FORMAT_VERSION = 1
_FORMAT = "townhall-data"


class DataDirectory:
    """Paths within one data directory, and the steps of making and entering it."""

    def __init__(self, disk: Disk, root: Path) -> None:
        self.disk = disk
        self.root = root
        self.journal = root / "journal"
        self.snapshots = root / "snapshot"
        self.format = root / "FORMAT"

    def lock(self) -> DiskLock:
        """Make the directory if it is missing, and lock it. Raises ``EngineFailed`` naming who holds it."""
        doing = "making the directory"
        try:
            self.disk.make_directory(self.root)
            doing = "locking"
            return self.disk.lock(self.root / "LOCK")
        except (FileExistsError, NotADirectoryError) as error:
            raise EngineFailed(f"{self.root} is no directory", advice="name another one") from error
        except OSError as error:
            raise failure(error, doing=f"{doing} {self.root}") from error

    def enter(self) -> None:
        """Check the version, make what is missing in a new directory, sweep temporary files. Needs the lock.

        Raises ``EngineFull`` or ``EngineFailed``.
        """
        try:
            if not self._is_formatted():
                if self.holds_data():
                    raise EngineFailed(
                        f"{self.root} holds a journal or a snapshot but no FORMAT file",
                        advice="a restore into it did not finish: empty it and restore again, or choose another",
                    )
                self.make()
                self.complete()
            self._check_version()
            self._sweep()
        except OSError as error:
            raise failure(error, doing=f"opening {self.root}") from error

    def enter_read_only(self) -> None:
        """Check the version and change nothing. Raises ``EngineFailed``, also when there is no data at all."""
        try:
            formatted = self._is_formatted()
        except OSError as error:
            raise failure(error, doing=f"opening {self.root}") from error
        if not formatted:
            raise EngineFailed(f"{self.root} is not a Townhall data directory", advice="check the path given as --data")
        self._check_version()

    def holds_data(self) -> bool:
        """Whether any journal segment or snapshot lies here. Raises ``OSError``."""
        present = set(self.disk.names(self.root))
        return any(path.name in present and self.disk.names(path) for path in (self.journal, self.snapshots))

    def make(self) -> None:
        """Make the inner directories. Raises ``OSError``."""
        self.disk.make_directory(self.journal)
        self.disk.make_directory(self.snapshots)

    def complete(self) -> None:
        """Write the FORMAT file, after which the directory counts as whole. Raises ``OSError``."""
        temporary = self.root / f"FORMAT{TEMPORARY_SUFFIX}"
        file = self.disk.open(temporary, create=True)
        try:
            write_all(file, 0, f"{_FORMAT} {FORMAT_VERSION}\n".encode("ascii"))
            file.sync()
        finally:
            file.close()
        self.disk.rename(temporary, self.format)
        for path in (self.journal, self.snapshots, self.root, self.root.parent):
            self.disk.sync_directory(path)

    def _is_formatted(self) -> bool:
        try:
            return self.format.name in self.disk.names(self.root)
        except FileNotFoundError:
            return False

    def _check_version(self) -> None:
        try:
            file = self.disk.open(self.format)
            try:
                text = file.read_at(0, size=64).decode("ascii", "replace").split()
            finally:
                file.close()
        except OSError as error:
            raise failure(error, doing=f"reading {self.format}") from error
        if len(text) != 2 or text[0] != _FORMAT or not text[1].isdecimal():
            raise EngineFailed(f"{self.format} is not readable", advice="restore the directory from a backup")
        if int(text[1]) != FORMAT_VERSION:
            raise EngineFailed(
                f"{self.root} was written in format {text[1]}, this version knows {FORMAT_VERSION}",
                advice="start the version of Townhall that wrote it, or restore a backup into a new directory",
            )

    def _sweep(self) -> None:
        # What a killed process left half written. A snapshot still being written by a child of a killed server fails
        # cleanly when its file is gone, and nobody waits for it any more.
        for path in (self.journal, self.snapshots):
            for name in self.disk.names(path):
                if name.endswith(TEMPORARY_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):
                        self.disk.remove(path / name)
