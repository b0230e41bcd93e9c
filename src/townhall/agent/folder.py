"""Service files: looked at every two seconds, read when they have changed.

* A file that cannot be read or understood keeps its last good definitions, and says so once.
* A file that was removed takes its services out. A directory that has gone, or whose place another file system has
  taken, keeps everything: that was a mount, not an intention. So does a directory from which more than half of its
  files, three at least, vanish between two looks. SIGHUP confirms what is held back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from townhall.agent import Notice, Tell
from townhall.agent.consul_files import read_consul
from townhall.agent.definitions import Definition
from townhall.agent.toml_files import read_toml
from townhall.model import limits
from townhall.model.check import CheckDefinition
from townhall.model.errors import InvalidField

__all__ = ["Folder"]

_A_FILE: Final = (0, 0)
"""Identity of a place that is a file itself."""
_READERS: Final = {".toml": read_toml, ".json": read_consul}


class _Mark(NamedTuple):
    """What changes when a file does."""

    modified_ns: int
    size: int
    inode: int


@dataclass(slots=True)
class _File:
    mark: _Mark
    definitions: Sequence[Definition] = ()


@dataclass(slots=True)
class _Place:
    """A path that was given: a file, or a directory of them."""

    path: Path
    identity: tuple[int, int] | None = None
    """Device and inode of the directory; None while it has never been there."""
    files: dict[Path, _File] = field(default_factory=dict)
    held: str = ""
    """Why what has vanished is kept; '' while nothing has."""


class Folder:
    """The service files below some paths."""

    def __init__(self, paths: Sequence[Path], *, timing: CheckDefinition, scripts: bool, tell: Tell) -> None:
        self._places = [_Place(path) for path in paths]
        self._timing = timing
        self._scripts = scripts
        self._tell = tell
        self._doubles: set[str] = set()
        self.broken: dict[Path, str] = {}
        """Files that cannot be used as they are, and why."""

    def look(self, *, confirmed: bool = False) -> dict[str, Definition]:
        """All definitions as they stand, by a label that stays the same. ``confirmed``: what has vanished is gone."""
        for place in self._places:
            self._look_at(place, confirmed=confirmed)
        return self._labelled()

    # --- files

    def _look_at(self, place: _Place, *, confirmed: bool) -> None:
        try:
            identity, found = self._found(place)
        except OSError as error:
            if confirmed:
                place.files.clear()
            self._hold(place, "" if confirmed else f"{place.path} cannot be read ({error.strerror or error})")
            return
        gone = [path for path in place.files if path not in found]
        why = ""
        if place.identity is not None and identity != place.identity and gone:
            why = f"{place.path} is another directory than before"
        elif len(gone) >= limits.AGENT_REMOVALS_FREE and len(gone) * 2 > len(place.files):
            why = f"{len(gone)} of {len(place.files)} files have vanished from {place.path} at once"
        if why and not confirmed:
            self._hold(place, why)
        else:
            self._hold(place, "")
            place.identity = identity
            for path in gone:
                del place.files[path]
                self.broken.pop(path, None)
        for path, mark in found.items():
            before = place.files.get(path)
            if before is None or before.mark != mark:
                self._read(place, path, mark)

    def _found(self, place: _Place) -> tuple[tuple[int, int], dict[Path, _Mark]]:
        """The files that there are. Raises OSError when the place cannot be read."""
        try:
            about = os.stat(place.path)
        except FileNotFoundError:
            if place.identity == _A_FILE and place.path.parent.is_dir():
                return _A_FILE, {}  # A file that was named itself has been removed from a directory that is there.
            raise
        if not place.path.is_dir():
            return _A_FILE, {place.path: _Mark(about.st_mtime_ns, about.st_size, about.st_ino)}
        found = {}
        with os.scandir(place.path) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if entry.name.startswith(".") or not entry.name.endswith((".toml", ".json", ".hcl")):
                    continue
                try:
                    one = entry.stat()
                except FileNotFoundError:  # It went between the listing and here, or is a link to nowhere.
                    continue
                found[Path(entry.path)] = _Mark(one.st_mtime_ns, one.st_size, one.st_ino)
                if len(found) >= limits.AGENT_FILES_COUNT_MAX:
                    break
        return (about.st_dev, about.st_ino), found

    def _read(self, place: _Place, path: Path, mark: _Mark) -> None:
        before = place.files.get(path)
        try:
            definitions: Sequence[Definition] = self._definitions(path, mark)
        except (InvalidField, OSError, UnicodeDecodeError) as error:
            kept = "; its last good version stays in force" if before is not None and before.definitions else ""
            self.broken[path] = str(error)
            self._tell(Notice("broken", f"{path}: {error}{kept}", warning=True))
            definitions = before.definitions if before is not None else ()
        else:
            if before is not None or self.broken.pop(path, None) is not None:
                self.broken.pop(path, None)
                self._tell(Notice("read", f"{path}: read again"))
        place.files[path] = _File(mark, definitions)

    def _definitions(self, path: Path, mark: _Mark) -> list[Definition]:
        reader = _READERS.get(path.suffix)
        if reader is None:
            raise InvalidField(
                "file",
                "Consul's HCL is not read" if path.suffix == ".hcl" else "must end with .toml or .json",
                advice="write the same fields as JSON, which Consul reads as well",
            )
        if mark.size > limits.AGENT_FILE_SIZE_MAX:
            raise InvalidField("file", f"is larger than {limits.AGENT_FILE_SIZE_MAX} bytes")
        return reader(path.read_text(encoding="utf-8"), timing=self._timing, scripts=self._scripts)

    def _hold(self, place: _Place, why: str) -> None:
        if why and why != place.held:
            kept = "; everything stays registered, SIGHUP confirms that it is gone" if place.files else ""
            self._tell(Notice("held", why + kept, warning=True))
        elif place.held and not why:
            self._tell(Notice("read", f"{place.path}: as it should be again"))
        place.held = why

    # --- definitions

    def _labelled(self) -> dict[str, Definition]:
        """Each under the file and name it has; an instance that two files define belongs to the first."""
        found: dict[str, Definition] = {}
        owners: dict[object, str] = {}
        doubles = set()
        for place in self._places:
            for path, file in place.files.items():
                for definition in file.definitions:
                    service = definition.service
                    label = f"{path}:{service.id or f'{service.name}:{service.port}'}"
                    instance = (service.key, service.id or (service.address, service.port))
                    if instance in owners:
                        doubles.add(f"{label} defines what {owners[instance]} defines already, and is left out")
                        continue
                    owners[instance] = label
                    found[label] = definition
        for text in doubles - self._doubles:
            self._tell(Notice("broken", text, warning=True))
        self._doubles = doubles
        return found
