from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from townhall.agent import Notice
from townhall.agent.checks import timing_of
from townhall.agent.folder import Folder
from townhall.model import limits

TIMING = timing_of(interval_ms=5_000, timeout_ms=None, failures=2, successes=1)


class Place:
    """A directory of service files and what its folder makes of them."""

    def __init__(self, path: Path) -> None:
        self.path = path / "services"
        self.path.mkdir()
        self.notices: list[Notice] = []
        self.folder = Folder([self.path], timing=TIMING, scripts=False, tell=self.notices.append)

    def put(self, *names: str, text: str = "") -> None:
        for name in names:
            file = self.path / f"{name}.toml"
            file.write_text(text or f'[service]\nname = "{name}"\nport = 1\n')

    def look(self, *, confirmed: bool = False) -> set[str]:
        return {one.service.name for one in self.folder.look(confirmed=confirmed).values()}

    @property
    def last(self) -> str:
        return self.notices[-1].text


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_files_come_change_and_go(place: Place) -> None:
    assert place.look() == set()
    place.put("a", "b")
    (place.path / "c.json").write_text('{"service": {"name": "c", "port": 2}}')
    (place.path / ".hidden.toml").write_text("[")
    (place.path / "README").write_text("no service")
    assert place.look() == {"a", "b", "c"}
    labels = set(place.folder.look())
    place.put("a", text='[service]\nname = "changed"\nport = 10\n')
    assert place.look() == {"changed", "b", "c"}
    (place.path / "c.json").unlink()
    assert place.look() == {"changed", "b"}
    place.put("a")
    (place.path / "c.json").write_text('{"service": {"name": "c", "port": 2}}')
    assert set(place.folder.look()) == labels, "the same services have the same labels"


def test_a_broken_file_keeps_its_last_good_version_and_says_so_once(place: Place) -> None:
    place.put("a", "b")
    assert place.look() == {"a", "b"}
    place.put("a", text="[service]\nnome = 1\n")
    assert place.look() == {"a", "b"}
    assert "its last good version stays in force" in place.last
    assert "a.toml: service." in place.last
    assert place.look() == {"a", "b"}
    assert len(place.notices) == 1
    assert list(place.folder.broken) == [place.path / "a.toml"]
    place.put("a", text='[service]\nname = "again"\n')
    assert place.look() == {"again", "b"}
    assert not place.folder.broken
    place.put("new", text="[")
    assert place.look() == {"again", "b"}
    assert "is not TOML" in place.last


def test_consuls_hcl_is_not_read_and_says_what_to_do(place: Place) -> None:
    (place.path / "web.hcl").write_text('service { name = "web" }')
    assert place.look() == set()
    assert "Consul's HCL is not read" in place.last
    assert "as JSON" in str(place.folder.broken[place.path / "web.hcl"])


def test_a_directory_that_went_keeps_everything(place: Place) -> None:
    place.put("a")
    assert place.look() == {"a"}
    away = place.path.with_name("away")
    place.path.rename(away)
    assert place.look() == {"a"}
    assert "SIGHUP confirms" in place.last
    place.look()
    assert len(place.notices) == 1
    place.path.mkdir()
    assert place.look() == {"a"}, "an empty mount point is no removal"
    assert "another directory than before" in place.last
    shutil.rmtree(place.path)
    away.rename(place.path)
    assert place.look() == {"a"}
    assert "as it should be again" in place.last
    shutil.rmtree(place.path)
    assert place.look() == {"a"}
    assert place.look(confirmed=True) == set()


def test_most_files_gone_at_once_is_taken_for_an_accident(place: Place) -> None:
    names = [f"s{number}" for number in range(limits.AGENT_REMOVALS_FREE + 1)]
    place.put(*names)
    assert len(place.look()) == len(names)
    for name in names[1:]:
        (place.path / f"{name}.toml").unlink()
    assert len(place.look()) == len(names)
    assert "have vanished" in place.last
    assert place.look(confirmed=True) == {names[0]}
    assert place.look() == {names[0]}


def test_fewer_may_go(place: Place) -> None:
    place.put("a", "b", "c", "d", "e", "f", "g")
    place.look()
    for name in "abc":
        (place.path / f"{name}.toml").unlink()
    assert place.look() == {"d", "e", "f", "g"}


def test_a_file_that_is_named_itself(tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    file.write_text('[service]\nname = "web"\n')
    folder = Folder([file], timing=TIMING, scripts=False, tell=lambda notice: None)
    assert len(folder.look()) == 1
    file.unlink()
    assert folder.look() == {}


def test_what_two_files_define_belongs_to_the_first(place: Place) -> None:
    place.put("a", "b", text='[service]\nname = "same"\nport = 1\n')
    assert len(place.folder.look()) == 1
    assert "b.toml:same:1 defines what" in place.last
    place.look()
    assert len(place.notices) == 1
    (place.path / "a.toml").unlink()
    assert len(place.folder.look()) == 1


def test_bounds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put("a", "b", "c")
    monkeypatch.setattr(limits, "AGENT_FILES_COUNT_MAX", 2)
    assert len(place.look()) == 2
    monkeypatch.setattr(limits, "AGENT_FILE_SIZE_MAX", 10)
    place.put("a", text='[service]\nname = "larger"\n')
    assert "larger" not in place.look()
    assert "larger than 10 bytes" in place.last
    assert limits.AGENT_FOLDER_INTERVAL_MS == 2_000


def test_a_link_to_nowhere_is_no_file(place: Place) -> None:
    os.symlink(place.path / "nothing", place.path / "link.toml")
    assert place.look() == set()
