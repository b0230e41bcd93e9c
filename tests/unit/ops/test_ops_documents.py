"""docs/configuration.md and docs/cli.md say what the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from townhall.ops.commands import TABLE
from townhall.ops.options import Setting, room_about, settings_table
from townhall.ops.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs"


def row(setting: Setting) -> str:
    default = setting.default
    shown = '""' if default == "" else str(default).lower() if isinstance(default, bool) else str(default)
    bounds = setting.bounds or ", ".join(f"`{choice}`" for choice in setting.choices)
    return f"| `{setting.key}` | `{shown}` | {bounds} | {setting.about} |"


@pytest.mark.parametrize("setting", settings_table(), ids=lambda setting: setting.key)
def test_every_setting_is_in_the_page_as_it_is(setting):
    assert row(setting) in (DOCS / "configuration.md").read_text().splitlines()


def test_every_room_is_explained():
    text = (DOCS / "configuration.md").read_text()
    assert all(room_about(room) in text for room in Settings.__struct_fields__)


@pytest.mark.parametrize("name", [row.name for row in TABLE if row.name != "up"])
def test_every_command_is_in_the_page(name):
    assert f"| `{name}" in (DOCS / "cli.md").read_text()
