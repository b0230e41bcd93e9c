"""The stage of each test, and the table of figures at the end of ``make chaos``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.stage import LONG, SHORT, Chaos

CALLS = ("calls", "lost", "slow", "slowest")
COLUMNS = ("detected", "recovered", *CALLS, *(f"gateway {name}" for name in CALLS))


@pytest.fixture
def chaos(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chaos]:
    stage = Chaos(LONG if request.config.getoption("--figures") else SHORT, tmp_path)
    try:
        yield stage
    finally:
        stage.close()
        # They travel with the report, so that they arrive from the workers of xdist as well.
        request.node.user_properties.append(("figures", stage.figures))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--figures"):
        return
    rows = []
    # The stage adds them when it is taken down; the report of that is in no category with a name.
    for report in terminalreporter.stats.get("", []):
        figures = dict(report.user_properties).get("figures") if report.when == "teardown" else None
        if figures is None:
            continue
        name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        rows.append([name, *(_shown(figures.get(column)) for column in COLUMNS)])
    if rows:
        widths = [max(len(row[i]) for row in [["what fails", *COLUMNS], *rows]) for i in range(len(COLUMNS) + 1)]
        for row in [["what fails", *COLUMNS], *rows]:
            first, *rest = (
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            )
            terminalreporter.write_line("  ".join([first, *rest]))


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
