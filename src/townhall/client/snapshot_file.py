"""Pictures on disk, for a process that starts while no registry can be reached.

One file per registry, namespace, group and service, written whole beside its place and then renamed, so that a reader
finds the old or the new one. What cannot be read is as good as not there: a cache may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from townhall.client.connection import Origin
from townhall.client.picture import Picture, picture_of
from townhall.client.records import Instance
from townhall.model.instance import ServiceKey

__all__ = ["Saved", "SnapshotFiles", "default_directory"]

_FORMAT = 1
_NAME_SIZE_MAX = 120
"""Leaves room for the suffix and a temporary name within the 143 bytes of encrypted home directories."""


class _Content(msgspec.Struct, frozen=True):
    """A snapshot file."""

    format: int
    saved_at_ms: int
    key: ServiceKey
    revision: int
    instances: tuple[Instance, ...]
    history: str = ""


class Saved(msgspec.Struct, frozen=True):
    """A picture from disk."""

    picture: Picture
    at_ms: int
    """Unix milliseconds when it was saved."""
    history: str
    """The name of the journal that its revision counts in, as a watch's ``ready`` gives it; '' for not known."""


class SnapshotFiles:
    """The snapshots of one registry below ``directory``. Every method does disk I/O: call it in a thread."""

    def __init__(self, directory: Path, origins: Sequence[Origin]) -> None:
        registry = ",".join(sorted(str(origin) for origin in origins))
        self._directory = directory / hashlib.sha256(registry.encode()).hexdigest()[:16]

    def path(self, key: ServiceKey) -> Path:
        """Where a service's snapshot lies."""
        namespace, group, name = (_file_name(one) for one in key)
        return self._directory / namespace / group / f"{name}.json"

    def save(self, picture: Picture, history: str) -> None:
        """Replace a service's snapshot. Raises OSError; then the old one is still whole."""
        path = self.path(picture.key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        now_ms = time.time_ns() // 1_000_000
        content = _Content(_FORMAT, now_ms, picture.key, picture.revision, picture.instances, history)
        # mkstemp makes it readable for its owner alone: metadata may hold secrets.
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(content))
            # Not synced: after a power loss a torn file is found out by reading it, and is only a cache.
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def load(self, key: ServiceKey) -> Saved | None:
        """What was saved last, or None when there is nothing that can be used."""
        try:
            content = msgspec.json.decode(self.path(key).read_bytes(), type=_Content)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        if content.format != _FORMAT or content.key != key:
            return None
        picture = picture_of(key, content.revision, content.instances)
        return Saved(picture, content.saved_at_ms, content.history)


def default_directory() -> Path:
    """``$XDG_CACHE_HOME/townhall``, ``~/.cache/townhall`` without it, ``%LOCALAPPDATA%`` on Windows."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if base:
        return Path(base) / "townhall"
    try:
        return Path.home() / ".cache" / "townhall"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"townhall-{os.getpid()}"


def _file_name(text: str) -> str:
    """A name as a file name: escaped, and a digest where that would be too long or a directory link."""
    name = quote(text, safe="@:+=,")
    if os.name == "nt":
        name = name.replace(":", "%3A")
    if len(name) > _NAME_SIZE_MAX or name.startswith("."):
        return "%" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return name
