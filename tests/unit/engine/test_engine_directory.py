import pytest

from townhall.engine.directory import FORMAT_VERSION, DataDirectory
from townhall.engine.disk import PosixDisk
from townhall.model.errors import EngineFailed


def entered(root):
    home = DataDirectory(PosixDisk(), root)
    lock = home.lock()
    try:
        home.enter()
    finally:
        lock.release()
    return home


def test_a_new_directory_gets_its_furniture(tmp_path):
    entered(tmp_path / "a" / "data")
    assert sorted(path.name for path in (tmp_path / "a" / "data").iterdir()) == [
        "FORMAT",
        "LOCK",
        "journal",
        "snapshot",
    ]
    assert (tmp_path / "a" / "data" / "FORMAT").read_text() == f"townhall-data {FORMAT_VERSION}\n"
    entered(tmp_path / "a" / "data").enter_read_only()


def test_other_files_are_left_alone_and_temporary_ones_swept(tmp_path):
    home = entered(tmp_path)
    (tmp_path / "tokens.toml").write_text("")
    (tmp_path / "journal" / "x.seg.tmp").write_text("")
    (tmp_path / "snapshot" / "y.snap.1.1.tmp").write_text("")
    (tmp_path / "journal" / "notes").write_text("")
    entered(tmp_path)
    assert not home.holds_data() or sorted(path.name for path in home.journal.iterdir()) == ["notes"]
    assert list(home.snapshots.iterdir()) == []
    assert (tmp_path / "tokens.toml").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("townhall-data 2\n", "format 2"),
        ("townhall-data\n", "not readable"),
        ("other 1\n", "not readable"),
        ("", "not readable"),
        ("townhall-data x\n", "not readable"),
    ],
)
def test_another_format_is_refused(tmp_path, text, message):
    home = entered(tmp_path)
    (tmp_path / "FORMAT").write_text(text)
    for enter in (home.enter, home.enter_read_only):
        with pytest.raises(EngineFailed, match=message) as caught:
            enter()
        assert caught.value.advice


def test_data_without_a_format_is_an_unfinished_restore(tmp_path):
    home = entered(tmp_path)
    (tmp_path / "FORMAT").unlink()
    home.enter()
    (tmp_path / "FORMAT").unlink()
    (tmp_path / "journal" / "something.seg").write_text("")
    with pytest.raises(EngineFailed, match="no FORMAT file"):
        home.enter()


def test_reading_needs_a_data_directory(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(EngineFailed, match="not a Townhall data directory"):
            DataDirectory(PosixDisk(), path).enter_read_only()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_made_is_a_failure(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(EngineFailed, match=f"{root} is no directory"):
            DataDirectory(PosixDisk(), root).lock()
    with pytest.raises(EngineFailed):
        DataDirectory(PosixDisk(), tmp_path / "file").enter_read_only()
