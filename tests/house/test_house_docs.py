"""Every fenced example in README and docs runs, every relative link leads somewhere, every limit is in the docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from house import rules

PAGES = sorted([*rules.ROOT.glob("*.md"), *(rules.ROOT / "docs").rglob("*.md"), *rules.SOURCE.rglob("*.md")])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def examples(language: str) -> list[tuple[Path, int, str]]:
    return [
        (page, text.count("\n", 0, match.start()) + 1, match.group(2))
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for match in FENCE.finditer(text)
        if match.group(1) == language
    ]


@pytest.mark.parametrize("page", PAGES, ids=rules.where)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{rules.where(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=rules.where)
def test_fences_name_a_language_that_is_checked(page: Path) -> None:
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        assert match.group(1) in {"python", "sh", "console", "json", "toml", "text", "ini"}, match.group(0)[:60]


@pytest.mark.parametrize(("page", "line", "code"), examples("python"))
def test_python_examples_compile(page: Path, line: int, code: str) -> None:
    # Those that run against a registry are run by tests/integration/test_documentation.py.
    flags = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT: examples show coroutines without ceremony
    compile(code, f"{rules.where(page)}:{line}", "exec", flags=flags)


@pytest.mark.parametrize(("page", "line", "code"), examples("json"))
def test_json_examples_parse(page: Path, line: int, code: str) -> None:
    json.loads(code)


@pytest.mark.parametrize(("page", "line", "code"), examples("toml"))
def test_toml_examples_parse(page: Path, line: int, code: str) -> None:
    tomllib.loads(code)


def test_the_page_of_limits_is_the_code() -> None:
    script = rules.ROOT / "scripts" / "limits-page"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False, timeout=60)
    assert done.returncode == 0, "run scripts/limits-page"
