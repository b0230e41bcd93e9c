"""Snapshots come back as they were saved; what is damaged is as good as not there."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.client import snapshot_file
from townhall.client.connection import Origin
from townhall.client.picture import picture_of
from townhall.client.records import Instance
from townhall.client.snapshot_file import SnapshotFiles, default_directory
from townhall.model.instance import ServiceKey

ORIGIN = Origin("http", "127.0.0.1", 7500)
KEY = ServiceKey("default", "default", "user")
PICTURE = picture_of(
    KEY, 9, [Instance(id="a", service="user", address="127.0.0.1", port=1, metadata={"k": "ü"}, revision=9)]
)


def test_saved_is_loaded(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path, [ORIGIN])
    assert files.load(KEY) is None
    before_ms = time.time() * 1000
    files.save(PICTURE, "journal")
    loaded = files.load(KEY)
    assert loaded is not None
    assert (loaded.picture, loaded.history) == (PICTURE, "journal")
    assert before_ms - 1 <= loaded.at_ms <= time.time() * 1000 + 1
    assert [one.name for one in files.path(KEY).parent.iterdir()] == ["user.json"], "no temporary file stays"


def test_one_of_an_earlier_version_names_no_journal(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path, [ORIGIN])
    files.save(PICTURE, "journal")
    files.path(KEY).write_bytes(files.path(KEY).read_bytes().replace(b',"history":"journal"', b""))
    loaded = files.load(KEY)
    assert loaded is not None
    assert (loaded.picture, loaded.history) == (PICTURE, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_others_cannot_read_it(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path, [ORIGIN])
    files.save(PICTURE, "journal")
    assert stat.S_IMODE(files.path(KEY).stat().st_mode) == 0o600


def test_registries_do_not_share(tmp_path: Path) -> None:
    other = Origin("http", "127.0.0.1", 7501)
    SnapshotFiles(tmp_path, [ORIGIN, other]).save(PICTURE, "journal")
    assert SnapshotFiles(tmp_path, [ORIGIN]).load(KEY) is None
    assert SnapshotFiles(tmp_path, [other, ORIGIN]).load(KEY) is not None, "the order of the URLs does not matter"


def test_truncated_at_any_length_is_not_there(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path, [ORIGIN])
    files.save(PICTURE, "journal")
    whole = files.path(KEY).read_bytes()
    for length in range(len(whole)):
        files.path(KEY).write_bytes(whole[:length])
        assert files.load(KEY) is None
    files.path(KEY).write_bytes(whole.replace(b'"format":1', b'"format":2'))
    assert files.load(KEY) is None
    files.path(KEY).write_bytes(whole.replace(b'["default","default","user"]', b'["default","default","other"]'))
    assert files.load(KEY) is None


@given(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)] * 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_any_name_stays_below_its_directory(tmp_path: Path, names: tuple[str, str, str]) -> None:
    files = SnapshotFiles(tmp_path, [ORIGIN])
    key = ServiceKey(*names)
    path = files.path(key)
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert len(path.relative_to(tmp_path).parts) == 4
    files.save(picture_of(key, 1, []), "")
    assert files.load(key) is not None


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = SnapshotFiles(tmp_path, [ORIGIN])
    files.save(PICTURE, "journal")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot_file.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        files.save(picture_of(KEY, 10, []), "")
    assert files.load(KEY) is not None
    assert [one.name for one in files.path(KEY).parent.iterdir()] == ["user.json"]


def test_where_it_lies_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "townhall"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert default_directory().name == "townhall"
