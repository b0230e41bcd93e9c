from __future__ import annotations

import pytest

from townhall.ops.table import ago, table, width


def test_columns_are_as_wide_as_their_widest_cell():
    text = table(("name", "count"), [("a", 1), ("long name", 20)])
    assert text.splitlines() == ["NAME       COUNT", "a              1", "long name     20"]


def test_cells():
    text = table(
        ("value", ""),
        [
            (None, "x"),
            ("", "x"),
            (True, "x"),
            (1.0, "x"),
            (["a", "b"], "x"),
            ({"k": "v"}, "x"),
            ([], "x"),
            ("a\x1b[0m\n", "x"),
        ],
    )
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["-", "-", "yes", "1", "a,b", "k=v", "-", "a?[0m?"]


def test_no_rows():
    assert table(("a", "b"), []) == "A  B"


def test_wide_and_combining_characters_keep_columns_in_line():
    assert width("日本") == 4
    assert width("e\u0301") == 1
    lines = table(("name", "next"), [("日本", "x"), ("abcd", "x")]).splitlines()
    assert lines[1] == "日本  x"
    assert lines[2] == "abcd  x"


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (0, "-"),
        (1_000_000_000, "0s"),
        (999_941_000, "59s"),
        (999_820_000, "3m"),
        (992_800_000, "2h"),
        (568_000_000, "5d"),
        (2_000_000_000, "0s"),
    ],
)
def test_ago(then, expected):
    assert ago(then, now_ms=1_000_000_000) == expected
