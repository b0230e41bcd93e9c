"""``docs/failures.md`` and these tests say the same: each row has its test, each test its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "failures.md"


def test_each_row_has_its_test_and_each_test_its_row() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Beyond these")[0]
    rows = re.findall(r"^\|.*\| `(\w+)` \|$", table, re.MULTILINE)
    tests = [
        node.name.removeprefix("test_")
        for path in sorted(HERE.glob("test_*.py"))
        if path != Path(__file__)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(rows) == len(set(rows))
    assert sorted(rows) == sorted(tests)
