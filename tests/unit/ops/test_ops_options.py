from __future__ import annotations

import argparse

from townhall.ops.options import add_options, room_about, setting_of, settings_table
from townhall.ops.settings import Settings


def test_every_setting_has_a_description_a_unit_where_it_is_a_number_and_unique_names():
    table = settings_table()
    assert len({setting.key for setting in table}) == len(table)
    assert len({setting.option for setting in table}) == len(table)
    assert len({setting.variable for setting in table}) == len(table)
    for setting in table:
        assert setting.about.endswith("."), setting.key
        if setting.kind in (int, float):
            assert setting.bounds, setting.key
            assert any(unit in setting.about for unit in ("seconds", "count", "bytes", "Share", "TTLs")), setting.key


def test_names_follow_from_the_key():
    setting = setting_of("log.level")
    assert setting is not None
    assert (setting.option, setting.variable, setting.room) == ("--log-level", "TOWNHALL_LOG_LEVEL", "log")
    native = setting_of("native")
    assert native is not None
    assert native.listener
    assert (native.option, native.variable) == ("--native", "TOWNHALL_NATIVE")
    assert setting_of("nothing") is None


def test_options_leave_no_trace_unless_given():
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert vars(parser.parse_args([])) == {}
    given = vars(parser.parse_args(["--consul", "--native", "0", "--dev", "--no-all", "--log-level", "debug"]))
    assert given == {"consul": "on", "native": "0", "dev": True, "all": False, "log.level": "debug"}


def test_help_can_be_formatted():
    parser = argparse.ArgumentParser()
    add_options(parser)
    text = parser.format_help()
    assert "--http-idle-timeout-ms" in text
    assert all(room_about(room) for room in Settings.__struct_fields__)
