"""Documents of interfaces on disk: one file for each, named by its revision, shared by all programs of a user.

What has a hash for its name is right or it is damaged: it is checked when it is read, and there is nothing to keep up to
date. Files are written whole beside their place and then renamed; the ones used least recently go when there are many.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from townhall.client.interfaces import Interfaces, is_revision
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved

__all__ = ["InterfaceFiles"]


class InterfaceFiles:
    """The ``interface_book.Cache`` below ``directory``. Every method does disk I/O: call it in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "interfaces"

    def path(self, revision: str) -> Path:
        """Where a document lies."""
        assert is_revision(revision)
        return self._directory / f"{revision}.json"

    def load(self, revision: str) -> Interfaces | None:
        """The document; None when there is none, or a damaged one, which is removed."""
        path = self.path(revision)
        try:
            with path.open("rb") as file:
                data = file.read(limits.CLIENT_INTERFACES_SIZE_MAX + 1)
            found = Interfaces.read(data, revision)
        except OSError:
            return None
        except PeerMisbehaved:
            _unlink(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def save(self, interfaces: Interfaces) -> None:
        """Keep it. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self._directory)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(interfaces.data)
            os.replace(temporary, self.path(interfaces.revision))
        except OSError:
            _unlink(Path(temporary))
            raise
        self._make_room()

    def _make_room(self) -> None:
        files = list(self._directory.glob("*.json"))
        if len(files) > limits.CLIENT_INTERFACES_FILES_MAX:
            # Half of them at once, so that not each new one has to look at all.
            for path in sorted(files, key=_used_at)[: len(files) - limits.CLIENT_INTERFACES_FILES_MAX // 2]:
                _unlink(path)


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # another program has removed it


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
