"""A data directory from what ``etcdctl snapshot save`` has fetched: the etcd space with its leases, users and roles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from townhall.core.codec import encode_commit, load_state
from townhall.core.facts import Commit, LayoutsSet
from townhall.engine.backup import fill_directory
from townhall.engine.directory import DataDirectory
from townhall.engine.disk import PosixDisk
from townhall.face.etcd.backup import HEAD, read_backup
from townhall.face.etcd.member import SPACE

__all__ = ["is_space_backup", "restore_space"]

_PIECE_SIZE: Final = 1 << 20


def is_space_backup(file: Path) -> bool:
    """Whether it begins as one. Raises OSError."""
    with file.open("rb") as source:
        return source.read(len(HEAD)) == HEAD


def restore_space(file: Path, data: Path) -> tuple[int, int, int]:
    """Make a data directory, after checking the whole file; blocking. Returns how many keys there are, how many leases
    and how many users.

    Raises ``Damaged``, ``EngineFailed`` when the directory is in use or not empty, ``EngineFull``, or OSError.
    """
    state = load_state(_chunks(file))
    groups: list[list[bytes]] = []
    if state.ties is not None:
        # Keys that showed instances, which are not in the backup, go; what is configured is shown at the start.
        ended = Commit(state.position + 1, state.time_ms, state.stamp_node, (LayoutsSet(()),))
        groups.append([encode_commit(ended)])
    fill_directory(DataDirectory(PosixDisk(), data), state.position, _chunks(file), groups)
    space, guard = state.spaces.get(SPACE), state.guards.get(SPACE)
    keys = space.count(b"\0", b"\0") if space is not None else 0
    return keys, len(state.leases), len(guard.users) if guard is not None else 0


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        yield from read_backup(iter(lambda: source.read(_PIECE_SIZE), b""))
