"""Documents on disk: read back, found out when damaged, bounded, and never in the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from townhall.client.interface_files import InterfaceFiles
from townhall.client.interfaces import Interfaces
from townhall.model import limits

ONE = Interfaces(methods=["a"], schemas={"x": 1})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    files = InterfaceFiles(tmp_path)
    assert files.load(ONE.revision) is None
    files.save(ONE)
    files.save(ONE)
    assert InterfaceFiles(tmp_path).load(ONE.revision) == ONE
    path = files.path(ONE.revision)
    assert path.read_bytes() == ONE.data
    assert [one.name for one in path.parent.iterdir()] == [f"{ONE.revision}.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "content", [b"", ONE.data[:-1], ONE.data + b" ", b"x" * (limits.CLIENT_INTERFACES_SIZE_MAX + 9)]
)
def test_a_damaged_file_is_as_none_and_goes(tmp_path: Path, content: bytes) -> None:
    files = InterfaceFiles(tmp_path)
    files.save(ONE)
    files.path(ONE.revision).write_bytes(content)
    assert files.load(ONE.revision) is None
    assert not files.path(ONE.revision).exists()


def test_the_least_used_go_when_there_are_many(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_INTERFACES_FILES_MAX", 6)
    files = InterfaceFiles(tmp_path)
    documents = [Interfaces(methods=[str(n)]) for n in range(7)]
    for age, one in enumerate(documents[:6]):
        files.save(one)
        os.utime(files.path(one.revision), (1_000 + age, 1_000 + age))
    assert files.load(documents[0].revision) == documents[0]
    files.save(documents[6])
    left = {one.stem for one in (tmp_path / "interfaces").iterdir()}
    assert left == {documents[n].revision for n in (0, 5, 6)}


def test_a_disk_that_refuses_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    files = InterfaceFiles(tmp_path)
    files.save(ONE)

    def refuse(source: object, target: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        files.save(Interfaces(methods=["b"]))
    assert len(list((tmp_path / "interfaces").iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="directory"):
        InterfaceFiles(tmp_path / "file").save(ONE)
    assert InterfaceFiles(tmp_path / "file").load(ONE.revision) is None
