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
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ANCHOR = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)\)")
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


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links to them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=rules.where)
def test_anchors_are_headings(page: Path) -> None:
    for target, anchor in ANCHOR.findall(page.read_text(encoding="utf-8")):
        other = page.parent / target if target else page
        assert anchor in anchors(other), f"{rules.where(page)}: {target}#{anchor}"


def test_every_document_is_found_from_the_list_of_documents() -> None:
    first = rules.ROOT / "docs" / "README.md"
    found, waiting = {first}, [first]
    while waiting:
        page = waiting.pop()
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            other = (page.parent / target).resolve()
            if other.suffix == ".md" and other not in found:
                found.add(other)
                waiting.append(other)
    assert not {rules.where(page) for page in (rules.ROOT / "docs").rglob("*.md") if page not in found}


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
