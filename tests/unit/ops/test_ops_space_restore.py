"""``townhall restore`` of what etcdctl saved; the whole way is in tests/integration/test_etcd_snapshot.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from townhall.core import Commit
from townhall.core.codec import dump_space
from townhall.core.evolve import evolve
from townhall.core.facts import KeyPut, KeysWritten, LayoutsSet
from townhall.core.state import State
from townhall.core.ties import Ties
from townhall.engine.file import FileEngine
from townhall.face.etcd.backup import HEAD, Backup
from townhall.hub.recovery import recover
from townhall.model.errors import Damaged, EngineFailed
from townhall.model.tie import Direction, Tie
from townhall.ops.space_restore import is_space_backup, restore_space


def saved(file: Path, state: State) -> Path:
    backup = Backup(dump_space(state, "etcd"), estimated=0)
    with file.open("wb") as out:
        while not backup.finished:
            out.write(backup.next()[0])
    return file


def with_keys(*facts: object) -> State:
    state = State()
    for position, fact in enumerate(facts, 1):
        evolve(state, Commit(position, 1_000 + position, "n1", (fact,)))  # type: ignore[arg-type]
    return state


def test_a_directory_that_an_engine_opens(tmp_path: Path) -> None:
    state = with_keys(*(KeysWritten("etcd", (KeyPut(b"k%d" % number, b"v"),)) for number in range(3)))
    file = saved(tmp_path / "file", state)
    assert is_space_backup(file)
    assert restore_space(file, tmp_path / "data") == (3, 0, 0)
    recovered = recover(FileEngine(tmp_path / "data", read_only=True)).state
    assert recovered.position == 3
    assert recovered.spaces["etcd"].revision == state.spaces["etcd"].revision
    with pytest.raises(EngineFailed):
        restore_space(file, tmp_path / "data")


def test_keys_that_showed_instances_go(tmp_path: Path) -> None:
    tie = Tie("etcd", b"all/", "naming", Direction.EXPORT, "default", "default")
    state = with_keys(KeysWritten("etcd", (KeyPut(b"all/web/a", b"{}"), KeyPut(b"b", b"v"))), LayoutsSet(()))
    state.tie(Ties((tie,)))
    restore_space(saved(tmp_path / "file", state), tmp_path / "data")
    recovered = recover(FileEngine(tmp_path / "data", read_only=True)).state
    assert recovered.position == 3
    assert [kv.key for kv in recovered.spaces["etcd"].range(b"\0", b"\0")[0]] == [b"b"]
    assert recovered.ties is None


def test_other_files(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"THBAK")
    assert not is_space_backup(other)
    other.write_bytes(HEAD)
    with pytest.raises(Damaged):
        restore_space(other, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_registry_that_was_never_written(tmp_path: Path) -> None:
    assert restore_space(saved(tmp_path / "file", State()), tmp_path / "data") == (0, 0, 0)
    assert recover(FileEngine(tmp_path / "data", read_only=True)).state.position == 0
